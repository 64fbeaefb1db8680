"""The way of rows into a story: checked once at the door, then cut into chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from torch import Tensor

from probclust.contract import check_contract, check_support
from probclust.data.checks import as_rows
from probclust.story import Story

CHUNK_ELEMENTS = 2**24
"""Elements of the largest intermediate tensor of a chunk: rows * clusters * features."""


def admit(story: Story, x: Any) -> Tensor:
    """`x` checked against the story: a (rows, n_features) tensor of the story's dtype.

    The story's contract is checked on a few rows, the first time.
    """
    if not isinstance(story, Story):
        raise TypeError(f"expected a probclust.Story (an instance), got {type(story).__name__}")
    rows = as_rows(x, n_features=story.n_features, dtype=story.dtype, missing=story.missing)
    if not story.__dict__.get("_keeps_contract"):
        check_contract(story, rows[:8].to(story.device))
        story.__dict__["_keeps_contract"] = True
    return rows


def admit_all(story: Story, x: Any) -> Tensor:
    """`admit`, and every row's observed values checked against their distribution's support."""
    rows = admit(story, x)
    for _, batch in chunks(story, rows):
        if not check_support(story, batch):
            break
    return rows


def chunks(story: Story, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Consecutive (slice, rows on the story's device), small enough for every cluster at once."""
    size = max(1, CHUNK_ELEMENTS // (story.n_clusters * max(story.n_features, 64)))
    for start in range(0, rows.shape[0], size):
        part = slice(start, min(start + size, rows.shape[0]))
        yield part, rows[part].to(story.device)


@contextmanager
def evaluating(story: Story, seed: int | None) -> Iterator[None]:
    """Evaluation mode: no gradient, no validation, modules in `eval`, draws under `seed`.

    The caller's random state and the training mode of every module are as before afterwards. `seed` None draws from
    the caller's random state instead, and moves it on.
    """
    training = [module for module in story.modules() if module.training]
    devices = [story.device] if story.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices, enabled=seed is not None),
        torch.no_grad(),
        pyro.validation_enabled(False),
    ):
        if seed is not None:
            torch.manual_seed(seed)
        story.eval()
        try:
            yield
        finally:
            for module in training:  # one by one: parts of a story may be frozen in eval mode
                module.training = True
