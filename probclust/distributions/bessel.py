"""The modified Bessel function I, in logarithms, as the normaliser of directions needs it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ENOUGH = 20
"""Order from which four terms of the expansion are right to 1e-9."""


def log_bessel(order: float, x: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of the scaled Bessel function, and the ratio of two neighbours.

    The uniform expansion for large orders (DLMF 10.41.3, terms 10.41.10) at an order of at least 20, followed from
    there downwards by the recurrence, which is stable in that direction. The factor x^order is taken out by hand, so
    that nothing cancels at x = 0 or for large x; autograd goes through. Computed in float64 where there is any (the
    ratio is a difference of logarithms, and x has an entry for each cluster only).

    Args:
        order: at least 0.
        x: (...) numbers, at least 0.

    Returns:
        (...) log(exp(-x) I_order(x) / x^order), and (...) I_{order + 1}(x) / I_order(x).
    """
    dtype, x = x.dtype, x if x.device.type == "mps" else x.double()
    steps = max(1, math.ceil(_ENOUGH - order))
    value = _expansion(order + steps, x)
    times_x = x.square() * (_expansion(order + steps + 1, x) - value).exp()  # x times the ratio
    ratio = torch.zeros_like(x)
    for step in range(steps, 0, -1):
        denominator = 2 * (order + step) + times_x
        value, ratio = value + denominator.log(), x / denominator
        times_x = x * ratio
    return value.to(dtype), ratio.to(dtype)


def _expansion(order: float, x: Tensor) -> Tensor:
    """log(exp(-x) I_order(x) / x^order) for large orders."""
    z = x / order
    s = (1 + z.square()).sqrt()
    p, q = 1 / s, 1 / s.square()
    terms = (
        p / order * (3 - 5 * q) / 24,
        (p / order) ** 2 * (81 + q * (-462 + 385 * q)) / 1152,
        (p / order) ** 3 * (30375 + q * (-369603 + q * (765765 - 425425 * q))) / 414720,
        (p / order) ** 4 * (4465125 + q * (-94121676 + q * (349922430 + q * (-446185740 + 185910725 * q)))) / 39813120,
    )
    series = torch.log1p(terms[3] + terms[2] + terms[1] + terms[0])
    constant = -order * math.log(order) - 0.5 * math.log(2 * math.pi * order)
    return order / (s + z) - order * torch.log1p(s) - 0.5 * s.log() + constant + series
