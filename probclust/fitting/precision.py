"""Precision of a fit: that of its matrix products. Densities and their sums stay in float32, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_NAMES: dict[Any, str] = {
    None: "32-true",
    32: "32-true",
    "32": "32-true",
    "32-true": "32-true",
    "tf32": "tf32",
    "bf16": "bf16-mixed",
    "bf16-mixed": "bf16-mixed",
    16: "16-mixed",
    "16": "16-mixed",
    "16-mixed": "16-mixed",
}


def checked_precision(precision: Any) -> str:
    """The name of a precision, Fabric's or "tf32"; ValueError where a fit has none of that name."""
    if not isinstance(precision, str | int | None) or precision not in _NAMES:
        raise ValueError(
            f"precision must be '32-true', 'tf32', 'bf16-mixed' or '16-mixed', got {precision!r}; for float64, fit "
            "story.double()"
        )
    return _NAMES[precision]


@contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """Let a GPU compute float32 matrix products in TF32 where `precision` is "tf32"; torch's setting is put back."""
    before = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def without_denormals() -> Iterator[None]:
    """Let the CPU take numbers below the normal range, 1e-38 in float32, for zero; its setting is put back.

    Adam's averages of a gradient that stays zero, a dead unit's say, fall into that range and stay there, where
    arithmetic is many times slower.
    """
    kept = bool(torch.tensor(1e-40) * 1 > 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(not kept)
