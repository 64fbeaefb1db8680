"""Checks of single arguments: each returns the value, or says what was expected and what came."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

LARGEST_SEED = 2**63 - 1


def whole(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """`value` as an integer of at least `least`, and at most `most`, or a ValueError that names it."""
    try:
        number = None if type(value) is bool else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        upto = "" if most is None else f" and at most {most}"
        raise ValueError(f"{name} must be an integer of at least {least}{upto}, got {value!r}")
    return number


def positive(name: str, value: Any) -> int:
    """`value` as an integer of at least 1, or a ValueError that names it."""
    return whole(name, value, 1)


def positive_or_none(name: str, value: Any) -> int | None:
    """`positive`, or None."""
    try:
        return None if value is None else positive(name, value)
    except ValueError:
        raise ValueError(f"{name} must be an integer of at least 1 or None, got {value!r}") from None


def checked_seed(seed: Any) -> int:
    """`seed` as an integer that generators take, or a ValueError."""
    return whole("seed", seed, 0, LARGEST_SEED)


def real(name: str, value: Any, low: float = -math.inf, high: float = math.inf, closed: str = "") -> float:
    """`value` as a number between `low` and `high`.

    Args:
        name: what errors call it.
        value: what was passed.
        low: least number.
        high: largest.
        closed: which of the two it may be: "low", "high" or "both"; "" for neither.

    Raises:
        ValueError: it is something else.
    """
    inside = isinstance(value, Real) and not isinstance(value, bool)
    if inside:
        inside = low < value < high or (value == low and closed in ("low", "both"))
        inside = inside or (value == high and closed in ("high", "both"))
    if not inside:
        left, right = "[" if closed in ("low", "both") else "(", "]" if closed in ("high", "both") else ")"
        among = "a finite number" if -low == high == math.inf else f"a number in {left}{low:g}, {high:g}{right}"
        if (low, high, closed) == (0, math.inf, ""):
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            among = "positive" if is_number and value <= 0 else "a positive number"
        raise ValueError(f"{name} must be {among}, got {value!r}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """`value` where it is True or False, or a TypeError that names it."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def choice(name: str, value: Any, among: Sequence[str]) -> str:
    """`value` where it is one of those, or a ValueError that names it."""
    if not isinstance(value, str) or value not in among:
        raise ValueError(f"{name} must be {' or '.join(map(repr, among))}, got {value!r}")
    return value


def checked_path(name: str, value: Any) -> Path:
    """`value` as the path of a file, or a TypeError that names it."""
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise TypeError(f"{name} must be the path of a file, as a string or a pathlib.Path, got {value!r}")
    if not Path(value).name:
        raise ValueError(f"{name} must be the path of a file, got {str(value)!r}")
    return Path(value)
