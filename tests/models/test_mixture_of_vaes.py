"""The mixture of VAEs against the k-DVAE paper's equations, and against K separate VAEs."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal
from torch.nn.functional import softplus

import probclust as pc
from probclust.likelihoods import Gaussian
from probclust.models import MixtureOfVAEs
from probclust.objectives.bounds import Exact, Hard
from probclust.story.joint import Joint, trace_joint

pytestmark = pytest.mark.usefixtures("float64")


def perceptron(stacked, k, x):
    """The k-th of the stacked perceptrons, layer by layer."""
    for number, layer in enumerate(stacked.layers):
        x = (x.relu() if number else x) @ layer.weight[k] + layer.bias[k]
    return x


def encode(story, k, x):
    """Mean and standard deviation of q(z | x, cluster = k)."""
    loc, log_variance = perceptron(story.experts.encoders.network, k, x).chunk(2, -1)
    return loc, (log_variance / 2).exp()


def log_p_x(story, k, x, z):
    outputs = perceptron(story.experts.decoders, k, z)
    if story.experts.likelihood.n_heads == 2:
        loc, raw = outputs.chunk(2, -1)
        floor, offset = (
            story.experts.likelihood.floor,
            (story.experts.likelihood.scale - story.experts.likelihood.floor).expm1().log(),
        )
        return Normal(loc, floor + softplus(raw + offset)).log_prob(x).sum(1)
    if isinstance(story.experts.likelihood, Gaussian):
        return Normal(outputs, story.experts.likelihood.scale).log_prob(x).sum(1)
    return TorchBernoulli(logits=outputs, validate_args=False).log_prob(x).sum(1)


def equation_8(story, x):
    """(rows, K) score of the paper: log N(x; mu(z), Sigma(z)) - |z|^2 / 2 + sum_s log sigma_s, z the mean of q."""
    columns = []
    for k in range(story.n_clusters):
        z, sigma = encode(story, k, x)
        columns.append(log_p_x(story, k, x, z) - z.square().sum(1) / 2 + sigma.log().sum(1))
    return torch.stack(columns, 1).detach()


@pytest.fixture(params=["row", "shared", "bernoulli"])
def story(request):
    """A mixture of VAEs with unequal weights; "row" has the paper's Sigma(z)."""
    likelihood = request.param if request.param == "bernoulli" else Gaussian(6, scale=request.param)
    story = MixtureOfVAEs(6, 3, latent_dim=2, hidden=(8, 7), likelihood=likelihood)
    story.weights.logits.data = torch.tensor([0.0, 1.0, -1.0])
    with torch.no_grad():  # experts that differ from each other
        for layer in (*story.experts.encoders.network.layers, *story.experts.decoders.layers):
            layer.weight.mul_(2)
    return story


def test_log_joint_at_the_mean_is_equation_8(story):
    x = torch.rand(9, 6)
    weights = story.weights.logits.log_softmax(0).detach()
    torch.testing.assert_close(pc.log_joint(story, x), weights + equation_8(story, x))
    story.weights.logits.data.zero_()
    assert torch.equal(pc.predict(story, x), equation_8(story, x).argmax(1))


