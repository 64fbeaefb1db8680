"""Rows chunk by chunk: cut to bounded memory, and scored in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pyro
import torch
from torch import Tensor

from probclust.arguments import checked_seed
from probclust.data.stored import Rows, to_device
from probclust.locking import alone
from probclust.progress import Progress
from probclust.story.module_parameters import module_local_parameters
from probclust.story.story import Story
from probclust.story.untouched import buffers_kept, moves_buffers

CHUNK_ELEMENTS = 2**22
"""Elements of the largest intermediate tensor of a chunk on a CPU, rows * clusters * features: few enough that its
memory is used again from chunk to chunk. Other devices take four times as many."""


def chunk_size(story: Story) -> int:
    """Rows of a chunk: few enough for every cluster at once."""
    elements = CHUNK_ELEMENTS * (1 if story.device.type == "cpu" else 4)
    return max(1, elements // (story.n_clusters * max(story.n_features, 64)))


def chunks(
    story: Story, rows: Rows, bar: Progress | None = None, name: str = "score"
) -> Iterator[tuple[slice, Tensor]]:
    """Consecutive (slice, rows on the story's device), small enough for every cluster at once.

    Args:
        story: the story.
        rows: (rows, n_features).
        bar: is told of each chunk that is done with.
        name: what the bar calls the pass.
    """
    size = chunk_size(story)
    bar = bar or Progress()
    bar.start(name, -(-len(rows) // size))
    for start in range(0, len(rows), size):
        part = slice(start, min(start + size, len(rows)))
        yield part, to_device(rows[part], story.device)
        bar.advance()


@contextmanager
def evaluating(story: Story, seed: int | None) -> Iterator[None]:
    """Evaluation mode: no gradient, no validation, modules in `eval`, draws under `seed`; other threads wait.

    The caller's random state and the training mode of every module are as before afterwards. `seed` None draws from
    the caller's random state instead, and moves it on.
    """
    devices = [story.device] if story.device.type == "cuda" else []
    with (
        alone,
        module_local_parameters,
        torch.random.fork_rng(devices, enabled=seed is not None),
        torch.no_grad(),
        pyro.validation_enabled(False),
    ):
        if seed is not None:
            torch.manual_seed(checked_seed(seed))
        training = [module for module in story.modules() if module.training]
        try:
            story.eval()
            with buffers_kept(story) if moves_buffers(story) else nullcontext():
                yield
        finally:
            for module in training:  # one by one: parts of a story may be frozen in eval mode
                module.training = True
