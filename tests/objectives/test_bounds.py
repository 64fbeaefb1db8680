"""Statistical truths of the objectives: equal to Pyro's, in order, below the truth, and differentiable.

The mixture of linear-Gaussian VAEs is the test with a known answer: it is a mixture of probabilistic PCA, whose
likelihood has a closed form. Where an order holds only in expectation, the mean of N paired differences must lie
above zero by 4 standard errors; the true means lie above 10, so that a right objective fails with a probability
below 1e-8, and one with a mean of zero passes with a probability of 3e-5.
"""

from __future__ import annotations

import gc
import math

import pyro
import pyro.infer
import pyro.optim
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import nn
from torch.autograd.gradcheck import GradcheckError

import probclust as pc
from probclust.models import GaussianMixture, MixtureOfVAEs, VaDE
from probclust.objectives.bounds import Amortised as AmortisedBound
from probclust.objectives.bounds import Exact, Hard, ImportanceWeighted, Objective
from probclust.objectives.named import objective_named
from probclust.objectives.truncated import Truncated
from probclust.story.joint import Joint, programs, trace_joint
from tests.support.stories import CASE_NAMES, CASES, GUIDED, LATENT, Amortised, FactorAnalysers, Poissons

pytestmark = pytest.mark.usefixtures("float64")
MODEL_ENUMERATED = [case for case in CASES if case.name not in GUIDED]
OBJECTIVES = [Exact, Hard, AmortisedBound, lambda: ImportanceWeighted(3), lambda: Truncated(2)]
OBJECTIVE_NAMES = ["exact", "hard", "amortised", "importance", "truncated"]


def pyros_own(story, x):
    """TraceEnum_ELBO with the cluster enumerated in parallel: (value in nats for all rows, with a gradient)."""
    model, guide = (config_enumerate(f, "parallel") for f in (story.model, story.complete_guide))
    pyro.set_rng_seed(7)
    return -TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide, x)


def ours(objective, story, x):
    pyro.set_rng_seed(7)
    return -objective.differentiable_loss(story.model, story.guide, x)


def gradients(value, story):
    found = torch.autograd.grad(value, [p for p in story.parameters() if p.requires_grad], allow_unused=True)
    return [torch.zeros(()) if g is None else g for g in found]


# Equal to Pyro's own


@pytest.mark.parametrize("objective", [Exact, AmortisedBound])
@pytest.mark.parametrize("case", MODEL_ENUMERATED, ids=lambda case: case.name)
def test_exact_is_trace_enum_where_the_model_enumerates(case, objective):
    story, x = case.build(), case.rows()
    expected, value = pyros_own(story, x), ours(objective(), story, x)
    torch.testing.assert_close(value, expected)
    for one, other in zip(gradients(value, story), gradients(expected, story), strict=True):
        torch.testing.assert_close(one, other)


def test_exact_is_trace_enum_on_vade():
    story, x = VaDE(4, 3, latent_dim=2, hidden=(6,)), torch.randn(7, 4)
    torch.testing.assert_close(ours(Exact(), story, x), pyros_own(story, x))


@pytest.mark.parametrize("build", [lambda: Amortised(4, 3), lambda: FactorAnalysers(4, 3)])
def test_amortised_is_trace_enum_where_the_guide_enumerates(build):
    story, x = build(), torch.randn(7, 4)
    expected, value = pyros_own(story, x), ours(AmortisedBound(), story, x)
    torch.testing.assert_close(value, expected)
    for one, other in zip(gradients(value, story), gradients(expected, story), strict=True):
        torch.testing.assert_close(one, other)
    assert ours(Exact(), story, x) > value + 1e-3, "the optimal q(cluster|x) must beat the guide's"


PLANTED_BOUNDS = {
    "max instead of logsumexp": lambda joint: joint.table.max(1).values,
    "mean instead of logsumexp": lambda joint: joint.table.mean(1),
    "weights without their logarithm": lambda joint: (
        joint.table - joint.model["cluster"].log_prob.T + joint.model["cluster"].log_prob.T.exp()
    ).logsumexp(1),
    "log weight missing": lambda joint: (joint.table - joint.model["cluster"].log_prob.T).logsumexp(1),
}


