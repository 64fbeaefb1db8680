"""MyObjective in its place among the bounds, and under its name in a fit."""

from __future__ import annotations

import torch

import probclust as pc
from probclust.models import GaussianMixture
from probclust.objectives import Exact, Hard, objective_named
from probclust.objectives.my_objective import MyObjective
from probclust.testing import check_story


def bound(objective, story, x):
    return -objective.loss(story.model, story.complete_guide, x) / len(x)


def test_it_lies_between_the_hard_and_the_exact_bound(float64):
    story, x = GaussianMixture(2, 3), torch.randn(50, 2)
    assert bound(Hard(), story, x) < bound(MyObjective(), story, x) < bound(Exact(), story, x)


def test_gradients_are_those_of_finite_differences(float64):
    story, x = GaussianMixture(2, 3), torch.randn(20, 2)
    MyObjective().loss_and_grads(story.model, story.complete_guide, x)
    for parameter in story.parameters():
        place = tuple([0] * parameter.dim())
        with torch.no_grad():
            losses = []
            for step in (1e-5, -2e-5):
                parameter[place] += step
                losses.append(MyObjective().loss(story.model, story.complete_guide, x))
            parameter[place] += 1e-5
        slope = torch.tensor((losses[0] - losses[1]) / 2e-5)
        torch.testing.assert_close(parameter.grad[place], slope, rtol=1e-5, atol=1e-6)


def test_fits_take_it_by_name():
    assert isinstance(objective_named("my-objective"), MyObjective)
    data = pc.data.blobs(200, n_features=2, n_clusters=3, separation=8.0, seed=0)
    story = GaussianMixture(2, 3)
    pc.fit(story, data.x, objective="my-objective", seed=0)
    assert pc.metrics.accuracy(data.y, pc.predict(story, data.x)) > 0.98
    assert check_story(lambda: GaussianMixture(2, 3), data.x[:40], objective="my-objective") == {}
