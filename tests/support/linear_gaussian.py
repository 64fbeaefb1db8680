"""The story with a known answer: a mixture of factor analysers, whose likelihood has a closed form."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from tests.support.stories import FactorAnalysers


def linear_gaussian(build=FactorAnalysers, spread=1.0, seed=0):
    """A mixture of factor analysers whose guide is the exact posterior, its scale multiplied by `spread`."""
    torch.manual_seed(seed)
    story = build(4, 3)
    with torch.no_grad():
        story.loading.copy_(torch.linalg.qr(torch.randn(3, 4, 2)).Q * torch.tensor([1.5, 0.8]))
        noise = (2 * story.log_noise[0]).exp()
        precision = 1 + story.loading.square().sum(1) / noise  # diagonal, as the loadings are orthogonal
        story.encoder.copy_(story.loading.mT / noise / precision[..., None])
        story.log_scale.copy_(precision.rsqrt().log() + math.log(spread))
        story.loc.mul_(3)
    return story


def exact_log_likelihood(story, x):
    noise = (2 * story.log_noise).exp().diag()
    columns = [
        multivariate_normal.logpdf(x, loc.detach(), (a @ a.T + noise).detach()) + weight
        for loc, a, weight in zip(story.loc, story.loading, story.logits.log_softmax(0).tolist(), strict=True)
    ]
    return logsumexp(np.stack(columns), axis=0)
