"""Truncated enumeration: the bound over the best clusters of each row."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from probclust.objectives.bounds import Objective
from probclust.objectives.candidates import explore, narrows, refresh, start_candidates, with_known
from probclust.story.joint import Clusters, Joint
from probclust.story.recipe import CANDIDATES, Run


class Truncated(Objective):
    """The cluster summed out over a few candidates of each row: a step's cost does not grow with K.

    A row's candidates are the clusters that were best for it when they were last computed, and a few explored at
    random; all others count as impossible. Within `pc.fit`, a story that calls `run_experts` computes only the
    candidates' experts. Other stories compute every cluster, and so does this objective outside of `pc.fit`; the best
    `n_candidates` then count.

    Args:
        n_candidates: S, of each row; from K on it is the exact objective.
        n_explored: of these, drawn at random in every epoch.
        refresh: share of the rows whose candidates are found anew in every epoch, by a pass over all clusters; None
            for as many as take about a twentieth of the epoch's work. Each row has its turn. What the old candidates
            had missed is in the record's history, as "truncation".
        n_rows: rows of the whole data set.

    Source: see `probclust.objectives.candidates`.
    """

    name = "truncated"
    per_row_memory = (CANDIDATES,)

    def __init__(
        self, n_candidates: int = 5, n_explored: int = 1, refresh: float | None = None, n_rows: int | None = None
    ) -> None:
        for name, value, least in (("n_candidates", n_candidates, 1), ("n_explored", n_explored, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
        if n_explored >= n_candidates:
            raise ValueError(
                f"n_explored must be less than n_candidates={n_candidates}, so that the best known cluster stays, got "
                f"{n_explored}"
            )
        if refresh is not None and not 0 <= refresh <= 1:
            raise ValueError(f"refresh must be a share of the rows in [0, 1], or None, got {refresh!r}")
        super().__init__(n_rows)
        self.n_candidates, self.n_explored, self.refresh = n_candidates, n_explored, refresh
        self.narrow = False
        self.known: Tensor | None = None

    def describe(self) -> str:
        """The objective with its arguments."""
        return f"Truncated(n_candidates={self.n_candidates}, n_explored={self.n_explored}, refresh={self.refresh})"

    def bound(self, joint: Joint) -> Tensor:
        """(rows,) logsumexp over the candidates."""
        if joint.candidates is None and self.n_candidates < joint.n_clusters:
            return joint.table.topk(self.n_candidates, 1).values.logsumexp(1)
        return joint.table.logsumexp(1)

    def start(self, run: Run, y: Tensor | None) -> None:
        """Find out whether the story can spare work."""
        self.known = y
        few = self.n_candidates < run.story.n_clusters
        self.narrow = few and narrows(run.story, run.x, self.n_candidates)

    def begin(self, run: Run, epoch: int) -> dict[str, Any]:
        """Refresh some rows, explore for all; new tensors in `run.memory`, so that a stopped fit can go back."""
        if not self.narrow:
            return {}
        n_rows, n_clusters = len(run.x), run.story.n_clusters
        candidates = run.memory.get(CANDIDATES)
        if candidates is None or candidates.shape[1] != self.n_candidates:
            candidates = start_candidates(run, self.n_candidates)
        else:
            candidates = candidates.clone()
        facts = {}
        n_fresh = self._n_fresh(n_rows, n_clusters)
        if n_fresh:
            turns = torch.randperm(n_rows, generator=torch.Generator().manual_seed(run.seed)).roll(-epoch * n_fresh)
            facts["truncation"] = refresh(run, candidates, turns[:n_fresh].to(candidates.device))
        candidates = with_known(candidates, self.known)
        run.memory[CANDIDATES] = explore(candidates, self.n_explored, n_clusters)
        return facts

    def _n_fresh(self, n_rows: int, n_clusters: int) -> int:
        if self.refresh is not None:
            return math.ceil(self.refresh * n_rows)
        forward_and_backward = 3 * self.n_candidates
        return min(n_rows, max(16, math.ceil(n_rows * forward_and_backward / n_clusters / 20)))

    def clusters(self, run: Run, index: Tensor) -> Clusters:
        """(candidates, rows) of the batch; all where the story cannot spare work, or the batch is a single row."""
        if not self.narrow or len(index) == 1:  # (candidates, 1) would be taken for all clusters
            return "enumerate"
        return run.memory[CANDIDATES][index].T.contiguous()

    def learn(self, run: Run, index: Tensor, joint: Joint) -> None:
        """Put the batch's candidates in the order of their log joint; a known cluster stays first."""
        if not self.narrow:
            return
        with torch.no_grad():
            order = joint.table.argsort(1, descending=True)[:, : self.n_candidates]
            found = order if joint.candidates is None else joint.candidates.T.gather(1, order)
            run.memory[CANDIDATES][index] = with_known(found, None if self.known is None else self.known[index])
