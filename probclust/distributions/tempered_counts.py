"""Single counts at a temperature."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor


class TemperedCounts(dist.TorchDistribution):
    """A distribution of single counts to the power 1 / T, drawn by Gumbel maxima over all counts within reach.

    The reach is the mean and 12 standard deviations (times T where that is above 1) on both sides, and 0.

    Args:
        fn: a distribution over whole numbers, event shape ().
        temperature: T.
    """

    arg_constraints = {}  # noqa: RUF012 (torch's interface)
    deviations = 12.0

    def __init__(self, fn: Any, temperature: float) -> None:
        self.fn, self.temperature = fn, temperature
        super().__init__(fn.batch_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """That of `fn`."""
        return self.fn.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> TemperedCounts:
        """The same distribution with a larger batch."""
        return TemperedCounts(self.fn.expand(batch_shape), self.temperature)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density to the power 1 / T, not normalised."""
        return self.fn.log_prob(value) / self.temperature

    @torch.no_grad()
    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """(*sample_shape, *batch) draws."""
        shape = self._extended_shape(Size(sample_shape))
        reach = self.deviations * self.fn.variance.sqrt() * max(1.0, self.temperature) + self.deviations
        low = (self.fn.mean - reach).floor().clamp(min=0).expand(shape)
        best, found = torch.full_like(low, -torch.inf), low.clone()
        for step in range(int(2 * reach.max()) + 1):
            value = low + step
            inside = self.support.check(value)
            log_weight = self.log_prob(torch.where(inside, value, low)).where(inside, -torch.inf)
            score = log_weight - torch.empty_like(value).exponential_().log()
            better = score > best
            best, found = torch.where(better, score, best), torch.where(better, value, found)
        return found
