"""What became of one call: the right value, a refusal in the library's words, a wrong value, or a crash."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import probclust
from probclust.errors import ContractError, NonFiniteError

LIBRARY = Path(probclust.__file__).resolve().parents[1]
REFUSALS = (ContractError, NonFiniteError, ValueError, TypeError)
LONGEST = 120
"""Seconds that a call may take."""
SHORTEST = 30
"""Letters that a refusal has at least."""


class Wrong(AssertionError):
    """A value that is not the right one."""


class Refusal(Exception):
    """A value that is left out, with a reason."""


@dataclass(frozen=True)
class Outcome:
    """What became of one call.

    Attributes:
        call: which.
        status: "right", "refused", "wrong" or "crash".
        detail: the refusal's or error's words, or what was expected and what came.
    """

    call: str
    status: str
    detail: str = ""


def _late(*_: Any) -> None:
    raise TimeoutError(f"it runs on after {LONGEST} seconds")


@contextmanager
def timed() -> Iterator[None]:
    """Ends what never ends, in the main thread."""
    before = signal.signal(signal.SIGALRM, _late)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(call: str, check: Callable[[], Any]) -> Outcome:
    """Run a check, which raises `Wrong` where a value is."""
    try:
        with timed():
            check()
    except Wrong as error:
        return Outcome(call, "wrong", str(error))
    except Refusal as error:
        return Outcome(call, "refused", str(error))
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        return Outcome(call, "refused" if is_refusal(error) else "crash", words)
    return Outcome(call, "right")


def is_refusal(error: Exception) -> bool:
    """Whether the library says no in words of its own, rather than torch or Python."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(last.filename).resolve()
    own = file.is_relative_to(LIBRARY / "probclust") or file.is_relative_to(LIBRARY / "models")
    own = own and (last.line or "").startswith("raise")
    return isinstance(error, REFUSALS) and own and len(str(error)) >= SHORTEST


def require_close(what: str, got: Any, right: Any, tolerance: Any) -> None:
    """Raise `Wrong` where a value is further from the right one than the tolerance, elementwise."""
    got, right = np.asarray(got, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if got.shape != right.shape:
        raise Wrong(f"{what} has shape {got.shape}, expected {right.shape}")
    with np.errstate(invalid="ignore"):
        far = ~((np.abs(got - right) <= tolerance) | (got == right) | (np.isnan(got) & np.isnan(right)))
    if far.any():
        index = tuple(np.argwhere(far)[0])
        limit = np.broadcast_to(tolerance, got.shape)[index]
        raise Wrong(f"{what}{list(map(int, index))} is {got[index]:.6g}, right is {right[index]:.6g} ± {limit:.2g}")


def require_between(what: str, got: Any, low: Any, high: Any) -> None:
    """Raise `Wrong` where a value is not between two, elementwise."""
    got = np.asarray(got, dtype=np.float64)
    far = ~((low <= got) & (got <= high))
    if far.any():
        index = tuple(np.argwhere(far)[0])
        raise Wrong(f"{what}{list(map(int, index))} is {got[index]:.6g}, not in {low[index]:.6g} to {high[index]:.6g}")


def rounding(right: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """What rounding may do to values of that size."""
    size = 1 + np.abs(np.nan_to_num(right, posinf=0, neginf=0))
    return size * (5e-4 if dtype == "float32" else 1e-7)
