"""The inverse of softplus, for parameters that start at a given value."""

from __future__ import annotations

import torch
from torch import Tensor


def inverse_softplus(value: Tensor) -> Tensor:
    """The number whose softplus is `value`, for positive values; tiny ones are raised to 1e-8."""
    value = value.clamp(min=1e-8)
    return value + torch.log(-torch.expm1(-value))
