"""The Gaussian mixture against scikit-learn's, the exact anchor of the deep stories."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as SklearnMixture

import probclust as pc
from probclust.models import GaussianMixture
from probclust.story.joint import Joint

COVARIANCES = ["full", "diag", "spherical"]


def rows(n=300, seed=0):
    return make_blobs(n, n_features=3, centers=4, cluster_std=1.5, random_state=seed)


@pytest.fixture(params=COVARIANCES)
def pair(request, float64):
    """scikit-learn's fitted mixture, and the story with its parameters."""
    x, _ = rows()
    peer = SklearnMixture(4, covariance_type=request.param, random_state=0).fit(x)
    story = GaussianMixture(3, 4, covariance_type=request.param)
    story.set_parameters(peer)
    return story, peer, x


def test_log_likelihood_is_score_samples(pair):
    story, peer, x = pair
    for bound in (pc.log_likelihood(story, x), pc.elbo(story, x)):
        np.testing.assert_allclose(bound, peer.score_samples(x), rtol=0, atol=1e-5)


def test_responsibilities_and_predictions_are_scikit_learns(pair):
    story, peer, x = pair
    np.testing.assert_allclose(pc.responsibilities(story, x), peer.predict_proba(x), atol=1e-6)
    assert (pc.predict(story, x).numpy() == peer.predict(x)).all()
    assert (pc.predict(story, pc.sample(story, 50, cluster=2, seed=0)["x"]) == 2).float().mean() > 0.8


PLANTED = {
    "log weight missing": lambda name, term: 0 * term if name == "log p(cluster)" else term,
    "weights without their logarithm": lambda name, term: term.exp() if name == "log p(cluster)" else term,
    "factor half lost": lambda name, term: 2 * term if name == "log p(x)" else term,
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_scikit_learn_finds_planted_errors(planted, pair, monkeypatch):
    story, peer, x = pair
    honest = Joint.terms
    monkeypatch.setattr(Joint, "terms", lambda self: ((name, planted(name, term)) for name, term in honest(self)))
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(pc.log_likelihood(story, x), peer.score_samples(x), rtol=0, atol=1e-5)


def test_components_keep_their_order_when_asked(pair):
    story, peer, x = pair
    story.set_parameters(peer, order=[2, 0, 3, 1])
    assert (pc.predict(story, x).numpy() == np.argsort([2, 0, 3, 1])[peer.predict(x)]).all()
    np.testing.assert_allclose(pc.log_likelihood(story, x), peer.score_samples(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("covariance_type", COVARIANCES)
def test_fit_reaches_scikit_learns_likelihood_and_clusters(covariance_type):
    x, _ = rows()
    peer = SklearnMixture(4, covariance_type=covariance_type, random_state=0).fit(x)
    story = GaussianMixture(3, 4, covariance_type=covariance_type)
    record = pc.fit(story, x, epochs=3)
    assert record.bound >= peer.score(x) - 0.01
    assert record.bound == pytest.approx(pc.log_likelihood(story, x).mean().item(), abs=1e-5)
    assert adjusted_rand_score(peer.predict(x), pc.predict(story, x)) > 0.95
    torch.testing.assert_close(
        pc.sample(story, 20_000, seed=0)["x"].mean(0).double(), torch.as_tensor(x.mean(0)), atol=0.3, rtol=0
    )


def test_svi_alone_climbs_to_scikit_learns_likelihood():
    x, _ = rows()
    story = GaussianMixture(3, 4, covariance_type="diag")
    story.loc.data = torch.as_tensor(x[:: len(x) // 4][:4]).float() * 0.5
    before = pc.elbo(story, x).mean()
    record = pc.fit(story, x, recipe=[pc.SVI(epochs=150, learning_rate=0.05)])
    assert record.bound > before
    assert record.losses()[-1] < record.losses()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"covariance_type": "tied"}, "covariance_type must be 'full', 'diag' or 'spherical', got 'tied'"),
        ({"reg_covar": 0.0}, "reg_covar must be positive"),
        ({"n_clusters": 0}, "n_clusters must be an integer of at least 1, got 0"),
        ({"n_features": 2.5}, r"n_features must be an integer of at least 1, got 2\.5"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**{"n_features": 2, "n_clusters": 3} | arguments)


def test_deviations_stay_above_their_floor():
    story = GaussianMixture(2, 2, "diag", reg_covar=1e-4)
    story.raw_scale.data.fill_(-100.0)
    assert (story.scale >= 0.5e-2).all()
    assert torch.isfinite(pc.log_joint(story, torch.zeros(3, 2))).all()


def test_restarts_draw_starts_of_their_own():
    x = pc.data.blobs(n_rows=60, n_features=2, n_clusters=4, separation=2.0, seed=5).x
    story = pc.models.GaussianMixture(2, 4)
    record = pc.fit(story, x, n_init=3, epochs=1)
    assert len(set(record.bounds)) > 1
    assert record.bound == max(record.bounds)
