"""Counts told in two steps: the row's total, then the counts given the total."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

from probclust.distributions.base import base_of
from probclust.distributions.incomplete_counts import IncompleteCounts
from probclust.distributions.tempered import tempered


class GivenTotal(TorchDistribution):
    """p(total) p(x | total), event shape (D,): the counts' distribution is built from the row's total.

    Args:
        totals: called without arguments, gives the distribution of a row's total, batch and event shape ().
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
        totals: Any,
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

    def tempered(self, temperature: float) -> GivenTotal:
        """The counts at a temperature; the total keeps its distribution."""

        def given(total: Tensor) -> Any:
            return tempered(self.given(total), temperature)

        return GivenTotal(self.totals, given, Size((*self.batch_shape, *self.event_shape)), self.keeps_total)

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
    """The distribution, masks aside, of rows with the totals of `value`, (rows, D); `fn` where it tells no totals."""
    law = base_of(fn)
    if isinstance(law, GivenTotal):
        return law.given(value.sum(-1, keepdim=True))
    if hasattr(law, "blocks"):
        parts = zip(law.columns, law.blocks, strict=True)
        return type(law)(law.columns, [given_totals(block, value[..., columns]) for columns, block in parts])
    return fn
