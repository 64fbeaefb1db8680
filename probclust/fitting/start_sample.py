"""The rows that a warm start works on where not all rows are in memory: a random sample of bounded size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from probclust.starts.labels import keep_known
from probclust.story.recipe import START, Run, Step, Train
from probclust.story.scoring import predict

START_ROWS = 20_000
"""Rows of the sample, unless fewer take `SAMPLE_BYTES`."""

SAMPLE_BYTES = 2**26
"""Size, 64 MiB, that the sample may have."""


def n_start_steps(steps: Sequence[Step]) -> int:
    """How many of a recipe's first steps are its warm start: those before the first that trains the whole story.

    That is the first step with `is_start` False, or else the last training step.
    """
    trains = [number for number, step in enumerate(steps) if isinstance(step, Train)]
    whole = [number for number in trains if not steps[number].is_start]  # type: ignore[union-attr]
    return (whole or trains[-1:] or [len(steps)])[0]


def start_sample(run: Run) -> Run:
    """`run` with a sample of its rows in memory, which shares its story and its memory.

    Known rows (`run.y`) come first and make up to half of the sample; the others are drawn at random.
    """
    n_rows, row_bytes = len(run.x), run.x.shape[1] * run.x.dtype.itemsize
    size = min(n_rows, START_ROWS, max(SAMPLE_BYTES // row_bytes, 10 * run.story.n_clusters))
    random = np.random.default_rng([run.seed, n_rows])
    order = random.permutation(n_rows)
    if run.y is not None:
        known = run.y.cpu().numpy()[order] >= 0
        some = order[known][: size // 2]
        order = np.concatenate([some, order[~known], order[known][size // 2 :]])
    index = torch.as_tensor(np.sort(order[:size]))
    y = None if run.y is None else run.y[index.to(run.y.device)]
    return Run(run.story, run.x[index], y, run.seed, memory=run.memory)


def leave_sample(run: Run) -> None:
    """Forget what the steps left of the sample; starting labels become those that the story gives all rows.

    Known rows keep their known clusters.
    """
    has_labels = START in run.memory
    run.memory.clear()
    if has_labels:
        run.memory[START] = keep_known(predict(run.story, run.x), run)
