"""SVI steps that go on from what an earlier step of the same fit found: they never end below it."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from sklearn.datasets import load_breast_cancer
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.preprocessing import StandardScaler
from torch import nn

import probclust as pc
from probclust.models import GaussianMixture
from tests.support.stopping import stopped_after


def blobs(n_rows=150, n_features=100):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, n_rows)
    return rng.normal(size=(n_rows, n_features)) + 15 * np.eye(n_features)[y]


TABLES = {
    "blobs": (blobs(), 3),
    "0/1": ((np.random.default_rng(0).random((400, 200)) < 0.05) * 1.0, 3),
    "cancer": (StandardScaler().fit_transform(load_breast_cancer().data), 12),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
@pytest.mark.parametrize("name", TABLES)
def test_the_default_mixture_is_as_likely_as_scikit_learns(name):
    x, n_clusters = TABLES[name]
    story = GaussianMixture(x.shape[1], n_clusters)
    record = pc.fit(story, x, seed=0)
    expected = SklearnMixture(n_clusters, random_state=0).fit(x).score(x)
    assert record.bound > expected - 0.01
    assert float(pc.log_likelihood(story, x).mean()) == pytest.approx(record.bound, abs=1e-3)


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
@pytest.mark.parametrize("arguments", [{"weights": "dirichlet"}, {"weights": "uniform"}, {"missing": True}], ids=str)
def test_the_same_holds_of_other_mixtures(arguments):
    x, n_clusters = TABLES["0/1"]
    if "missing" in arguments:
        x = np.where(np.random.default_rng(3).random(x.shape) < 0.05, np.nan, x)
    story = GaussianMixture(x.shape[1], n_clusters, **arguments)
    em = pc.fit(story, x, recipe=story.recipe()[:1]).bound
    assert pc.fit(story, x).bound >= em


SPOILS = pc.SVI(epochs=2, learning_rate=3.0, schedule="constant")


class Enumerated(TraceEnum_ELBO):
    """Pyro's own bound."""

    def differentiable_loss(self, model, guide, x):
        return super().differentiable_loss(config_enumerate(model), guide, x)


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
@pytest.mark.parametrize("objective", ["exact", "hard", "importance", Enumerated(max_plate_nesting=1)])
@pytest.mark.parametrize("n_init", [1, 2])
def test_a_step_that_spoils_its_own_bound_is_undone(objective, n_init):
    x = blobs(90, 4)
    first, both = GaussianMixture(4, 3), GaussianMixture(4, 3)
    both.load_state_dict(first.state_dict())
    pc.fit(first, x, recipe=first.recipe()[:1])
    record = pc.fit(both, x, recipe=[both.recipe()[0], SPOILS], objective=objective, n_init=n_init)
    assert all(entry.get("undone", False) == (entry["epoch"] == 1) for entry in record.history)
    if n_init == 1:
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), both.parameters(), strict=True))
    assert record.bound == pytest.approx(float(pc.elbo(both, x).mean()), abs=1e-5)


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
def test_steps_before_it_may_be_training_too():
    x = blobs(90, 4)
    story = GaussianMixture(4, 3, "diag")
    good = pc.SVI(name="good", epochs=40, learning_rate=0.2)
    alone = GaussianMixture(4, 3, "diag")
    alone.load_state_dict(story.state_dict())
    expected = pc.fit(alone, x, recipe=[good]).bound
    assert pc.fit(story, x, recipe=[good, SPOILS]).bound == expected


def test_known_clusters_count_in_what_is_compared():
    x = blobs(90, 4)
    y = np.full(90, -1)
    y[:30] = np.arange(30) % 3  # against the blobs
    story = GaussianMixture(4, 3)
    em, svi = story.recipe()
    pc.fit(story, x, y, recipe=[em])

    def bound():
        joint = pc.log_joint(story, x)
        known = joint.gather(1, torch.as_tensor(y).clamp(min=0)[:, None]).squeeze(1)
        return float(torch.where(torch.as_tensor(y) >= 0, known, joint.logsumexp(1)).mean())

    before = bound()
    pc.fit(story, x, y, recipe=[em, SPOILS])
    assert bound() == before
    pc.fit(story, x, y, recipe=[em, svi])
    assert bound() >= before


def test_what_gains_is_kept():
    x = blobs(90, 4)
    story = GaussianMixture(4, 3)
    em, _ = story.recipe()
    before = pc.fit(story, x, recipe=[em]).bound
    story.loc.data += 0.3
    start = float(pc.elbo(story, x).mean())
    keep = pc.Compute(name="as it is", run=lambda run: None)
    record = pc.fit(story, x, recipe=[keep, pc.SVI(epochs=20, learning_rate=1e-2)])
    assert start < record.bound < before + 0.1
    assert not any("undone" in entry for entry in record.history)


def test_a_step_that_breaks_leaves_what_came_before_it():
    x = blobs(90, 4)
    story = GaussianMixture(4, 3)
    em, _ = story.recipe()
    expected = pc.fit(story, x, recipe=[em]).bound
    with pytest.warns(pc.FitWarning, match=r"step 'svi', epoch \d+, batch \d+: .* not finite.*; the step was ended"):
        record = pc.fit(story, x, recipe=[em, pc.SVI(epochs=5, learning_rate=1e30)])
    assert record.bound == expected
    with pytest.raises(pc.NonFiniteError, match="step 'svi'"):  # nothing came before it
        pc.fit(story, x, recipe=[pc.SVI(epochs=5, learning_rate=1e30)])


class Factored(pc.Story):
    """Its covariance is no longer positive definite once it is trained."""

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.covariance = nn.Parameter(torch.eye(n_features))

    def model(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", dist.MultivariateNormal(torch.zeros(self.n_features), self.covariance), obs=x)

    def guide(self, x):
        pass


def test_a_factorisation_that_fails_is_told_with_its_step():
    with pytest.raises(pc.NonFiniteError, match=r"step 'svi', epoch \d+: linalg.cholesky.*Lower the learning"):
        pc.fit(Factored(4, 2), blobs(90, 4), epochs=5, learning_rate=1.0)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_fit_that_was_stopped_in_such_a_step_ends_where_the_unbroken_one_does(epochs, tmp_path, monkeypatch):
    x = blobs(90, 4)
    whole, broken = GaussianMixture(4, 3), GaussianMixture(4, 3)
    start = {name: value.clone() for name, value in whole.state_dict().items()}
    recipe = [whole.recipe()[0], pc.SVI(epochs=3, learning_rate=3.0)]
    pc.fit(whole, x, recipe=recipe)
    recipe = [broken.recipe()[0], recipe[1]]
    broken.load_state_dict(start)
    with stopped_after(epochs, monkeypatch):
        pc.fit(broken, x, recipe=recipe, checkpoint=tmp_path / "fit")
    again = GaussianMixture(4, 3)
    pc.fit(again, x, recipe=[again.recipe()[0], recipe[1]], checkpoint=tmp_path / "fit", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
