"""Mixture weights against closed forms: their densities, their posteriors, and what they make of clusters."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy import stats

import probclust as pc
from probclust.models import DissimilarityMixture, GaussianMixture, MixtureOfVAEs, VaDE
from probclust.objectives.bounds import Exact
from probclust.priors.weights import Dirichlet, Fixed, Learned, StickBreaking, Weights, log_weights, weights_named
from probclust.story.global_guide import GlobalGuide
from probclust.story.joint import Pass

NAMES = ["learned", "fixed", "uniform", "dirichlet", "stick-breaking"]


def blobs(n, shares=(0.2,) * 5, n_features=2, seed=0):
    """Rows of clusters of unit variance, 10 apart, and their clusters."""
    rng = np.random.default_rng(seed)
    centres = 10 * np.stack(np.divmod(np.arange(len(shares)), 3), 1) @ np.eye(2, n_features)
    y = rng.choice(len(shares), n, p=shares)
    return torch.as_tensor(centres[y] + rng.standard_normal((n, n_features))).float(), torch.as_tensor(y)


def weights_of(story):
    """(K,) p(cluster) at the mean of the guide of the globals."""
    x = torch.zeros(2, story.n_features)
    with torch.no_grad():
        values = {name: site.value for name, site in Pass(latents="mean").run(story.complete_guide, x).items()}
        values.pop("cluster", None)
        return Pass(values=values).run(story.model, x)["cluster"].fn.probs[0].flatten()


@torch.no_grad()
def draws_of(guide, name, n=4000):
    return guide._distribution(name).sample((n,))


# Each part by itself


def test_learned_weights_are_a_softmax_and_start_at_the_shares():
    part = Learned(3)
    assert part.start(torch.tensor([0.5, 0.3, 0.2]), 10) == {}
    torch.testing.assert_close(part().probs, torch.tensor([0.5, 0.3, 0.2]))
    assert [name for name, p in part.named_parameters() if p.requires_grad] == ["logits"]


def test_fixed_weights_stay():
    part = Fixed(3, probs=[1, 2, 1])
    torch.testing.assert_close(part().probs, torch.tensor([0.25, 0.5, 0.25]))
    part.start(torch.tensor([0.5, 0.3, 0.2]), 10)
    torch.testing.assert_close(part().probs, torch.tensor([0.25, 0.5, 0.25]))
    assert not list(part.parameters())
    assert weights_named("uniform", 3)().logits.tolist() == pytest.approx([-math.log(3)] * 3)


@pytest.mark.usefixtures("float64")
def test_the_dirichlet_prior_is_scipys():
    concentration = [0.5, 2.0, 3.0]
    trace = poutine.trace(Dirichlet(3, concentration)).get_trace()
    site = trace.nodes["weights"]
    assert site["fn"].log_prob(site["value"]).item() == pytest.approx(
        stats.dirichlet(concentration).logpdf(site["value"].numpy())
    )
    torch.testing.assert_close(trace.nodes["_RETURN"]["value"].probs, site["value"])


@pytest.mark.usefixtures("float64")
def test_the_sticks_prior_is_scipys_and_the_weights_its_breaks():
    trace = poutine.trace(StickBreaking(4, concentration=2.5)).get_trace()
    rest = trace.nodes["rest"]["value"]
    expected = stats.beta(2.5, 1).logpdf(rest.numpy()).sum()
    assert trace.nodes["rest"]["fn"].log_prob(rest).item() == pytest.approx(expected)
    left = [1.0, *rest.cumprod(0).tolist()]
    broken = [*(1 - rest).tolist(), 1.0]
    assert trace.nodes["_RETURN"]["value"].probs.tolist() == pytest.approx(
        [a * b for a, b in zip(left, broken, strict=True)]
    )


@pytest.mark.usefixtures("float64")
def test_draws_of_the_sticks_have_the_first_moments_of_the_process():
    """E[a_k] = (c / (1 + c))^(k-1) / (1 + c): 20,000 draws, within 5 standard errors (false alarm 6e-7 each)."""
    c = 2.0
    draws = log_weights(dist.Beta(c, 1.0).sample((20_000, 5))).exp()
    expected = torch.tensor([(c / (1 + c)) ** k / (1 + c) for k in range(5)])
    error = draws[:, :5].std(0) / math.sqrt(20_000)
    assert ((draws[:, :5].mean(0) - expected).abs() < 5 * error).all()


def test_weights_at_the_ends_of_the_unit_interval_are_finite_with_their_gradients():
    rest = torch.tensor([0.0, 1.0, 1e-30, 0.5], requires_grad=True)
    logits = log_weights(rest)
    assert torch.isfinite(logits).all()
    assert logits.exp().sum().item() == pytest.approx(1)
    assert torch.isfinite(torch.autograd.grad(logits.sum(), rest)[0]).all()


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match=r"weights must be one of .* got 'equal'"):
        GaussianMixture(2, 3, weights="equal")
    with pytest.raises(ValueError, match="built for n_clusters=3, got some for n_clusters=4"):
        GaussianMixture(2, 3, weights=Learned(4))
    with pytest.raises(TypeError, match=r"derives from probclust\.weights\.Weights, got list"):
        GaussianMixture(2, 3, weights=[0.5, 0.5])
    with pytest.raises(ValueError, match="probs must be n_clusters=3 positive numbers"):
        Fixed(3, [0.5, 0.5, 0.0])
    with pytest.raises(ValueError, match="concentration must be a positive number, or n_clusters=3 of them"):
        Dirichlet(3, [1.0, 2.0])
    with pytest.raises(ValueError, match="concentration must be a positive number, got -1"):
        StickBreaking(3, -1)
    with pytest.raises(ValueError, match="at least 2"):
        StickBreaking(1)


# In every story


class Geometric(Weights):
    """The user's own: one global latent, which the automatic guide finds."""

    def forward(self):
        ratio = pyro.sample("ratio", dist.Beta(2.0, 2.0))
        return dist.Categorical(logits=ratio.log() * torch.arange(float(self.n_clusters)))


