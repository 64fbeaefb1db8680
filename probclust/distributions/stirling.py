"""Parts of log factorials, and deviances, that keep their digits for large numbers.

Source: C. Loader, "Fast and accurate computation of binomial probabilities", 2000.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST = 8
"""Stirling's series is used at numbers of at least this, where five terms give 13 digits."""


def log_factorial_rest(n: Tensor) -> Tensor:
    """What log n! is above n log n - n, for real n >= 0: 0 at 0, about half of log(2 pi n) for large n."""
    n = n.clamp(min=1e-30)
    w = torch.where(n < LEAST, n + LEAST, n)
    part = 1 / w
    square = part * part
    series = part * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188))))
    ratios = 1 - part
    for i in range(2, LEAST):  # of (n + 1) ... (n + LEAST - 1) to powers of n + LEAST
        ratios = ratios * (1 - i * part)
    from_shift = n * (LEAST / n).log1p() - LEAST - ratios.log()
    return 0.5 * (2 * math.pi * w).log() + series + torch.where(n < LEAST, from_shift, 0)


def digamma_rest(n: Tensor) -> Tensor:
    """digamma(n) - log n, for real n > 0: about -1 / (2 n) for large n."""
    w = torch.where(n < LEAST, n + LEAST, n)
    part = 1 / w
    square = part * part
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132))))
    from_shift = (w / n).log()
    for i in range(LEAST):
        from_shift = from_shift - 1 / (n + i)
    return -part / 2 - series + torch.where(n < LEAST, from_shift, 0)


def deviance(x: Tensor, excess: Tensor, total: Tensor, log_ratio: Tensor) -> Tensor:
    """The sum x log(x / m) + m - x, at least 0, without cancellation where x is near m.

    Args:
        x: at least 0.
        excess: x - m.
        total: x + m.
        log_ratio: log(x / m), any finite number where x is 0; its relative error counts where x is far from m.
    """
    v = excess / total.clamp(min=1e-30)
    square = v * v
    n_terms = 4 if v.dtype == torch.float32 else 9
    series = torch.full_like(square, 1 / (2 * n_terms + 1))
    for j in range(n_terms - 1, 0, -1):  # atanh(v) = v + v^3 / 3 + ..., for v of at most 0.1
        series = series * square + 1 / (2 * j + 1)
    return torch.where(square < 0.01, v * (excess + 2 * x * square * series), x * log_ratio - excess)


def log_ratio(x: Tensor, log_mean: Tensor, mean: Tensor) -> Tensor:
    """log(x / mean), with a small relative error where the two are far apart; finite where x is 0."""
    some = torch.where(x > 0, x, 1)
    is_large = some > 8 * mean  # then the quotient may overflow
    return torch.where(is_large, some.log() - log_mean, (some / torch.where(is_large, 1, mean)).log())
