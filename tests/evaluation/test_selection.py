"""The number of clusters: the planted one is found, and the table is what its columns say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import KFold, ShuffleSplit

import probclust as pc
from probclust.evaluation.selection import _selection

CENTRES = [[-8, 0], [0, 8], [8, 0], [0, -8]]


def blobs(n=200, seed=0):
    return make_blobs(n, centers=CENTRES, random_state=seed)[0].astype(np.float32)


def spherical(k):
    return pc.models.GaussianMixture(2, k, "spherical")


@pytest.mark.parametrize("seed", range(2))
def test_the_planted_number_is_found(seed):
    found = pc.select_n_clusters(spherical, blobs(seed=seed), range(3, 6), cv=2, seed=seed, epochs=10, n_init=2)
    assert found.one_standard_error == 4
    assert found.best >= 4
    assert found.table.index.tolist() == [3, 4, 5]
    assert found.table.loc[found.best, "difference"] == 0
    assert "one standard error" in found.table.loc[4, "choice"]
    assert found.table.loc[3, "difference"] < -10 * found.table.loc[3, "difference_se"]


def test_a_story_with_latents_is_chosen_too():
    def build(k):
        return pc.models.MixtureOfVAEs(2, k, latent_dim=2, hidden=(8,))

    found = pc.select_n_clusters(
        build,
        blobs(160) / 8,
        [1, 4],
        cv=ShuffleSplit(1, test_size=0.25, random_state=0),
        particles=20,
        recipe={"pretrain_epochs": 3, "fit_epochs": 20, "epochs": 5},
    )
    assert found.best == 4


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
def test_the_table_is_that_of_scikit_learns_mixture_on_the_same_splits():
    x = blobs(120)
    found = pc.select_n_clusters(spherical, x, [4], cv=3, epochs=20, n_init=2)
    values = []
    for train, test in KFold(3, shuffle=True, random_state=0).split(x):
        reference = GaussianMixture(4, covariance_type="spherical", random_state=0, n_init=3).fit(x[train])
        values.append(reference.score_samples(x[test]))
    values = np.concatenate(values)
    assert found.table.loc[4, "log_likelihood"] == pytest.approx(values.mean(), abs=0.02)
    assert found.table.loc[4, "se"] == pytest.approx(values.std(ddof=1) / np.sqrt(120), rel=0.05)


def test_the_simplest_within_one_standard_error_of_the_paired_difference():
    rng = np.random.default_rng(0)
    best = rng.normal(size=100)
    noise = rng.normal(size=100)
    noise = (noise - noise.mean()) / noise.std(ddof=1)  # standard error 0.1
    found = _selection(
        {2: best - 0.11 + noise, 3: best - 0.09 + noise, 4: best, 5: best - 0.01}, dict.fromkeys(range(6), 1.0)
    )
    assert (found.best, found.one_standard_error) == (4, 3)
    assert found.table["choice"].tolist() == ["", "one standard error", "best", ""]
    assert found.table.loc[3, ["difference", "difference_se"]].tolist() == pytest.approx([-0.09, 0.1])


def test_bad_settings_are_refused():
    x = blobs(20)
    with pytest.raises(ValueError, match="at least one number, each once, got \\[\\]"):
        pc.select_n_clusters(spherical, x, [])
    with pytest.raises(ValueError, match=r"each once, got \[2, 2\]"):
        pc.select_n_clusters(spherical, x, [2, 2])
    with pytest.raises(ValueError, match="n_clusters must be an integer of at least 1, got 0"):
        pc.select_n_clusters(spherical, x, range(2))
    with pytest.raises(ValueError, match="at most the 10 rows of the smallest split, got 11"):
        pc.select_n_clusters(spherical, x, [11], cv=2)
    with pytest.raises(ValueError, match=r"build\(3\) must return a story of 3 clusters, got n_clusters=2"):
        pc.select_n_clusters(lambda k: spherical(2), x, [3])
    with pytest.raises(TypeError, match=r"must return a probclust\.Story"):
        pc.select_n_clusters(lambda k: k, x, [3])
    with pytest.raises(TypeError, match="build must make a story of K clusters"):
        pc.select_n_clusters(spherical(3), x, [3])


def test_what_is_no_density_is_refused():
    scores = type("Scores", (pc.models.GaussianMixture,), {"is_density": False})
    with pytest.raises(ValueError, match="has no likelihood to choose by"):
        pc.select_n_clusters(lambda k: scores(2, k), blobs(40), [2], cv=2, epochs=1)


def test_rows_are_those_that_the_story_takes():
    """Entries may be missing where the story says so, and float64 stays float64."""
    x = blobs(60)
    x[::7, 0] = np.nan
    found = pc.select_n_clusters(lambda k: pc.models.GaussianMixture(2, k, "diag", missing=True), x, [2, 3], cv=2)
    assert np.isfinite(found.table["log_likelihood"]).all()
    with pytest.raises(ValueError, match="NaN"):
        pc.select_n_clusters(spherical, x, [2, 3], cv=2)
    x = blobs(60)
    near, far = (
        pc.select_n_clusters(lambda k: spherical(k).double(), x.astype(float) + shift, [2, 3], cv=2, epochs=3)
        for shift in (0, 1e6)
    )
    np.testing.assert_allclose(near.table["log_likelihood"], far.table["log_likelihood"], atol=2e-4)


def test_one_row_kept_out_is_refused():
    with pytest.raises(ValueError, match="at least 2 rows"):
        pc.select_n_clusters(spherical, blobs(20), [2], cv=ShuffleSplit(1, test_size=1, random_state=0))


def test_folds_that_would_go_on_from_each_other_are_refused():
    x = np.random.default_rng(0).normal(size=(30, 2))
    story, weights = pc.models.GaussianMixture(2, 2), pc.weights.Learned(2)
    for build, name in (
        (lambda k: story, "loc"),
        (lambda k: pc.models.GaussianMixture(2, k, weights=weights), r"weights\.\w+"),
    ):
        with pytest.raises(ValueError, match=f"build must make a new story .* whose parameter '{name}' is that of"):
            pc.select_n_clusters(build, x, [2], cv=2, epochs=1)
