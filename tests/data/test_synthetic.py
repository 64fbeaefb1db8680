from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit
from sklearn.cluster import KMeans

from probclust.data import Dataset, blobs, circles, four_gaussians, pinwheel
from probclust.evaluation import metrics

GENERATORS = [blobs, circles, four_gaussians, pinwheel]


@pytest.mark.parametrize("generate", GENERATORS)
@given(st.integers(5, 200), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=10)
def test_shapes_types_and_balance(generate, n_rows, seed):
    data: Dataset = generate(n_rows=n_rows, seed=seed)
    assert data.x.shape[0] == n_rows
    assert data.x.dtype == np.float32
    assert data.y.dtype == np.int64
    assert np.isfinite(data.x).all()
    counts = np.bincount(data.y, minlength=len(data.target_names))
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("generate", GENERATORS)
def test_one_seed_gives_one_data_set(generate):
    assert (generate(seed=1).x == generate(seed=1).x).all()
    assert not (generate(seed=1).x == generate(seed=2).x).all()


def test_blobs_stand_as_far_apart_as_asked():
    data = blobs(n_rows=60_000, n_features=3, n_clusters=3, separation=5.0, seed=3)
    centres = np.stack([data.x[data.y == k].mean(axis=0) for k in range(3)])
    gaps = np.linalg.norm(centres[:, None] - centres, axis=-1)[np.triu_indices(3, 1)]
    assert gaps.min() == pytest.approx(5.0, abs=0.05)
    spread = np.concatenate([data.x[data.y == k] - centres[k] for k in range(3)])
    assert np.cov(spread.T) == pytest.approx(np.eye(3), abs=0.03)


def test_four_gaussians_lie_on_a_bent_plane():
    data = four_gaussians(n_rows=400, n_features=6, seed=0)
    assert data.x.min() >= 0
    assert data.x.max() <= 1
    inner = ((data.x > 1e-6) & (data.x < 0.99)).all(axis=1)  # elsewhere float32 cannot be undone
    flat = logit(np.sqrt(data.x[inner].astype(np.float64)))  # undoes equation 8, leaving W v
    assert inner.sum() > 20
    assert np.linalg.matrix_rank(flat, tol=1e-2) == 2


def test_four_gaussians_are_as_hard_as_the_papers():
    scores = []
    for seed in range(6):
        data = four_gaussians(seed=seed)
        found = KMeans(4, n_init=5, random_state=0).fit_predict(data.x)
        scores.append([metrics.nmi(data.y, found), metrics.ari(data.y, found)])
    assert np.mean(scores, axis=0) == pytest.approx([0.80, 0.81], abs=0.01)  # Table 2, column KM


def test_four_gaussians_stand_on_a_square_of_the_side_asked():
    sides = []
    for separation in (2.0, 4.0):
        data = four_gaussians(n_rows=40_000, n_features=4, separation=separation, seed=3)
        flat = logit(np.sqrt(data.x.astype(np.float64)).clip(1e-12, 1 - 1e-7))
        centres = np.stack([np.median(flat[data.y == k], axis=0) for k in range(4)])  # W times the corners
        assert centres[3] == pytest.approx(centres[1] + centres[2], abs=0.2)
        sides.append(centres[1])
    assert sides[1] == pytest.approx(2 * sides[0], abs=0.2)


def test_pinwheel_arms_turn_back_into_gaussians():
    data = pinwheel(n_rows=50_000, n_clusters=5, seed=0)
    radius = np.linalg.norm(data.x, axis=1)
    angle = np.arctan2(data.x[:, 1], data.x[:, 0]) - 2 * np.pi * data.y / 5
    straight = angle - 0.25 * np.exp(radius)  # the radius is almost the coordinate along the arm
    across = radius * np.sin(straight)
    assert np.median(radius) == pytest.approx(1, abs=0.02)
    assert np.std(radius) == pytest.approx(0.3, abs=0.01)
    assert np.median(np.abs(across)) == pytest.approx(0.6745 * 0.05, rel=0.05)


def test_circles_have_their_radii():
    data = circles(n_rows=4000, ratio=0.4, scale=0.01, seed=0)
    radius = np.linalg.norm(data.x, axis=1)
    assert radius[data.y == 0] == pytest.approx(1.0, abs=0.06)
    assert radius[data.y == 1] == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize(("n_clusters", "words"), [(0, "at least 1, got 0"), (4, "got n_clusters=4 with 3 rows")])
def test_more_clusters_than_rows_are_refused(n_clusters, words):
    with pytest.raises(ValueError, match=words):
        blobs(n_rows=3, n_clusters=n_clusters)