class Planted(Objective):
    def __init__(self, bound, **arguments):
        super().__init__(**arguments)
        self.bound = bound


@pytest.mark.parametrize("planted", PLANTED_BOUNDS.values(), ids=PLANTED_BOUNDS)
@pytest.mark.parametrize("case", MODEL_ENUMERATED, ids=lambda case: case.name)
def test_pyro_finds_planted_errors(case, planted):
    story, x = case.build(), case.rows()
    part = getattr(story, "weights", story)
    if hasattr(part, "logits"):  # unequal weights, so that losing them shows
        part.logits.data = torch.tensor([0.0, 1.0, 2.0])
    torch.testing.assert_close(ours(Exact(), story, x), pyros_own(story, x))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(ours(Planted(planted), story, x), pyros_own(story, x))


@pytest.mark.parametrize("planted", ["entropy lost", "entropy doubled"])
def test_pyro_finds_planted_errors_in_the_amortised_bound(planted):
    factor = {"entropy lost": 0.0, "entropy doubled": 2.0}[planted]

    def bound(joint):
        return (joint.log_q.exp() * (joint.table - factor * joint.log_q)).sum(1)

    story, x = Amortised(4, 3), torch.randn(7, 4)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(ours(Planted(bound), story, x), pyros_own(story, x))


# The mixture of linear-Gaussian VAEs


def linear_vaes(suboptimal, n_features=4, n_clusters=3, latent_dim=2):
    """A mixture of linear VAEs; its encoders are the exact posteriors, or off them."""
    story = MixtureOfVAEs(n_features, n_clusters, latent_dim, hidden=(), weights="learned")
    decoder, encoder = story.experts.decoders.layers[0], story.experts.encoders.network.layers[0]
    with torch.no_grad():
        story.weights.logits.copy_(torch.tensor([0.0, 1.0, -1.0]))
        decoder.weight.normal_()  # (K, L, D)
        decoder.bias.normal_(0, 2)
        noise = float(story.experts.likelihood.scale.mean()) ** 2
        # A Gaussian with diagonal covariance is the exact posterior where the loadings are orthogonal.
        directions, sizes, _ = torch.linalg.svd(decoder.weight, full_matrices=False)
        decoder.weight.copy_(directions.mT @ decoder.weight)
        precision = torch.eye(latent_dim) + torch.diag_embed(sizes**2) / noise
        gain = torch.linalg.solve(precision, decoder.weight / noise)  # (K, L, D)
        encoder.weight.zero_()
        encoder.weight[..., :latent_dim] = gain.mT
        encoder.bias[..., :latent_dim] = -decoder.bias @ gain.mT
        encoder.bias[..., latent_dim:] = -precision.diagonal(dim1=-2, dim2=-1).log()[:, None]
        if suboptimal:
            encoder.bias[..., :latent_dim] += 0.2
            encoder.bias[..., latent_dim:] += 0.5
    return story


def exact_log_likelihood(story, x):
    """log p(x) of a mixture of probabilistic PCA: Normal(x; b_k, W_k W_k' + s^2 I)."""
    decoder = story.experts.decoders.layers[0]
    noise = torch.diag(story.experts.likelihood.scale.expand(story.n_features) ** 2)
    covariance = decoder.weight.mT @ decoder.weight + noise
    component = torch.distributions.MultivariateNormal(decoder.bias.squeeze(1), covariance)
    return (story.weights.logits.log_softmax(0) + component.log_prob(x[:, None])).logsumexp(1).detach()


def per_row(objective, story, x, seed):
    pyro.set_rng_seed(seed)
    with torch.no_grad():
        return objective.bound(trace_joint(*programs(story.model, story.guide), objective.repeat(x)))


def surely_positive(differences):
    """Whether the mean of independent differences lies above zero by 4 standard errors."""
    mean, error = differences.mean(), differences.std() / math.sqrt(len(differences))
    return bool(mean > 4 * error) and bool(mean > 0)


