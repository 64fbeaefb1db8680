"""The dissimilarity mixture against mixtures known by other names, and on clusters that were planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import ive, logsumexp
from sklearn.datasets import make_blobs
from sklearn.mixture import GaussianMixture as SklearnMixture

import probclust as pc
from probclust.dissimilarities import Custom, Manhattan, Minkowski, SquaredEuclidean
from probclust.evaluation.measure import measure_of, why_no_density
from probclust.models import DissimilarityMixture, GaussianMixture

NAMES = ["squared_euclidean", "euclidean", "manhattan", "chebyshev", "minkowski", "mahalanobis", "cosine"]


def square_root(x, centres):
    return (x - centres).abs().sum(-1).sqrt()


def directions(n, d=3):
    return torch.nn.functional.normalize(torch.randn(n, d), dim=1)


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


@torch.no_grad()
def planted(name, d=3):
    """Three separated clusters of unequal weights."""
    story = DissimilarityMixture(d, 3, name)
    story.weights.logits.copy_(torch.tensor([0.5, 0.3, 0.2]).log())
    story.dissimilarity.raw_loc.copy_(12 * torch.eye(3, d))
    if name == "cosine":
        story.dissimilarity.log_alpha.fill_(4.0)
    if name == "mahalanobis":
        story.dissimilarity.lower.normal_()
    return story


# Equal to mixtures known by other names


def test_squared_euclidean_is_a_spherical_gaussian_mixture(float64):
    x, _ = make_blobs(300, n_features=3, centers=4, cluster_std=1.5, random_state=0)
    peer = SklearnMixture(4, covariance_type="spherical", random_state=0).fit(x)
    ours, story = GaussianMixture(3, 4, "spherical"), DissimilarityMixture(3, 4, learn_alpha="cluster")
    ours.set_parameters(peer)
    with torch.no_grad():
        story.weights.logits.copy_(torch.as_tensor(peer.weights_).log())
        story.dissimilarity.raw_loc.copy_(torch.as_tensor(peer.means_))
        story.dissimilarity.log_alpha.copy_(-(2 * torch.as_tensor(peer.covariances_)).log())
    torch.testing.assert_close(pc.log_joint(story, x), pc.log_joint(ours, x))
    np.testing.assert_allclose(pc.log_likelihood(story, x), peer.score_samples(x), rtol=1e-9)
    np.testing.assert_allclose(pc.responsibilities(story, x), peer.predict_proba(x), atol=1e-9)


def test_mahalanobis_is_a_full_gaussian_mixture(float64):
    x, _ = make_blobs(300, n_features=3, centers=4, cluster_std=1.5, random_state=0)
    peer = SklearnMixture(4, random_state=0).fit(x)
    ours, story = GaussianMixture(3, 4), DissimilarityMixture(3, 4, "mahalanobis")
    ours.set_parameters(peer)
    part = story.dissimilarity
    with torch.no_grad():
        part.raw_loc.copy_(torch.as_tensor(peer.means_))
        factor = torch.linalg.cholesky(torch.as_tensor(peer.covariances_))
        part.lower.copy_(factor.tril(-1))
        part.raw_diagonal.copy_((factor.diagonal(dim1=1, dim2=2) - part.floor).expm1().log())
        story.weights.logits.copy_(torch.as_tensor(peer.weights_).log())
    torch.testing.assert_close(pc.log_joint(story, x), pc.log_joint(ours, x))
    np.testing.assert_allclose(pc.log_likelihood(story, x), peer.score_samples(x), rtol=1e-8)


@pytest.mark.parametrize("d", [2, 3, 8])
def test_cosine_is_a_von_mises_fisher_mixture(d, float64):
    story, x = DissimilarityMixture(d, 3, "cosine", learn_alpha="cluster"), directions(50, d)
    with torch.no_grad():
        story.weights.logits.normal_()
        story.dissimilarity.log_alpha.copy_(torch.tensor([0.1, 5.0, 80.0]).log())
    weights = story.weights.logits.softmax(0).detach().numpy()
    kappa, mean = story.dissimilarity.alpha.detach().numpy(), story.dissimilarity.loc.detach().numpy()
    order = d / 2 - 1
    log_c = order * np.log(kappa) - d / 2 * np.log(2 * np.pi) - np.log(ive(order, kappa)) - kappa
    table = np.log(weights) + log_c + kappa * (x.numpy() @ mean.T)
    np.testing.assert_allclose(pc.log_joint(story, x), table, rtol=0, atol=1e-7)
    np.testing.assert_allclose(pc.log_likelihood(story, x), logsumexp(table, axis=1), atol=1e-7)


def test_responsibilities_are_equation_5(float64):
    """A softmax of -alpha V with biases log(a_k / beta_k); with one alpha for all, beta falls out."""
    story, x = DissimilarityMixture(3, 4, "manhattan", alpha=2.0), torch.randn(20, 3)
    story.weights.logits.data.normal_()
    v = (x[:, None] - story.dissimilarity.loc).abs().sum(-1)
    expected = (story.weights.logits - 2 * v).softmax(1).detach()
    torch.testing.assert_close(pc.responsibilities(story, x), expected)


# Planted clusters


@pytest.mark.parametrize("name", NAMES)
def test_predict_gives_back_the_cluster_of_its_samples(name):
    story = planted(name)
    for k in range(3):
        assert (pc.predict(story, pc.sample(story, 400, cluster=k, seed=k)["x"]) == k).float().mean() > 0.95


STARTS = [*((name, None) for name in NAMES), ("mahalanobis", "k-medoids"), ("manhattan", "k-means")]


@pytest.mark.parametrize(("name", "start"), STARTS)
def test_a_fit_recovers_planted_clusters(name, start):
    """Centres and weights within about 5 standard errors of 600 rows; the bound above that of the truth."""
    truth = planted(name)
    draws = pc.sample(truth, 600, seed=0)
    story = DissimilarityMixture(3, 3, name)
    record = pc.fit(story, draws["x"], recipe={"start": start, "epochs": 12}, batch_size=64)
    found, wanted = story.dissimilarity.loc.detach(), truth.dissimilarity.loc.detach()
    order = torch.cdist(wanted, found).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2]
    spread = draws["x"].sub(wanted[draws["cluster"]]).std().item()
    torch.testing.assert_close(found[order], wanted, atol=0.5 * spread, rtol=0)
    torch.testing.assert_close(
        story.weights.logits.softmax(0)[order], truth.weights.logits.softmax(0), atol=0.08, rtol=0
    )
    assert record.bound > pc.elbo(truth, draws["x"]).mean().item() - 0.01
    assert pc.metrics.accuracy(draws["cluster"], pc.predict(story, draws["x"])) > 0.95


def test_the_likelihood_tells_which_dissimilarity_made_the_rows():
    """4000 rows of each; so compare ranks shapes, which the paper's model cannot."""
    candidates = {name: planted(name, d=3) for name in ("manhattan", "euclidean", "chebyshev")}
    for name, truth in candidates.items():
        x = pc.sample(truth, 4000, seed=0)["x"]
        fitted = {}
        for other in candidates:
            fitted[other] = DissimilarityMixture(3, 3, other)
            pc.fit(fitted[other], x, recipe={"start": "k-means", "epochs": 2})
        assert pc.compare(fitted, x).index[0] == name


