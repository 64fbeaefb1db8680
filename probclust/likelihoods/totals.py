"""Rows of counts told in two steps: first the row's total, then the counts given the total."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import digamma
from torch import Tensor, nn

from probclust.distributions.base import laws_of
from probclust.distributions.counts import NegativeBinomial
from probclust.distributions.given_total import GivenTotal
from probclust.likelihoods.real import GAIN
from probclust.part import Part

LARGEST_LOG_DISPERSION = 24.0
"""Dispersions are kept within exp of this and of minus this: there, counts are Poisson's, or all in one row."""


def bounded(value: Tensor, low: float, high: float) -> Tensor:
    """`value` within bounds; its gradient outside is that at the bound, so that what drifted there comes back."""
    return value.clamp(low, high).detach() + (value - value.detach())


class Totals(Part):
    """Total ~ NegativeBinomial, the same for all rows and clusters.

    `pc.fit` learns it from the totals of all rows before its first step (`learn`), whatever the story; its parameters
    are then left alone. In a training loop of your own they are parameters like others, and better learnt at once.

    Args:
        start: mean at the start.
    """

    def __init__(self, start: float) -> None:
        super().__init__()
        self.raw_mean = nn.Parameter(torch.tensor(math.log(start) / GAIN))
        self.raw_dispersion = nn.Parameter(torch.zeros(()))
        self.is_learnt = False

    def forward(self) -> Any:
        """Distribution of a row's total: batch and event shape ()."""
        log_dispersion = bounded(GAIN * self.raw_dispersion, -LARGEST_LOG_DISPERSION, LARGEST_LOG_DISPERSION)
        return NegativeBinomial(GAIN * self.raw_mean, log_dispersion)

    @torch.no_grad()
    def learn(self, totals: Tensor) -> None:
        """Take the likeliest mean and dispersion of (rows,) totals, and no gradients any more.

        The mean is that of the totals, the dispersion one root. Parameters that the user froze stay as they are.
        """
        if not (self.is_learnt or self.raw_mean.requires_grad):
            return
        values, counts = np.unique(totals.double().cpu().numpy(), return_counts=True)
        mean = max(float(np.average(values, weights=counts)), 1e-6)
        log_dispersion = min(_log_dispersion(values, counts, mean), LARGEST_LOG_DISPERSION)
        self.raw_mean.fill_(math.log(mean) / GAIN).requires_grad_(False)
        self.raw_dispersion.fill_(log_dispersion / GAIN).requires_grad_(False)
        self.is_learnt = True

    def view(self, x: Tensor) -> Tensor:
        """(rows, n_features) log(1 + x), of rows scaled to the mean total: a row's depth is not seen."""
        x = x.clamp(min=0)
        total = x.sum(-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        return (x / total * (GAIN * self.raw_mean.detach()).exp()).log1p()


def _log_dispersion(values: Any, counts: Any, mean: float) -> float:
    """The logarithm of the likeliest r of counts of this mean; infinite where they vary no more than Poisson's."""
    surplus = float(np.average((values - mean) ** 2, weights=counts)) - mean
    if surplus <= 0:
        return math.inf

    def slope(log_r: float) -> float:
        r = math.exp(log_r)
        return float(np.average(digamma(values + r), weights=counts) - digamma(r) - math.log1p(mean / r))

    first = math.log(mean**2 / surplus)  # that of the totals' variance
    low, high = first - 10, first + 10
    return float(brentq(slope, low, high)) if slope(low) > 0 > slope(high) else first


def totals_in(fn: Any, value: Tensor) -> Iterator[tuple[Totals, Tensor]]:
    """The (rows,) totals that an observed site's (rows, D) value has under `fn`, and what is to be learnt of them."""
    for columns, law in laws_of(fn):
        if isinstance(law, GivenTotal):
            yield law.totals, (value if columns is None else value[..., columns]).sum(-1)