def test_the_exact_objective_reaches_the_truth_with_the_exact_posterior():
    """Then p(x, z | k) / q(z | x, k) = p(x | k) whatever z: equality to rounding, not in expectation."""
    story = linear_vaes(suboptimal=False)
    x = pc.sample(story, 50, seed=0)["x"]
    truth = exact_log_likelihood(story, x)
    torch.testing.assert_close(per_row(Exact(), story, x, 0), truth)
    torch.testing.assert_close(per_row(ImportanceWeighted(5), story, x, 1), truth)
    torch.testing.assert_close(pc.elbo(story, x), truth)
    torch.testing.assert_close(pc.log_likelihood(story, x, particles=3), truth)


PLANTED_TERMS = {
    "KL with the wrong sign": lambda name, term: -term if name in ("log p(z)", "-log q(z)") else term,
    "factor half lost": lambda name, term: 2 * term if name == "log p(z)" else term,
    "guide's entropy lost": lambda name, term: 0 * term if name == "-log q(z)" else term,
    "log weight missing": lambda name, term: 0 * term if name == "log p(cluster)" else term,
    "reconstruction averaged over features": lambda name, term: term / 4 if name == "log p(x)" else term,
}


@pytest.mark.parametrize("planted", PLANTED_TERMS.values(), ids=PLANTED_TERMS)
def test_the_truth_finds_planted_errors(planted, monkeypatch):
    story = linear_vaes(suboptimal=False)
    x = pc.sample(story, 50, seed=0)["x"]
    honest = Joint.terms
    monkeypatch.setattr(Joint, "terms", lambda self: ((name, planted(name, term)) for name, term in honest(self)))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(per_row(Exact(), story, x, 0), exact_log_likelihood(story, x))


@pytest.fixture
def suboptimal():
    """A mixture with encoders off the posterior, 2,000 of its rows, and their exact log-likelihood."""
    story = linear_vaes(suboptimal=True)
    x = pc.sample(story, 2000, seed=0)["x"]
    return story, x, exact_log_likelihood(story, x)


class OfOneMind(MixtureOfVAEs):
    """Its guide has a q(cluster | x) of its own, the same for all rows."""

    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", pyro.distributions.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("z", self.experts.encode(x, cluster))


def test_bounds_stand_in_order_below_the_truth(suboptimal):
    story, x, truth = suboptimal
    hard, exact = per_row(Hard(), story, x, 1), per_row(Exact(), story, x, 1)
    assert (hard <= exact).all()
    assert (exact - hard).max() > 0.1
    story.__class__ = OfOneMind
    amortised = per_row(AmortisedBound(), story, x, 1)
    assert (amortised <= exact).all()
    assert (exact - amortised).mean() > 0.1
    one, eight, many = (per_row(ImportanceWeighted(s), story, x, 2) for s in (1, 8, 64))
    for lower, higher in ((exact, eight), (one, eight), (eight, many), (many, truth)):
        assert surely_positive(higher - lower)
    gaps = [float((truth - bound).mean()) for bound in (exact, eight, many)]
    assert gaps[1] < gaps[0] / 2, gaps
    assert gaps[2] < gaps[1] / 2, gaps
    torch.testing.assert_close(per_row(ImportanceWeighted(1), story, x, 1), exact)


def test_public_bounds_stand_in_order_below_the_truth(suboptimal):
    story, x, truth = suboptimal
    elbo, weighted = pc.elbo(story, x, particles=4, seed=1), pc.log_likelihood(story, x, particles=50, seed=2)
    assert surely_positive(weighted - elbo)
    assert surely_positive(truth - weighted)
    torch.testing.assert_close(pc.log_likelihood(story, x, 1, seed=3), pc.elbo(story, x, 1, seed=3))


def test_the_guides_mean_gives_no_bound():
    """Why `elbo` takes draws: at the mean of a guide that is too wide, the score exceeds the log-likelihood."""
    story = linear_vaes(suboptimal=False)
    x = pc.sample(story, 50, seed=0)["x"]
    with torch.no_grad():
        story.experts.encoders.network.layers[0].bias[..., story.experts.latent_dim :] += 0.5  # log variances
    excess = pc.log_joint(story, x).logsumexp(1) - exact_log_likelihood(story, x)
    torch.testing.assert_close(excess, torch.full_like(excess, story.experts.latent_dim * 0.5 / 2))