def test_fixed_alphas_and_weights_stay_as_they_are():
    x = pc.sample(planted("manhattan"), 200, seed=0)["x"]
    story = DissimilarityMixture(3, 3, "manhattan", alpha=0.5, learn_alpha=False, weights="uniform")
    pc.fit(story, x, epochs=2)
    torch.testing.assert_close(story.dissimilarity.alpha, torch.full((3,), 0.5))
    assert torch.equal(story.weights.logits, torch.zeros(3))
    shared, own = DissimilarityMixture(3, 3), DissimilarityMixture(3, 3, learn_alpha="cluster")
    assert (shared.dissimilarity.log_alpha.shape, own.dissimilarity.log_alpha.shape) == ((1,), (3,))


@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("name", ["manhattan", "mahalanobis"])
def test_a_fit_does_not_depend_on_the_unit_of_x(name, scale):
    x = pc.sample(planted(name), 300, seed=0)["x"]
    bounds = []
    for factor in (1.0, scale):
        story = DissimilarityMixture(3, 3, name)
        bounds.append(pc.fit(story, factor * x, epochs=5).bound)
    assert bounds[1] == pytest.approx(bounds[0] - 3 * np.log(scale), abs=0.01)


# Directions


def test_rows_that_are_no_directions_are_refused_with_the_remedy():
    story, x = DissimilarityMixture(3, 2, "cosine"), directions(40)
    x[30] *= 2
    for function in (pc.fit, pc.predict, why_no_density):
        with pytest.raises(
            ValueError, match=r"outside the support of VonMisesFisher.*divide each row by its l"
        ) as error:
            function(story, x)
        assert "in row 30;" in str(error.value)
        assert str([round(v, 4) for v in x[30].tolist()])[1:6] in str(error.value)


