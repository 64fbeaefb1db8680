"""A story under test, and how a check says what is wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro
import sklearn.cluster  # noqa: F401  its first import draws from Python's random state: not within a check
import torch
from torch import Tensor

import probclust as pc
from probclust.story.story import Story

FIRST = 811
"""Seed of the story's first weights; any but those which the library takes by itself."""


class NotApplicable(Exception):
    """A story of this kind has no such function."""


class Case:
    """A story under test: how it is made, rows, and what a short fit made of it."""

    def __init__(self, make: Callable[[], Story], x: Any, objective: str, prepare: Any) -> None:
        self.make, self.objective, self.prepare = make, objective, prepare
        self.story = self.made(FIRST)
        require(isinstance(self.story, Story), f"make() gave a {type(self.story).__name__}, expected a story")
        self.x = torch.as_tensor(np.asarray(x)).to(self.story.dtype) if not isinstance(x, Tensor) else x
        self.can_sample = True

    def made(self, seed: int) -> Story:
        """A new story under that seed of torch."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.make()

    def fit(self, story: Story, epochs: int = 2, n_init: int = 1) -> Any:
        """A short fit by SVI alone."""
        steps = [pc.SVI(epochs=epochs, learning_rate=1e-3)]
        record = pc.fit(
            story, self.x, recipe=steps, objective=self.objective, batch_size=16, n_init=n_init, progress=False
        )
        if self.prepare is not None:
            self.prepare(story, self.x)
        return record


def require(holds: bool, what: str) -> None:
    """Raise an AssertionError that says what is wrong, unless it holds."""
    if not holds:
        raise AssertionError(what)


def close(found: Tensor, expected: Tensor, what: str, tolerance: float = 1e-4) -> None:
    """To `tolerance` of the largest number there is, which float32 gives after many sums."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    unlike = (found - expected).abs().nan_to_num(math.inf)
    unlike[found == expected] = 0.0  # infinities
    finite = expected[torch.isfinite(expected)].abs()
    allowed = tolerance * max(1.0, float(finite.max()) if finite.numel() else 1.0)
    require(bool((unlike <= allowed).all()), f"{what} is {found.tolist()}, expected {expected.tolist()}")


@contextmanager
def nothing_moved(name: str) -> Iterator[None]:
    """Within, nothing of the caller's may change: random states, Pyro's store, torch's defaults; nor does it after."""
    states = np.random.get_state(), random.getstate(), torch.get_default_dtype()  # noqa: NPY002
    try:
        np.random.random(), random.random()  # noqa: NPY002  from the start of any seed
        before = _outside()
        yield
        moved = [what for what, value in _outside().items() if value != before[what]]
        require(not moved, f"{name} leaves changed: {', '.join(moved)}")
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
        torch.set_default_dtype(states[2])


def _outside() -> dict[str, Any]:
    return {
        "torch's random state": torch.get_rng_state().tolist(),
        "numpy's random state": [np.asarray(part).tolist() for part in np.random.get_state()],  # noqa: NPY002
        "Python's random state": random.getstate(),
        "Pyro's parameter store": sorted(pyro.get_param_store().keys()),
        "torch's default dtype": torch.get_default_dtype(),
        "autograd": torch.is_grad_enabled(),
    }
