"""The importance-weighted bound and its diagnostics, against their formulas from the same draws."""

from __future__ import annotations

import math

import pytest
import torch

import probclust as pc
from probclust.story.chunks import evaluating
from probclust.story.importance import importance_bound
from probclust.story.scoring import log_weights
from tests.support.linear_gaussian import exact_log_likelihood, linear_gaussian
from tests.support.stories import CASES, LATENT, FactorAnalysers, Poissons


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("particles", [2, 5])
def test_bound_gain_and_effective_sample_size_are_their_formulas(particles):
    story, x = FactorAnalysers(4, 3), torch.randn(6, 4)
    with evaluating(story, 3):
        weights = torch.stack(list(log_weights(story, x, particles)))
    found = importance_bound(story, x, particles, seed=3)
    bound = weights.exp().mean(0).log()
    torch.testing.assert_close(found.bound, bound)
    half = particles // 2
    halves = (weights[:half].exp().mean(0).log() + weights[half : 2 * half].exp().mean(0).log()) / 2
    torch.testing.assert_close(found.gain, bound - halves)
    torch.testing.assert_close(found.ess, weights.exp().sum(0).square() / weights.exp().square().sum(0))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_log_likelihood(case):
    story, x = case.build(), case.rows()
    found = importance_bound(story, x, 3, seed=1)
    torch.testing.assert_close(found.bound, pc.log_likelihood(story, x, 3, seed=1).double())
    assert found.particles == (3 if case.name in LATENT or case.name == "bayesian-normal" else 1)


def test_an_exact_bound_gains_nothing_and_one_particle_tells_nothing():
    exact = importance_bound(Poissons(4, 2), torch.ones(5, 4), particles=9)
    assert (exact.particles, exact.gain.tolist(), exact.ess.tolist()) == (1, [0.0] * 5, [1.0] * 5)
    single = importance_bound(FactorAnalysers(4, 2), torch.ones(5, 4), particles=1)
    assert all(math.isnan(value) for value in single.gain)


@pytest.mark.usefixtures("float64")
def test_the_gain_is_what_is_missing_once_there_are_many_particles():
    """Where the gap falls as 1 / S; the mean over 3 seeds of the ratio has a standard error of about a fifth."""
    story = linear_gaussian(spread=1.4)
    x = pc.sample(story, 2000, seed=1)["x"]
    found = [importance_bound(story, x, particles=16, seed=seed) for seed in range(3)]
    missing = exact_log_likelihood(story, x).mean() - torch.stack([one.bound.mean() for one in found]).mean()
    gain = torch.stack([one.gain.mean() for one in found]).mean()
    assert 0.5 < float(missing / gain) < 1.5
