"""`stability`: how far restarts, or different stories, agree about the clusters of the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probclust.data.matching import same_clusters
from probclust.evaluation.evaluation import Evaluation
from probclust.evaluation.metrics import ari
from probclust.story.scoring import predict
from probclust.story.story import Story


@dataclass(frozen=True)
class Stability:
    """How far R assignments of the same rows agree.

    Attributes:
        ari: (R, R) adjusted Rand index of each pair; it needs no matching of the clusters.
        labels: (R, rows) the assignments, their clusters numbered as the consensus numbers them.
        consensus: (rows,) cluster that most of the R put each row into; among as many, the one of the restart that
            agrees best with the others.
        certainty: (rows,) share of the R that put the row there, between 1 / R and 1.
    """

    ari: pd.DataFrame
    labels: NDArray[np.int64]
    consensus: NDArray[np.int64]
    certainty: NDArray[np.float64]

    @property
    def agreement(self) -> float:
        """Mean adjusted Rand index over the pairs: 1 where all agree, about 0 where none does."""
        above = np.triu_indices(len(self.ari), 1)
        return float(self.ari.to_numpy()[above].mean())

    @property
    def unsettled(self) -> NDArray[np.int64]:
        """Rows without a majority: no cluster holds them in more than half of the restarts; least certain first."""
        rows = np.flatnonzero(self.certainty <= 0.5)
        return rows[np.argsort(self.certainty[rows], kind="stable")]

    def __str__(self) -> str:
        return (
            f"{len(self.ari)} assignments of {len(self.consensus)} rows: mean pairwise ARI {self.agreement:.3f}, "
            f"mean certainty {self.certainty.mean():.3f}, {len(self.unsettled)} rows without a majority"
        )


def stability(restarts: Mapping[str, Story | Evaluation] | Sequence[Any] | Any, x: Any = None) -> Stability:
    """Compare what several fits say of the same rows, whatever the numbers of their clusters.

    The clusters are matched one to one with those of the consensus so that most rows agree (the Hungarian method),
    and the consensus is the vote of the matched assignments, starting from the restart with the largest mean ARI; the
    two steps alternate until nothing changes, which raises the number of agreeing rows at each. Where the numbers of
    clusters differ, some stay unmatched and keep a number of their own.

    Args:
        restarts: at least two fitted stories, with `x`: a sequence, or a mapping with their names. Or (R, rows)
            clusters, such as `record.assignments` of a fit with `n_init=R`, or what `pc.evaluate` returned for each,
            without `x`.
        x: (rows, n_features).

    Raises:
        TypeError: the restarts are neither stories nor whole numbers.
        ValueError: there are fewer than two, or `x` is missing or not wanted.

    Source: voting after matching is that of Dimitriadou, Weingessel and Hornik, "A combination scheme for fuzzy
    clustering", 2002.

    Examples:
        >>> found = stability([[0, 0, 1, 1, 2], [1, 1, 0, 0, 2], [2, 2, 0, 1, 1]])
        >>> found.consensus.tolist(), found.certainty.round(2).tolist(), found.unsettled.tolist()
        ([0, 0, 1, 1, 2], [1.0, 1.0, 1.0, 0.67, 1.0], [])
    """
    names, given = _assignments(restarts, x)
    n_clusters = int(given.max()) + 1
    agreement = np.array([[ari(one, other) for other in given] for one in given])
    order = np.argsort(-agreement.sum(1), kind="stable")
    consensus = given[order[0]]
    labels, votes = given, 0
    while True:
        matched = np.stack([same_clusters(one, consensus, n_clusters)[one] for one in given])
        agreeing = int((matched == consensus).sum())
        if agreeing <= votes:
            break
        labels, votes = matched, agreeing
        counts = np.stack([(labels == k).sum(0) for k in range(n_clusters)], 1)
        most = counts.max(1)
        for number in order[::-1]:  # the last to write, the restart that agrees best, decides among equals
            wins = counts[np.arange(counts.shape[0]), labels[number]] == most
            consensus = np.where(wins, labels[number], consensus)
    certainty = (labels == consensus).mean(0)
    return Stability(pd.DataFrame(agreement, names, names), labels, consensus, certainty)


def _assignments(restarts: Any, x: Any) -> tuple[list[str], NDArray[np.int64]]:
    """Names and (R, rows) clusters."""
    if restarts is None:
        raise ValueError("stability got None: a fit has assignments to compare with n_init=2 or more")
    if isinstance(restarts, Mapping):
        names, members = [str(name) for name in restarts], list(restarts.values())
    else:
        if isinstance(restarts, str) or not isinstance(restarts, Iterable):
            raise TypeError(f"restarts must be a sequence of stories or of (rows,) clusters, got {restarts!r}")
        members = list(restarts)
        names = [str(number) for number in range(len(members))]
    members = [member.clusters.numpy() if isinstance(member, Evaluation) else member for member in members]
    if len(members) < 2:
        raise ValueError(f"stability needs at least two restarts to compare, got {len(members)}")
    if all(isinstance(member, Story) for member in members):
        if x is None:
            raise ValueError("stories need the rows that they are asked about: stability(stories, x)")
        return names, np.stack([predict(story, x).numpy() for story in members])
    if any(isinstance(member, Story) for member in members):
        raise TypeError("restarts must be all stories or all clusters, got some of each")
    if x is not None:
        raise ValueError("assignments are clusters of rows already; leave x out, or pass stories")
    arrays = [np.asarray(member) for member in members]
    sizes = sorted({array.size for array in arrays})
    if len(sizes) > 1:
        raise ValueError(f"assignments must be of the same rows, got some of {sizes[0]} and some of {sizes[-1]}")
    table = np.asarray(arrays)
    if table.ndim != 2 or table.dtype.kind not in "iu" or (table < 0).any():
        raise TypeError(
            f"restarts must be stories, or (restarts, rows) clusters as whole numbers from 0, got an array of "
            f"{table.dtype} of shape {table.shape}"
        )
    return names, table.astype(np.int64)
