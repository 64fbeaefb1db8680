"""Rows of counts told in two steps: first the row's total, then the counts given the total."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from pyro.distributions import TorchDistribution, constraints
from scipy.optimize import brentq
from scipy.special import digamma
from torch import Size, Tensor, nn

from probclust.count_distributions import NegativeBinomial
from probclust.likelihoods.incomplete_counts import IncompleteCounts
from probclust.likelihoods.real import GAIN
from probclust.recorded import Part

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


class GivenTotal(TorchDistribution):
    """p(total) p(x | total), event shape (D,): the counts' distribution is built from the row's total.

    Args:
        totals: of all rows.
        given: (..., 1) totals to the distribution of rows, event shape (D,).
        shape: batch shape of the outputs that `given` stands on, then D.
        keeps_total: whether counts given a total always have it, so that this is a probability; else they have it on
            average, and this is a lower bound on one.
        sized: (..., 1) to the distribution of rows whose total is that on average, independent features; None where
            `given` is that.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's interface)
    support = constraints.nonnegative_integer

    def __init__(
        self,
        totals: Totals,
        given: Callable[[Tensor], Any],
        shape: Size,
        keeps_total: bool,
        sized: Callable[[Tensor], Any] | None = None,
    ) -> None:
        self.totals, self.given, self.keeps_total, self.sized = totals, given, keeps_total, sized or given
        super().__init__(shape[:-1], shape[-1:])

    def expand(self, batch_shape: Any, _instance: Any = None) -> GivenTotal:
        """The same distribution with a larger batch."""
        shape = Size((*batch_shape, *self.event_shape))
        return GivenTotal(self.totals, self.given, shape, self.keeps_total, self.sized)

    def incomplete(self) -> IncompleteCounts:
        """The same distribution, for rows whose NaN entries are missing, and to be drawn."""
        return IncompleteCounts(self, self.totals(), self.sized)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of (..., D) counts, (...), in nats."""
        total = value.sum(-1, keepdim=True)
        return self.totals().log_prob(total.squeeze(-1)) + self.given(total).log_prob(value)

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """Draws, (*sample_shape, *batch, D): a total for each row, then its counts."""
        with torch.no_grad():
            total = self.totals().sample(self._extended_shape(Size(sample_shape))[:-1])
            return self.given(total[..., None]).sample()

    @property
    def mean(self) -> Tensor:
        """(*batch, D): of a row of mean total."""
        return self.given(self.totals().mean.reshape(1)).mean.expand(self.batch_shape + self.event_shape)


def given_totals(fn: Any, value: Tensor) -> Any:
    """The distribution of rows that have the totals of `value`, (rows, D); `fn` itself where it tells no totals."""
    if isinstance(fn, GivenTotal):
        return fn.given(value.sum(-1, keepdim=True))
    if hasattr(fn, "blocks"):
        parts = zip(fn.columns, fn.blocks, strict=True)
        return type(fn)(fn.columns, [given_totals(block, value[..., columns]) for columns, block in parts])
    return fn


def totals_in(fn: Any, value: Tensor) -> Iterator[tuple[Totals, Tensor]]:
    """The (rows,) totals that an observed site's (rows, D) value has under `fn`, and what is to be learnt of them."""
    if isinstance(fn, GivenTotal):
        yield fn.totals, value.sum(-1)
    elif hasattr(fn, "blocks"):
        for columns, block in zip(fn.columns, fn.blocks, strict=True):
            yield from totals_in(block, value[..., columns])
    elif hasattr(fn, "base_dist"):
        yield from totals_in(fn.base_dist, value)