PLANTED = {
    "factor half lost": lambda name, term: 2 * term if name == "log p(z)" else term,
    "log scale lost": lambda name, term: 0 * term if name == "-log q(z)" else term,
    "KL sign": lambda name, term: -term if name in ("log p(z)", "-log q(z)") else term,
    "log weight missing": lambda name, term: 0 * term if name == "log p(cluster)" else term,
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_equation_8_finds_planted_errors(planted, story, monkeypatch):
    x, honest = torch.rand(9, 6), Joint.terms
    monkeypatch.setattr(Joint, "terms", lambda self: ((name, planted(name, term)) for name, term in honest(self)))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(pc.log_joint(story, x), story.weights.logits.log_softmax(0) + equation_8(story, x))


def test_the_hard_objective_is_equation_6(story):
    """max_k log p(x | z_k, k) + log p(z_k) - log q(z_k | x, k), given the draws of a pass, with uniform weights."""
    story.weights.logits.data.zero_()
    x = torch.rand(9, 6)
    joint = trace_joint(story.model, story.guide, x)
    scores = []
    for k in range(3):
        z, q = joint.guide["z"].value[k], Normal(*encode(story, k, x))
        log_ratio = (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(1)
        scores.append(log_p_x(story, k, x, z) + log_ratio - torch.log(torch.tensor(3.0)))
    torch.testing.assert_close(Hard().bound(joint), torch.stack(scores).max(0).values)


def test_only_the_best_expert_of_each_row_learns_from_the_hard_objective():
    story, x = MixtureOfVAEs(4, 3, latent_dim=2, hidden=(5,)), torch.rand(1, 4)
    torch.manual_seed(0)
    best = trace_joint(story.model, story.guide, x).table.argmax().item()
    torch.manual_seed(0)
    Hard().differentiable_loss(story.model, story.guide, x).backward()
    gradient = story.experts.decoders.layers[0].weight.grad
    assert [bool(gradient[k].any()) for k in range(3)] == [k == best for k in range(3)]


def test_known_clusters_train_their_expert_only():
    """A gradient reaches only the experts whose cluster is known for some row."""
    story, x = MixtureOfVAEs(4, 3, latent_dim=2, hidden=(5,)), torch.rand(6, 4)
    loss = Exact().differentiable_loss(story.model, story.guide, x, y=torch.tensor([1] * 6))
    loss.backward()
    gradient = story.experts.decoders.layers[0].weight.grad
    assert [bool(gradient[k].any()) for k in range(3)] == [False, True, False]


def test_uniform_weights_are_not_learned():
    story = MixtureOfVAEs(4, 3, latent_dim=2, hidden=(5,), weights="uniform")
    pc.fit(story, torch.rand(30, 4), recipe=[pc.SVI(epochs=2)])
    assert story.weights.logits.tolist() == [0, 0, 0]


def test_draws_come_from_their_own_decoder():
    story = MixtureOfVAEs(4, 3, latent_dim=2, hidden=(5,), likelihood=Gaussian(4, scale=1e-4))
    labels = torch.tensor([2, 0, 1, 1, 2])
    draws = pc.sample(story, 5, cluster=labels, seed=0)
    for row, k in enumerate(labels):
        mean = perceptron(story.experts.decoders, k, draws["z"][row]).squeeze(0).detach()
        torch.testing.assert_close(draws["x"][row], mean, atol=1e-3, rtol=0)


def test_the_architecture_is_the_papers():
    sizes = [tuple(p.shape) for p in MixtureOfVAEs(784, 10).parameters() if p.dim() == 3 and p.shape[1] > 1]
    assert sizes == [(10, 784, 500), (10, 500, 100), (10, 100, 20), (10, 10, 100), (10, 100, 500), (10, 500, 784)]


@pytest.mark.parametrize("prior", ["gaussian", "low_rank", "student_t", "flow", "manhattan"])
def test_log_joint_by_hand_under_any_prior(prior):
    story, x = MixtureOfVAEs(6, 3, latent_dim=2, hidden=(5,), prior=prior), torch.rand(9, 6)
    joint = trace_joint(story.model, story.guide, x)
    columns = []
    for k in range(3):
        z, q = joint.guide["z"].value[k], Normal(*encode(story, k, x))
        log_p_z = story.prior.density(torch.tensor(k)).log_prob(z)
        columns.append(log_p_x(story, k, x, z) + log_p_z - q.log_prob(z).sum(1) - torch.log(torch.tensor(3.0)))
    torch.testing.assert_close(joint.table, torch.stack(columns, 1))


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")  # noise has no clusters to keep
def test_priors_of_the_experts_learn_and_are_saved(tmp_path):
    torch.set_default_dtype(torch.float32)
    story, x = MixtureOfVAEs(6, 3, latent_dim=2, hidden=(5,), prior="student_t"), torch.rand(60, 6)
    before = story.prior.loc.detach().clone()
    pc.fit(story, x, recipe={"pretrain_epochs": 1, "fit_epochs": 2, "epochs": 1})
    assert (story.prior.loc != before).all()
    pc.save(story, tmp_path / "story")
    assert torch.equal(pc.log_joint(pc.load(tmp_path / "story"), x), pc.log_joint(story, x))
    with pytest.raises(ValueError, match="codes of Cosine must have length 1"):
        MixtureOfVAEs(6, 3, prior="cosine")
