"""MyPrior: a density, drawn as it is scored, under its name in a story."""

from __future__ import annotations

import torch
from scipy.stats import kstest

from probclust.models import VaDE
from probclust.priors import prior_named
from probclust.priors.my_prior import MyPrior
from probclust.testing import check_story

CLUSTERS = torch.arange(3)[:, None]


def test_each_cluster_has_a_density_that_integrates_to_1(float64):
    prior = MyPrior(1, 3)
    z = torch.linspace(-60, 60, 200_001)[:, None]
    mass = torch.trapezoid(prior.density(CLUSTERS).log_prob(z).exp(), z[:, 0], dim=1)
    torch.testing.assert_close(mass, torch.ones(3), atol=1e-6, rtol=0)


def test_draws_follow_the_density(float64):
    """Kolmogorov and Smirnov, 2,000 draws: false alarms once in a million. Where `density` is another, this fails."""
    prior, z = MyPrior(1, 3), torch.linspace(-60, 60, 200_001)
    for k in range(3):
        law = prior.density(torch.tensor(k))
        draws = law.sample((2_000,))[:, 0]
        below = law.log_prob(z[:, None]).exp().cumsum(0) * (z[1] - z[0])  # the distribution function, on a grid
        assert kstest(below[torch.searchsorted(z, draws)].detach().numpy(), "uniform").pvalue > 1e-6


def test_it_starts_where_the_codes_are():
    prior, labels = MyPrior(2, 3), torch.arange(300) % 3
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    prior.start(centres[labels] + 0.1 * torch.randn(300, 2), labels)
    torch.testing.assert_close(prior.loc.detach(), centres, atol=0.1, rtol=0)
    assert prior.density(CLUSTERS).log_prob(centres).argmax(0).tolist() == [0, 1, 2]


def test_stories_take_it_by_name():
    assert isinstance(prior_named("my_prior", 2, 3), MyPrior)
    assert check_story(lambda: VaDE(4, 3, 2, hidden=(8,), prior="my_prior"), torch.rand(40, 4)) == {}
