"""The exact bound beside a penalty for linked rows whose responsibilities differ."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from probclust.objectives.bounds import Exact
from probclust.story.joint import Joint, programs, trace_joint
from probclust.story.recipe import Run


class Linked(Exact):
    """The exact bound, and a penalty for rows whose responsibilities differ from those of a neighbour.

    Of each row of a batch one neighbour is drawn, scored beside the batch, and the two responsibilities are compared by
    their Jensen-Shannon divergence: 0 where they agree, and log 2 nats where they share no cluster. Works for any story
    whose warm start leaves a graph in `run.memory["neighbours"]`.

    Args:
        weight: of the divergence, in nats per row.
        n_rows: rows of the whole data set.
    """

    name = "linked"
    is_separable = False
    needs_all_rows = True

    def __init__(self, weight: float, n_rows: int | None = None) -> None:
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight must be a number of at least 0, in nats per row, got {weight!r}")
        super().__init__(n_rows)
        self.weight = weight

    def describe(self) -> str:
        """The objective with its argument."""
        return f"Linked(weight={self.weight})"

    def start(self, run: Run, y: Tensor | None) -> None:
        """Look for the graph."""
        if "neighbours" not in run.memory:
            raise ValueError(
                "links need the neighbours of all rows in run.memory['neighbours'], and there are none; take a start "
                "with neighbours"
            )
        self.story = run.story

    def penalty(self, run: Run, index: Tensor, joint: Joint) -> Tensor:
        """The weighted mean divergence over the batch."""
        graph = run.memory.neighbours
        column = torch.randint(graph.shape[1], (len(index),), device=graph.device)
        there = trace_joint(*programs(self.story.model, self.story.guide), run.x[graph[index, column]])
        return self.weight * jensen_shannon(joint.table, there.table).mean()


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence of categorical distributions, in nats.

    Args:
        first: (rows, K) logits.
        second: (rows, K) logits.

    Returns:
        (rows,) divergences from 0 to log 2.
    """
    p, q = first.log_softmax(1), second.log_softmax(1)
    middle = torch.logaddexp(p, q) - math.log(2)
    return ((p.exp() * (p - middle)).sum(1) + (q.exp() * (q - middle)).sum(1)) / 2
