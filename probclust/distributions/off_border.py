"""Transforms whose values stay off the border of a support, where some densities are infinite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Transform, biject_to, constraints


def inside(support: Any) -> Any:
    """The transform from real numbers to a support; values that must be positive are never 0, but for rounding."""
    transform = biject_to(support)
    base = support
    while isinstance(base, constraints.independent):
        base = base.base_constraint
    has_border_at_zero = base is constraints.simplex or getattr(base, "lower_bound", None) == 0
    return OffBorder(transform) if has_border_at_zero else transform


class OffBorder(Transform):
    """A bijection to positive numbers or a simplex whose values are at least the smallest normal number.

    Args:
        base: the bijection.
        cache_size: as torch's transforms have it. With 1, the inverse of the last value is what it came from, to the
            last digit.
    """

    bijective = True

    def __init__(self, base: Any, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.base = base
        self.domain, self.codomain = base.domain, base.codomain

    def with_cache(self, cache_size: int = 1) -> OffBorder:
        """The same transform with another size of cache."""
        return OffBorder(self.base, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        return self.base(x).clamp(min=torch.finfo(x.dtype).tiny)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.base.inv(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Of the base."""
        return self.base.log_abs_det_jacobian(x, y)

    def forward_shape(self, shape: Any) -> Size:
        """Of the base."""
        return self.base.forward_shape(shape)

    def inverse_shape(self, shape: Any) -> Size:
        """Of the base."""
        return self.base.inverse_shape(shape)