@pytest.mark.parametrize("planted", ["log of the particles not taken off", "max over the particles", "KL sign"])
def test_the_order_finds_planted_errors(planted, suboptimal, monkeypatch):
    story, x, truth = suboptimal
    if planted == "KL sign":
        honest, wrong = Joint.terms, PLANTED_TERMS["KL with the wrong sign"]
        monkeypatch.setattr(Joint, "terms", lambda self: ((n, wrong(n, t)) for n, t in honest(self)))
    else:
        reduce = torch.logsumexp if planted.startswith("log") else torch.amax
        monkeypatch.setattr(ImportanceWeighted, "reduce", lambda self, w: reduce(w.view(self.particles, -1), 0))
    assert not surely_positive(truth - per_row(ImportanceWeighted(64), story, x, 2))


def test_a_bound_that_does_not_tighten_is_found(suboptimal, monkeypatch):
    """Planted: the mean of the log weights, not the log of their mean."""
    story, x, _ = suboptimal
    monkeypatch.setattr(ImportanceWeighted, "reduce", lambda self, w: w.view(self.particles, -1).mean(0))
    eight, exact = per_row(ImportanceWeighted(8), story, x, 2), per_row(Exact(), story, x, 1)
    assert not surely_positive(eight - exact)


# Gradients


class Loss(nn.Module):
    """The objective as a function of the parameters, under the same draws at every call."""

    def __init__(self, story, objective, y=None):
        super().__init__()
        self.story, self.objective, self.y = story, objective, y

    def forward(self, x):
        pyro.set_rng_seed(3)
        return self.objective.differentiable_loss(self.story.model, self.story.guide, x, y=self.y)


def check_gradient(loss, x):
    names, values = zip(*((n, p) for n, p in loss.named_parameters() if p.requires_grad), strict=True)
    inputs = [value.detach().clone().requires_grad_() for value in values]

    def evaluate(*parameters):
        return torch.func.functional_call(loss, dict(zip(names, parameters, strict=True)), (x,))

    return torch.autograd.gradcheck(evaluate, inputs, eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=OBJECTIVE_NAMES)
@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_gradients_are_those_of_finite_differences(case, objective):
    assert check_gradient(Loss(case.build(), objective()), case.rows(3))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=OBJECTIVE_NAMES)
@pytest.mark.parametrize(
    "build",
    [
        lambda: GaussianMixture(2, 2),
        lambda: VaDE(2, 2, latent_dim=1, hidden=(3,)),
        lambda: MixtureOfVAEs(2, 2, latent_dim=1, hidden=(3,)),
        lambda: MixtureOfVAEs(2, 2, latent_dim=1, hidden=(3,), likelihood="bernoulli"),
    ],
)
def test_gradients_of_our_stories_are_those_of_finite_differences(build, objective):
    assert check_gradient(Loss(build(), objective()), torch.rand(3, 2))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=OBJECTIVE_NAMES)
def test_gradients_with_known_clusters(objective):
    assert check_gradient(Loss(FactorAnalysers(2, 2, 1), objective(), torch.tensor([0, -1, 1])), torch.randn(3, 2))


def test_finite_differences_find_a_planted_error():
    """Planted: a score through which no gradient flows to the weights of the clusters."""

    def bound(joint):
        weights = joint.model["cluster"].log_prob.T
        return (joint.table - weights + weights.detach()).logsumexp(1)

    with pytest.raises(GradcheckError):
        check_gradient(Loss(Poissons(2, 2), Planted(bound)), torch.ones(3, 2))


# In pyro.infer.SVI


