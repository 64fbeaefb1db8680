"""EM with known clusters, against scikit-learn's where none is known and closed forms where all are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.mixture import GaussianMixture as SklearnMixture

import probclust as pc
from probclust.starts.clusterers.gaussian_em import semi_supervised_em
from probclust.story.recipe import START, Run

COVARIANCES = ["full", "diag", "spherical"]


def rows():
    x, y = make_blobs(200, n_features=3, centers=3, cluster_std=2.5, random_state=2)
    return torch.as_tensor(x), torch.as_tensor(y)


@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_without_known_rows_it_is_scikit_learns(covariance_type):
    x, _ = rows()
    labels = torch.arange(200) % 3
    fixed = {"n_clusters": 3, "covariance_type": covariance_type, "reg_covar": 1e-6}
    start = semi_supervised_em(x, labels, torch.full((200,), -1), max_iter=1, **fixed)
    precisions = torch.linalg.inv(start.covariances_) if covariance_type == "full" else 1 / start.covariances_
    peer = SklearnMixture(
        3,
        covariance_type=covariance_type,
        weights_init=start.weights_.numpy(),
        means_init=start.means_.numpy(),
        precisions_init=precisions.numpy(),
        tol=1e-9,
        max_iter=2000,
    ).fit(x)
    ours = semi_supervised_em(x, labels, torch.full((200,), -1), tol=1e-9, max_iter=2000, **fixed)
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(peer, name), rtol=0, atol=2e-3)


@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_with_all_rows_known_it_gives_the_moments_of_the_classes(covariance_type):
    x, y = rows()
    found = semi_supervised_em(x, y, y, n_clusters=3, covariance_type=covariance_type, reg_covar=1e-6)
    for k in range(3):
        own = x[y == k].numpy()
        covariance = np.cov(own.T, bias=True) + 1e-6 * np.eye(3)
        expected = {"full": covariance, "diag": np.diag(covariance), "spherical": np.diag(covariance).mean()}
        np.testing.assert_allclose(found.covariances_[k], expected[covariance_type], atol=1e-9)
        np.testing.assert_allclose(found.means_[k], own.mean(0), atol=1e-9)
        assert float(found.weights_[k]) == pytest.approx(len(own) / 200)


@pytest.mark.parametrize("weights", ["learned", "stick-breaking"])
def test_known_rows_start_in_their_own_cluster_though_they_lie_in_another(weights):
    x, truth = rows()
    y = torch.full((200,), -1)
    y[:30] = truth[:30]
    y[0] = (truth[0] + 1) % 3
    story = pc.models.GaussianMixture(3, 3, weights=weights)
    run = Run(story, x.float(), y, seed=0)
    story.recipe()[0].run(run)
    assert torch.equal(run.memory[START][:30], y[:30])
    assert pc.metrics.accuracy(truth, pc.predict(story, x)) == (pc.predict(story, x) == truth).float().mean()


def test_em_does_not_lose_the_digits_of_columns_far_from_zero():
    rng = np.random.default_rng(0)
    x = 1000 + np.concatenate([rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + 6])
    peer = SklearnMixture(2, covariance_type="diag", random_state=0).fit(x)
    arguments = {"covariance_type": "diag"}
    ours = pc.DeepMixture("gmm", n_clusters=2, story_arguments=arguments, random_state=0).fit(x)
    assert ours.score(x) == pytest.approx(peer.score(x), abs=1e-4)