STORIES = {
    "gmm": lambda **kw: GaussianMixture(4, 3, **kw),
    "dissimilarity-mixture": lambda **kw: DissimilarityMixture(4, 3, **kw),
    "vade": lambda **kw: VaDE(4, 3, latent_dim=2, hidden=(8,), **kw),
    "mixture-of-vaes": lambda **kw: MixtureOfVAEs(4, 3, latent_dim=2, hidden=(8,), **kw),
}
NO_STEP = pc.SVI(epochs=1, learning_rate=1e-6)
SHORT = {"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 2}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("weights", [*NAMES, "own"])
def test_every_story_takes_every_kind_of_weights(story, weights, tmp_path):
    built = STORIES[story](weights=Geometric(3) if weights == "own" else weights)
    x, _ = blobs(60, (0.5, 0.3, 0.2), 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pc.FitWarning)
        deep = story in ("vade", "mixture-of-vaes")
        record = pc.fit(built, x, recipe=SHORT if deep else None, epochs=2, n_init=2)
    assert math.isfinite(record.bound)
    probs = weights_of(built)
    assert probs.sum().item() == pytest.approx(1, abs=1e-5)
    if weights in ("fixed", "uniform"):
        torch.testing.assert_close(probs, torch.full((3,), 1 / 3))
    torch.testing.assert_close(pc.responsibilities(built, x).sum(1), torch.ones(60))
    assert pc.sample(built, 4, seed=0)["x"].shape == (4, 4)
    if weights == "own":
        return
    pc.save(built, tmp_path / "story")
    loaded = pc.load(tmp_path / "story")
    assert torch.equal(pc.log_joint(loaded, x), pc.log_joint(built, x))


@pytest.mark.parametrize("kind", ["map", "normal", "conjugate"])
@pytest.mark.parametrize("weights", ["learned", "dirichlet", "stick-breaking"])
@pytest.mark.parametrize("story", ["dissimilarity-mixture", "vade"])
def test_starts_set_the_weights_and_their_guide_to_the_clusters(story, weights, kind):
    built = STORIES[story](weights=weights, global_guide=kind)
    x, _ = blobs(400, (0.5, 0.3, 0.2), 4)
    recipe = built.recipe(pretrain_epochs=1, fit_epochs=1, epochs=1) if story == "vade" else built.recipe(epochs=1)
    record = pc.fit(built, x, recipe=[step for step in recipe if not isinstance(step, pc.SVI)] + [NO_STEP])
    start = record.memory["start"].bincount(minlength=3) / 400
    torch.testing.assert_close(weights_of(built), start, atol=0.02, rtol=0)


# Posteriors


def planted(weights, global_guide, x):
    """A Gaussian mixture whose components are known, those that `blobs` has."""
    story = GaussianMixture(2, 3, "spherical", weights=weights, global_guide=global_guide)
    with torch.no_grad():
        story.loc.copy_(10 * torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]]))
        story.raw_scale.fill_(math.log(math.expm1(1.0)))
    for parameter in (story.loc, story.raw_scale):
        parameter.requires_grad_(False)
    return story


