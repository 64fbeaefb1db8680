"""VaDE against its paper's equations, written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch.nn.functional import softplus

import probclust as pc
from probclust.dissimilarities import Custom, Manhattan
from probclust.likelihoods import Gaussian
from probclust.models import VaDE
from probclust.story.joint import Joint, trace_joint

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def story():
    """A VaDE with unequal weights and scales."""
    story = VaDE(6, 3, latent_dim=2, hidden=(8, 7))
    with torch.no_grad():
        story.weights.logits.copy_(torch.tensor([0.0, 1.0, -1.0]))
        story.prior.raw_scale.normal_()
        story.prior.loc.mul_(0.5)
    return story


def prior_scale(story):
    return story.prior.floor + softplus(story.prior.raw_scale).detach()


def gaussian_mixture_posterior(story, z):
    """p(cluster | z) of the latent mixture, by scikit-learn."""
    mixture = SklearnMixture(story.n_clusters, covariance_type="diag")
    mixture.weights_ = story.weights.logits.softmax(0).detach().numpy()
    mixture.means_ = story.prior.loc.detach().numpy()
    mixture.covariances_ = (prior_scale(story) ** 2).numpy()
    mixture.precisions_cholesky_ = 1 / prior_scale(story).numpy()
    return mixture.predict_proba(z.detach().numpy())


def test_responsibilities_are_the_latent_mixtures_posterior(story):
    """Equation 16: q(c | x) = p(c | z), with the factor one half in the exponent."""
    x = torch.rand(20, 6)
    posterior = gaussian_mixture_posterior(story, story.codec.encoder(x).mean)
    assert posterior.max(1).min() < 0.9
    np.testing.assert_allclose(pc.responsibilities(story, x), posterior, atol=1e-10)
    assert (pc.predict(story, x).numpy() == posterior.argmax(1)).all()


PLANTED = {
    "factor half lost": lambda name, term: 2 * term if name == "log p(z)" else term,
    "weights without their logarithm": lambda name, term: term.exp() if name == "log p(cluster)" else term,
    "weights lost": lambda name, term: 0 * term if name == "log p(cluster)" else term,
    "one scale for all clusters": lambda name, term: term - term.mean(0) if name == "log p(z)" else term,
}


@pytest.mark.parametrize("planted", list(PLANTED)[:3])
def test_the_posterior_finds_planted_errors(planted, story, monkeypatch):
    x, wrong, honest = torch.rand(20, 6), PLANTED[planted], Joint.terms
    monkeypatch.setattr(Joint, "terms", lambda self: ((name, wrong(name, term)) for name, term in honest(self)))
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(
            pc.responsibilities(story, x), gaussian_mixture_posterior(story, story.codec.encoder(x).mean), atol=1e-10
        )


def test_the_posterior_finds_draws_in_place_of_the_mean(story):
    """Planted: predictions from one random draw of z."""
    x = torch.rand(20, 6)
    with torch.no_grad():
        draw = trace_joint(story.model, story.guide, x).table.softmax(1)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(draw, gaussian_mixture_posterior(story, story.codec.encoder(x).mean), atol=1e-10)


def log_normal(value, loc, scale):
    return (-((value - loc) / scale).square() / 2 - scale.log() - math.log(2 * math.pi) / 2).sum(-1)


@pytest.mark.parametrize("latents", ["mean", "draw"])
def test_log_joint_by_hand(story, latents):
    x = torch.rand(5, 6)
    joint = trace_joint(story.model, story.guide, x, latents=latents)
    z, q = joint.guide["z"].value, story.codec.encoder(x)
    shared = log_normal(x, story.codec.decoder(z), story.codec.likelihood.scale.expand(6)) - log_normal(
        z, q.mean, q.stddev
    )
    for k in range(3):
        expected = (
            shared + log_normal(z, story.prior.loc[k], prior_scale(story)[k]) + story.weights.logits.log_softmax(0)[k]
        )
        torch.testing.assert_close(joint.table[:, k], expected)


def test_the_bound_is_the_papers_with_its_closed_kl(story):
    """Equation 9 (its terms in closed form, q(c|x) at equation 16) against the mean of many draws.

    Both are bounds with one z; the paper's takes q(c|x) from one z and the KL of z given c in closed form, so with
    q(c|x) fixed they differ only by the draws: 20,000 of them, within 5 standard errors (false alarm 6e-7).
    """
    x = torch.rand(1, 6)
    q = story.codec.encoder(x)
    gamma = pc.responsibilities(story, x)[0]
    tables = pc.log_joint(story, x.expand(20_000, 6), particles=1)
    draws = (gamma * (tables - gamma.log())).sum(1)
    var, prior_var = q.stddev.square(), prior_scale(story) ** 2
    log_p_z = (
        -(math.log(2 * math.pi) + prior_var.log() + (var + (q.mean - story.prior.loc).square()) / prior_var).sum(1) / 2
    )
    entropy = (1 + math.log(2 * math.pi) + var.log()).sum() / 2
    prior = (gamma * (log_p_z + story.weights.logits.log_softmax(0) - gamma.log())).sum() + entropy
    with torch.no_grad():
        z = q.expand([20_000]).sample()
        reconstruction = log_normal(x, story.codec.decoder(z), story.codec.likelihood.scale.expand(6))
    expected = (prior + reconstruction.mean()).item()
    error = math.hypot(draws.std().item(), reconstruction.std().item()) / math.sqrt(20_000)
    assert draws.mean().item() == pytest.approx(expected, abs=5 * error)
    assert error < 0.1


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "row"])
def test_likelihoods_are_parts(likelihood):
    part = Gaussian(6, scale="row") if likelihood == "row" else likelihood
    story, x = VaDE(6, 3, latent_dim=2, hidden=(8,), likelihood=part), torch.rand(5, 6)
    assert pc.log_joint(story, x).shape == (5, 3)
    assert pc.sample(story, 4, seed=0)["x"].shape == (4, 6)
    assert pc.reconstruct(story, x).shape == (5, 6)


def test_the_architecture_is_the_papers():
    sizes = [tuple(p.shape) for n, p in VaDE(784, 10).named_parameters() if p.dim() == 2 and "prior" not in n]
    assert sizes == [
        (500, 784), (500, 500), (2000, 500), (10, 2000), (10, 2000),  # encoder: trunk, mean, log variance
        (2000, 10), (500, 2000), (500, 500), (784, 500),
    ]  # fmt: skip


# Other priors

PRIORS = ["low_rank", "student_t", "flow", "latent_tree"]
DISSIMILARITIES = ["mahalanobis", "squared_euclidean", "euclidean", "manhattan", "chebyshev", "minkowski", "cosine"]


@pytest.mark.parametrize("latents", ["mean", "draw"])
@pytest.mark.parametrize("prior", [*PRIORS, *DISSIMILARITIES])
def test_log_joint_by_hand_under_any_prior(prior, latents):
    """Under dissimilarities, log p(z | k) is -alpha V(z, theta_k) less a number log beta_k that no z changes."""
    story, x = VaDE(6, 3, latent_dim=2, hidden=(8,), prior=prior), torch.rand(5, 6)
    story.weights.logits.data.normal_()
    joint = trace_joint(story.model, story.guide, x, latents=latents)
    z, q, part = joint.guide["z"].value, story.codec.encoder(x), story.prior
    log_p_z = part.density(torch.arange(3)[:, None]).log_prob(z).T
    expected = (
        log_normal(x, story.codec.decoder(z), story.codec.likelihood.scale.expand(6))[:, None] - q.log_prob(z)[:, None]
    )
    torch.testing.assert_close(joint.table, expected + log_p_z + story.weights.logits.log_softmax(0))
    if prior in DISSIMILARITIES and not (prior == "cosine" and latents == "mean"):  # which lies inside the sphere
        shift = log_p_z + part.alpha * part(z)
        torch.testing.assert_close(shift, shift[:1].expand(5, 3))


@pytest.mark.parametrize("prior", ["mahalanobis", "manhattan", "cosine", *PRIORS])
def test_bounds_are_in_order_under_any_prior(prior):
    story, x = VaDE(4, 3, latent_dim=2, hidden=(8,), prior=prior), torch.rand(20, 4)
    elbo = pc.elbo(story, x, particles=300).mean()
    bounds = [
        torch.stack([pc.log_likelihood(story, x, particles=n, seed=seed) for seed in range(5)]).mean() for n in (5, 150)
    ]
    assert elbo < bounds[0] < bounds[1]


@pytest.mark.parametrize("prior", ["gaussian", *PRIORS, *DISSIMILARITIES])
def test_a_fit_finds_separated_clusters_under_any_prior(prior):
    torch.set_default_dtype(torch.float32)
    y = torch.arange(240) % 3
    x = (torch.eye(3, 6)[y] + 0.1 * torch.randn(240, 6)).float()
    story = VaDE(6, 3, latent_dim=3, hidden=(32,), prior=prior, likelihood=Gaussian(6, scale=0.1))
    pc.fit(story, x, recipe={"pretrain_epochs": 5, "fit_epochs": 80, "epochs": 5})
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > 0.97
    k = pc.predict(story, x[:1]).item()
    draws = pc.sample(story, 200, cluster=k, seed=0)
    assert (pc.predict(story, draws["x"]) == k).float().mean() > 0.8
    if prior == "cosine":
        torch.testing.assert_close(draws["z"].norm(dim=1), torch.ones(200))


def test_the_gaussian_prior_keeps_its_parameters_and_parts_are_taken():
    names = list(VaDE(6, 3, latent_dim=2, hidden=(8,)).state_dict())
    assert [n for n in names if n.startswith("prior")] == ["prior.loc", "prior.raw_scale"]
    story = VaDE(6, 3, latent_dim=2, hidden=(8,), prior=Manhattan(2, 3))
    assert story.is_density
    assert not VaDE(6, 3, latent_dim=2, hidden=(8,), prior=Custom(lambda a, b: a - b, 2, 3)).is_density
    with pytest.raises(ValueError, match="must be built for n_features=2 and n_clusters=3"):
        VaDE(6, 3, latent_dim=2, hidden=(8,), prior=Manhattan(6, 3))
    with pytest.raises(ValueError, match="must be one of"):
        VaDE(6, 3, latent_dim=2, prior="hamming")
    with pytest.raises(TypeError, match=r"derives from probclust\.priors\.Prior, got int"):
        VaDE(6, 3, latent_dim=2, prior=3)
    with pytest.raises(ValueError, match="VaDE tells clusters apart by their priors, and StandardNormal is the same"):
        VaDE(6, 3, latent_dim=2, prior="standard")