def test_densities_of_directions_and_of_rows_in_space_are_not_ranked_together():
    x = directions(40)
    stories = {"cosine": DissimilarityMixture(3, 2, "cosine"), "other": DissimilarityMixture(3, 4, "cosine")}
    assert str(measure_of(stories["cosine"], x)) == "directional"
    assert np.isfinite(pc.compare(stories, x)["difference"]).all()
    with pytest.warns(pc.ComparisonWarning, match="its density is continuous, that of the others directional"):
        table = pc.compare(stories | {"gmm": GaussianMixture(3, 2)}, x)
    assert np.isnan(table.loc["gmm", "difference"])


# A dissimilarity of the user's


def test_a_custom_dissimilarity_is_a_score(tmp_path):
    draws = pc.sample(planted("squared_euclidean"), 300, seed=0)
    x = draws["x"]
    story = DissimilarityMixture(3, 3, Custom(square_root, 3, 3, alpha=2.0))
    record = pc.fit(story, x, epochs=3)
    assert not story.is_density
    assert "square_root" in record.to_json()
    assert pc.metrics.accuracy(draws["cluster"], pc.predict(story, x)) > 0.99
    table = torch.log_softmax(story.weights.logits, 0) - 2 * square_root(x[:, None], story.dissimilarity.loc)
    torch.testing.assert_close(pc.log_joint(story, x), table.detach())
    assert torch.equal(pc.reconstruct(story, x), story.dissimilarity.loc.detach()[pc.predict(story, x)])
    with pytest.warns(pc.ComparisonWarning, match="'custom' has no likelihood"):
        pc.compare({"custom": story, "gmm": GaussianMixture(3, 3)}, x)
    with pytest.raises(NotImplementedError, match="a custom dissimilarity has no normaliser"):
        pc.sample(story, 3)
    with pytest.raises(TypeError, match="function, which cannot be saved"):
        pc.save(story, tmp_path / "story")


@pc.register
class Canberra(Minkowski):
    """A part of the user's that can be saved: the class is registered."""

    is_density = False

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features, n_clusters, 1.0, learn_alpha=False)

    def between(self, x, *theta):
        return ((x - theta[0]).abs() / (x.abs() + theta[0].abs() + 1e-6)).sum(-1)


@pytest.mark.parametrize("part", [Manhattan, Canberra, lambda d, k: Minkowski(d, k, p=4.0, learn_alpha="cluster")])
def test_parts_are_saved_and_drawn_anew_with_their_story(part, tmp_path):
    story, x = DissimilarityMixture(3, 4, part(3, 4)), torch.randn(30, 3)
    pc.fit(story, x, epochs=1, n_init=2)
    pc.save(story, tmp_path / "story")
    loaded = pc.load(tmp_path / "story")
    assert type(loaded.dissimilarity) is type(story.dissimilarity)
    assert loaded.is_density == story.is_density
    assert torch.equal(pc.log_joint(loaded, x), pc.log_joint(story, x))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="must be built for n_features=3 and n_clusters=2"):
        DissimilarityMixture(3, 2, SquaredEuclidean(3, 5))
    with pytest.raises(ValueError, match="dissimilarity must be one of"):
        DissimilarityMixture(3, 2, "hamming")
    with pytest.raises(ValueError, match="start must be 'k-means', 'k-medoids' or None, got 'random'"):
        DissimilarityMixture(3, 2).recipe(start="random")