@pytest.mark.parametrize("kind", ["conjugate", "normal", "map"])
def test_the_posterior_of_separated_clusters_is_the_closed_dirichlet(kind):
    """Dirichlet(a + counts): its mean and standard deviations, and the evidence, which the bound reaches."""
    x, y = blobs(200, (0.6, 0.3, 0.1))
    a, counts = torch.tensor([2.0, 3.0, 4.0]), y.bincount(minlength=3)
    story = planted(Dirichlet(3, a), kind, x)
    pc.fit(story, x, recipe=[pc.SVI(epochs=300, learning_rate=0.05)])
    exact = dist.Dirichlet(a + counts)
    draws = draws_of(story.globals, "weights")
    if kind == "map":
        torch.testing.assert_close(draws[0], (a + counts - 1) / (a + counts - 1).sum(), atol=2e-3, rtol=0)
        return
    torch.testing.assert_close(draws.mean(0), exact.mean, atol=0.015, rtol=0)
    torch.testing.assert_close(draws.std(0), exact.variance.sqrt(), atol=0, rtol=0.15)
    evidence = (a + counts).lgamma().sum() - (a + counts).sum().lgamma() - a.lgamma().sum() + a.sum().lgamma()
    evidence = evidence + stats.norm.logpdf(x.numpy(), story.loc.numpy()[y]).sum()
    bounds = torch.tensor([-Exact().loss(story.model, story.guide, x) for _ in range(300)])
    assert bounds.mean().item() == pytest.approx(evidence.item(), abs=0.2)


@pytest.mark.parametrize("kind", ["conjugate", "normal"])
def test_the_posterior_of_the_sticks_is_the_closed_beta(kind):
    x, y = blobs(200, (0.6, 0.3, 0.1))
    counts = y.bincount(minlength=3)
    story = planted(StickBreaking(3, 1.5), kind, x)
    pc.fit(story, x, recipe=[pc.SVI(epochs=300, learning_rate=0.05)])
    exact = dist.Beta(torch.tensor([1.5 + counts[1:].sum(), 1.5 + counts[2]]), 1.0 + counts[:2])
    draws = draws_of(story.globals, "rest")
    torch.testing.assert_close(draws.mean(0), exact.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(draws.std(0), exact.variance.sqrt(), atol=0, rtol=0.2)


def test_starting_clusters_give_the_closed_posterior():
    """Dirichlet(a + counts) and Beta(c + later rows, 1 + rows), without a step of SVI."""
    shares, n = torch.tensor([0.5, 0.3, 0.2]), 100
    law = Dirichlet(3, [1.0, 2.0, 3.0]).start(shares, n)["weights"]
    torch.testing.assert_close(law.concentration, torch.tensor([51.0, 32.0, 23.0]))
    law = StickBreaking(3, 1.5).start(shares, n)["rest"].base_dist
    torch.testing.assert_close(law.concentration1, torch.tensor([51.5, 21.5]))
    torch.testing.assert_close(law.concentration0, torch.tensor([51.0, 31.0]))


@pytest.mark.parametrize("kind", ["map", "normal", "conjugate"])
def test_a_guide_starts_at_given_laws(kind):
    priors = {"weights": dist.Dirichlet(torch.ones(3)), "rest": dist.Beta(1.0, 2.0).expand([2]).to_event(1)}
    guide = GlobalGuide(priors, kind)
    laws = {
        "weights": dist.Dirichlet(torch.tensor([40.0, 30.0, 20.0])),
        "rest": dist.Beta(torch.tensor([30.0, 9.0]), torch.tensor([20.0, 30.0])).to_event(1),
    }
    guide.start(laws)
    for name, law in laws.items():
        draws = draws_of(guide, name)
        torch.testing.assert_close(draws.mean(0), law.mean, atol=0.01, rtol=0)
        if kind != "map":
            torch.testing.assert_close(draws.std(0), law.variance.sqrt(), atol=0, rtol=0.15)


def test_the_posterior_is_exported_to_arviz():
    x, _ = blobs(100, (0.5, 0.3, 0.2))
    story = GaussianMixture(2, 3, weights="dirichlet")
    pc.fit(story, x, epochs=2)
    data = pc.to_inference_data(story, x[:5], draws=50)
    weights = data.posterior["weights"]
    assert weights.dims == ("chain", "draw", "component")
    np.testing.assert_allclose(weights.sum("component"), 1, rtol=1e-5)
    assert 0.02 < weights.std("draw").max() < 0.1
    story = GaussianMixture(2, 4, weights="stick-breaking")
    assert pc.to_inference_data(story, x[:5], draws=5).posterior["rest"].shape == (1, 5, 3)


# The number of clusters


@pytest.mark.parametrize("n_features", [2, 10])
@pytest.mark.parametrize("covariance_type", ["diag", "spherical", "full"])
def test_of_thirty_clusters_under_stick_breaking_five_stay_in_use(covariance_type, n_features):
    x, y = blobs(1000, n_features=n_features)
    story = GaussianMixture(n_features, 30, covariance_type, weights="stick-breaking")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pc.FitWarning)  # emptying is meant
        pc.fit(story, x)
    labels = pc.predict(story, x)
    assert len(labels.unique()) == 5
    assert pc.metrics.ari(y, labels) > 0.99
    assert labels.max() == 4  # the largest first
    assert weights_of(story)[5:].sum() < 0.03