@pytest.mark.parametrize("objective", OBJECTIVES, ids=OBJECTIVE_NAMES)
@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_objectives_work_in_pyros_svi(case, objective):
    story, x = case.build(), case.rows()
    before = {name: value.clone() for name, value in story.named_parameters()}
    svi = pyro.infer.SVI(story.model, story.guide, pyro.optim.Adam({"lr": 0.01}), loss=objective())
    losses = [svi.step(x) for _ in range(3)]
    assert all(math.isfinite(loss) for loss in losses)
    untouched = {"gate.weight", "gate.bias"} if case.name == "amortised" and objective is not AmortisedBound else set()
    moved = {name for name, value in story.named_parameters() if not torch.equal(value, before[name])}
    assert moved == set(before) - untouched
    assert not list(pyro.get_param_store().keys())
    assert math.isfinite(svi.evaluate_loss(x))


def test_svi_takes_the_step_that_torch_takes():
    story, other = Poissons(4, 3), Poissons(4, 3)
    other.load_state_dict(story.state_dict())
    x = torch.poisson(torch.full((9, 4), 2.0))
    pyro.infer.SVI(story.model, story.guide, pyro.optim.Adam({"lr": 0.05}), loss=Exact()).step(x)
    optimizer = torch.optim.Adam(other.parameters(), lr=0.05)
    Exact().differentiable_loss(other.model, other.guide, x).backward()
    optimizer.step()
    torch.testing.assert_close(story.log_rate, other.log_rate)


def test_two_stories_train_independently():
    x = torch.poisson(torch.full((9, 4), 2.0))
    story, other = Poissons(4, 3), Poissons(4, 3)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    pyro.infer.SVI(story.model, story.guide, pyro.optim.Adam({"lr": 0.05}), loss=Exact()).step(x)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


# Conventions


@pytest.mark.parametrize("objective", OBJECTIVES, ids=OBJECTIVE_NAMES)
@pytest.mark.parametrize("name", sorted(set(CASE_NAMES) - LATENT - {"bayesian-normal"}))
def test_the_batches_of_an_epoch_add_up_to_all_rows(name, objective):
    """Globals count once for the data set: no result depends on the batch size."""
    case = next(c for c in CASES if c.name == name)
    story, x, loss = case.build(), case.rows(12), objective()
    whole = loss.loss(story.model, story.guide, x)
    loss.n_rows = 12
    parts = sum(loss.loss(story.model, story.guide, part) for part in x.split([5, 4, 3]))
    assert parts == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("particles", [1, 4])
def test_known_rows_count_their_own_column(particles):
    story, x = Poissons(4, 3), torch.poisson(torch.full((5, 4), 2.0))
    y = torch.tensor([2, -1, 0, -1, 1])
    table = pc.log_joint(story, x)
    expected = torch.stack([table[0, 2], table[1].logsumexp(0), table[2, 0], table[3].logsumexp(0), table[4, 1]])
    value, _ = ImportanceWeighted(particles).per_row(story.model, story.guide, x, y)
    torch.testing.assert_close(value, expected.mean())


def test_objectives_by_name():
    for name, kind in zip(OBJECTIVE_NAMES, (Exact, Hard, AmortisedBound, ImportanceWeighted, Truncated), strict=True):
        assert type(objective_named(name)) is kind
    assert type(objective_named(None)) is Exact
    own = TraceEnum_ELBO()
    assert objective_named(own) is own
    with pytest.raises(ValueError, match=r"objective must be one of .*'exact'.*got 'elbow'"):
        objective_named("elbow")


@pytest.mark.parametrize("particles", [0, -1, 1.5, True, "8"])
def test_particles_must_count(particles):
    with pytest.raises(ValueError, match="particles must be an integer of at least 1"):
        ImportanceWeighted(particles)


def test_memory_does_not_grow_over_steps():
    story, x = FactorAnalysers(4, 3), torch.randn(20, 4)
    svi = pyro.infer.SVI(story.model, story.guide, pyro.optim.Adam({"lr": 0.01}), loss=Exact())

    def objects_after(steps):
        for _ in range(steps):
            svi.step(x)
        gc.collect()
        return len(gc.get_objects())

    objects_after(5)
    assert objects_after(40) - objects_after(5) in range(-50, 50)
