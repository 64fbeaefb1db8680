"""MyLikelihood against scipy, and under its name in a story."""

from __future__ import annotations

import torch
from scipy.stats import gumbel_r

from probclust.likelihoods import likelihood_named
from probclust.likelihoods.my_likelihood import MyLikelihood
from probclust.models import VaDE
from probclust.testing import check_story


def test_the_density_is_scipys(float64):
    likelihood, outputs, x = MyLikelihood(3, floor=0.1), torch.randn(5, 6), torch.randn(5, 3)
    scale = 0.1 + torch.nn.functional.softplus(outputs[:, 3:])
    expected = gumbel_r.logpdf(x.numpy(), outputs[:, :3].numpy(), scale.numpy()).sum(1)
    torch.testing.assert_close(likelihood(outputs).log_prob(x), torch.as_tensor(expected))


def test_stories_take_it_by_name():
    assert isinstance(likelihood_named("my-likelihood", 4), MyLikelihood)
    skipped = check_story(lambda: VaDE(4, 3, 2, hidden=(8,), likelihood="my-likelihood"), torch.rand(40, 4))
    assert skipped.keys() <= {"pc.modes"}  # at a temperature: register its form in `probclust.distributions.tempered`
