"""Distributions of whole rows, and scores that have no density."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor


class UnitLength(constraints._Sphere):
    """The unit sphere, to within the rounding of stored data."""

    tolerance = 1e-4

    def check(self, value: Tensor) -> Tensor:
        """Whether rows have length 1."""
        return (value.norm(dim=-1) - 1).abs() < self.tolerance

    def __repr__(self) -> str:
        return "rows of length 1; divide each row by its length, as sklearn.preprocessing.normalize does"


class RowDistribution(TorchDistribution):
    """Base: a `loc` of shape (..., D), and one positive number for each of the batch.

    Args:
        loc: (..., D).
        rate: (...), broadcast against the batch of `loc`.
        validate_args: check the parameters.
    """

    def __init__(self, loc: Tensor, rate: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self._rate = loc, rate
        batch = torch.broadcast_shapes(loc.shape[:-1], rate.shape)
        super().__init__(batch, loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution with a larger batch."""
        new = copy.copy(self)
        new._batch_shape = torch.broadcast_shapes(self.batch_shape, Size(batch_shape))
        return new

    @property
    def mode(self) -> Tensor:
        """(*batch, D): `loc`."""
        return self.loc.expand(*self.batch_shape, -1)

    def _per_row(self, value: Tensor, log_prob: Tensor) -> Tensor:
        return log_prob.expand(torch.broadcast_shapes(self.batch_shape, value.shape[:-1]))

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """Draws without a gradient, (*sample_shape, *batch, D)."""
        with torch.no_grad():
            return self.rsample(sample_shape)


class Score(RowDistribution):
    """log p(x) = -rate * energy(x, loc), with no normaliser: a score and no density, so it cannot be drawn from.

    Args:
        energy: takes (..., D) rows and (..., D) centres that broadcast, to (...).
        loc: (..., D).
        rate: (...).
        validate_args: check the parameters.
    """

    arg_constraints = {"loc": constraints.real_vector, "rate": constraints.positive}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(
        self,
        energy: Callable[[Tensor, Tensor], Tensor],
        loc: Tensor,
        rate: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.energy, self.rate = energy, rate
        super().__init__(loc, rate, validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """The score of (..., D) rows."""
        return self._per_row(value, -self.rate * self.energy(value, self.loc))

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """There is none."""
        raise NotImplementedError(
            "a custom dissimilarity has no normaliser, so there is no distribution to draw from; use one of "
            "probclust.dissimilarities, or pc.reconstruct for the centres"
        )

    @property
    def mean(self) -> Tensor:
        """The centres, (*batch, D)."""
        return self.loc.expand(*self.batch_shape, -1)
