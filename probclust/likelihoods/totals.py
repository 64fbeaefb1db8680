"""Rows of counts told in two steps: first the row's total, then the counts given the total."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor, nn

from probclust.likelihoods.real import GAIN
from probclust.recorded import Part


class Totals(Part):
    """Total ~ NegativeBinomial, with a learned mean and dispersion, the same for all rows and clusters.

    Args:
        start: mean at the start.
    """

    def __init__(self, start: float) -> None:
        super().__init__()
        self.raw_mean = nn.Parameter(torch.tensor(math.log(start) / GAIN))
        self.raw_dispersion = nn.Parameter(torch.zeros(()))

    def forward(self) -> Any:
        """Distribution of a row's total: batch and event shape ()."""
        log_dispersion = GAIN * self.raw_dispersion
        return dist.NegativeBinomial(log_dispersion.exp(), logits=GAIN * self.raw_mean - log_dispersion)


class GivenTotal(TorchDistribution):
    """p(total) p(x | total), event shape (D,): the counts' distribution is built from the row's total.

    Args:
        totals: distribution of a total, batch and event shape ().
        given: (..., 1) totals to the distribution of rows, event shape (D,).
        shape: batch shape of the outputs that `given` stands on, then D.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's interface)
    support = constraints.nonnegative_integer

    def __init__(self, totals: Any, given: Callable[[Tensor], Any], shape: Size) -> None:
        self.totals, self.given = totals, given
        super().__init__(shape[:-1], shape[-1:])

    def expand(self, batch_shape: Any, _instance: Any = None) -> GivenTotal:
        """The same distribution with a larger batch."""
        return GivenTotal(self.totals, self.given, Size((*batch_shape, *self.event_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of (..., D) counts, (...), in nats."""
        total = value.sum(-1, keepdim=True)
        return self.totals.log_prob(total.squeeze(-1)) + self.given(total).log_prob(value)

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """Draws, (*sample_shape, *batch, D): a total for each row, then its counts."""
        with torch.no_grad():
            total = self.totals.sample(self._extended_shape(Size(sample_shape))[:-1])
            return self.given(total[..., None]).sample()

    @property
    def mean(self) -> Tensor:
        """(*batch, D): of a row of mean total."""
        return self.given(self.totals.mean.reshape(1)).mean.expand(self.batch_shape + self.event_shape)
