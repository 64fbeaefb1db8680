"""The normal distribution of a row with independent features, at the cost of one pass over the row."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import Normal, TorchDistribution, constraints
from torch import Size, Tensor

from probclust.distributions.observed import ObservedFeatures

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class DiagonalNormal(TorchDistribution):
    """Normal(loc, diag(scale^2)), event shape (D,): `pyro.distributions.Normal(loc, scale).to_event(1)`, faster.

    The scale is not copied to the shape of `loc`, so that its logarithm and its square are taken once for each number
    that it holds. With one learned scale for all features of (K, rows, D) decoder outputs that saves most of the work.

    Args:
        loc: (..., D) means.
        scale: standard deviations, of a shape that broadcasts to that of `loc`: (1,), (D,), (..., D).
        validate_args: check the parameters.
    """

    arg_constraints = {"loc": constraints.real_vector, "scale": constraints.positive}  # noqa: RUF012 (torch's interface)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = loc, scale
        shape = torch.broadcast_shapes(loc.shape, scale.shape)
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiagonalNormal:
        """The same distribution with a larger batch."""
        return DiagonalNormal(self.loc.expand(*batch_shape, -1), self.scale, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of (..., D) rows, (...), in nats."""
        n = self.event_shape[0]
        log_scale = self.scale.log().sum(-1) * (n // self.scale.shape[-1])
        if self.scale.shape[-1] == 1:
            squares = _square(value - self.loc).sum(-1) / self.scale.square().squeeze(-1)
        else:
            squares = _square((value - self.loc) / self.scale).sum(-1)
        return -0.5 * squares - log_scale - n * HALF_LOG_2PI

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """Draws with a gradient, (*sample_shape, *batch, D)."""
        shape = self._extended_shape(Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.scale * noise

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """Draws without a gradient, (*sample_shape, *batch, D)."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def observed(self) -> ObservedFeatures:
        """The distribution of rows whose NaN entries are unobserved."""
        return ObservedFeatures(Normal(self.loc, self.scale))

    def tempered(self, temperature: float) -> DiagonalNormal:
        """The density to the power 1 / T, normalised."""
        return DiagonalNormal(self.loc, self.scale * temperature**0.5).expand(self.batch_shape)

    @property
    def mean(self) -> Tensor:
        """(*batch, D)."""
        return self.loc.expand(self.batch_shape + self.event_shape)

    @property
    def mode(self) -> Tensor:
        """(*batch, D), the mean."""
        return self.mean

    @property
    def variance(self) -> Tensor:
        """(*batch, D)."""
        return self.scale.square().expand(self.batch_shape + self.event_shape)


def _square(fresh: Tensor) -> Tensor:
    """Squares of a tensor that nothing else uses, in its place where no gradient is wanted."""
    return fresh.square() if fresh.requires_grad else fresh.square_()
