"""Pairs of rows that are known to share a cluster, or known not to: a penalty on their responsibilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

Rows = ArrayLike | Sequence[tuple[int, int]] | Tensor


class Pairs:
    """Must-link and cannot-link pairs, for `pc.fit(story, x, pairs=...)`.

    With r_i the (K,) responsibilities of row i, the chance that rows i and j share their cluster is r_i . r_j. The loss
    of a fit, minus the bound in nats per row, is raised by `weight` times the mean over the pairs of

        must-link      - log(r_i . r_j)
        cannot-link    - log(1 - r_i . r_j)

    in nats per pair: what it costs to be told so. At `weight` 1 the pairs together count as much as the rows together.

    Args:
        must: (pairs, 2) numbers of rows that share their cluster.
        cannot: (pairs, 2) numbers of rows that do not.
        weight: of the mean penalty, against the bound per row.

    Raises:
        TypeError: the pairs are no whole numbers.
        ValueError: they are no pairs, a row is paired with itself, `weight` is not positive, or the two kinds
            contradict each other, also through several must-links.

    Source: the pairwise likelihood of Hsu and Kira, "Neural network-based clustering using pairwise constraints", 2016;
    penalties on a mixture's posterior as in Lu and Leen, "Penalized probabilistic clustering", 2007.

    Examples:
        >>> pairs = Pairs(must=[(0, 1)], cannot=[(0, 2), (1, 3)])
        >>> len(pairs), pairs.kept([0, 0, 1, 0])  # the last is broken: rows 1 and 3 share cluster 0
        (3, 0.6666666666666666)
    """

    def __init__(self, must: Rows = (), cannot: Rows = (), *, weight: float = 1.0) -> None:
        self.must, self.cannot = _pairs("must", must), _pairs("cannot", cannot)
        if not (isinstance(weight, int | float) and 0 < weight < float("inf")):
            raise ValueError(f"weight must be a positive number, got {weight!r}")
        if not len(self):
            raise ValueError("Pairs needs at least one pair, in must or in cannot")
        self.weight = float(weight)
        self._check_consistent()

    def __len__(self) -> int:
        return len(self.must) + len(self.cannot)

    @property
    def rows(self) -> Tensor:
        """(pairs, 2) numbers of the rows, must-links first."""
        return torch.as_tensor(np.concatenate([self.must, self.cannot]))

    @property
    def is_must(self) -> Tensor:
        """(pairs,) whether each of `rows` is a must-link."""
        return torch.arange(len(self)) < len(self.must)

    def check(self, n_rows: int, n_clusters: int) -> None:
        """Raise ValueError where a pair names a row that is not there, or no clustering can keep them."""
        top = int(self.rows.max())
        if top >= n_rows:
            raise ValueError(f"pairs must name rows 0..{n_rows - 1}, got {top}")
        if len(self.cannot) and n_clusters == 1:
            raise ValueError("a story of one cluster cannot keep the cannot-links; leave them out, or raise n_clusters")

    def check_known(self, known: Tensor) -> None:
        """Raise ValueError where (rows,) known clusters, -1 where unknown, break a pair, also through must-links."""
        names, ends, group = self._groups()
        cluster = known.cpu().numpy()[names]
        of_group = np.full(group.max() + 1, -1)
        of_group[group[cluster >= 0]] = cluster[cluster >= 0]
        cannot = of_group[group[ends[len(self.must) :]]]
        broken = (cluster >= 0) & (cluster != of_group[group])
        if broken.any():
            at = int(broken.argmax())
            raise ValueError(
                f"y has row {names[at]} in cluster {cluster[at]} and a row that must-links join to it in cluster "
                f"{of_group[group[at]]}; drop such a pair, or set y to -1 there"
            )
        broken = (cannot[:, 0] == cannot[:, 1]) & (cannot[:, 0] >= 0)
        if broken.any():
            at = int(broken.argmax())
            raise ValueError(
                f"cannot-link {self.cannot[at].tolist()} contradicts y, which has its rows in cluster {cannot[at, 0]}; "
                "drop such a pair, or set y to -1 there"
            )

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Numbers of the rows, first ends before second ends, and (pairs,) `is_must`, of `n` pairs at random or all."""
        chosen = torch.arange(len(self)) if n >= len(self) else torch.randint(len(self), (n,))
        return self.rows[chosen].T.reshape(-1), self.is_must[chosen]

    def kept(self, labels: Any) -> float:
        """Share of the pairs that (rows,) clusters keep."""
        found = np.asarray(labels)
        good = [found[self.must[:, 0]] == found[self.must[:, 1]], found[self.cannot[:, 0]] != found[self.cannot[:, 1]]]
        return float(np.concatenate(good).mean())

    def _groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
        """The rows that are paired, the pairs as places among these, must-links first, and the group of each row."""
        names, ends = np.unique(np.concatenate([self.must, self.cannot]), return_inverse=True)
        ends = ends.reshape(-1, 2)
        must = ends[: len(self.must)]
        graph = coo_array((np.ones(len(must)), (must[:, 0], must[:, 1])), shape=(len(names), len(names)))
        return names, ends, connected_components(graph, directed=False)[1]

    def _check_consistent(self) -> None:
        _, ends, group = self._groups()
        cannot = ends[len(self.must) :]
        broken = group[cannot[:, 0]] == group[cannot[:, 1]]
        if broken.any():
            pair = self.cannot[int(broken.argmax())].tolist()
            raise ValueError(f"cannot-link {pair} contradicts the must-links, which join its rows; drop one of them")


def _pairs(name: str, given: Rows) -> NDArray[np.int64]:
    array = np.asarray(given.cpu() if isinstance(given, Tensor) else given)
    if not array.size:
        return np.zeros((0, 2), dtype=np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold row numbers, got dtype {array.dtype}")
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{name} must hold pairs of rows, shape (pairs, 2), got shape {array.shape}")
    if (array < 0).any():
        raise ValueError(f"{name} must hold row numbers from 0, got {int(array.min())}")
    same = array[:, 0] == array[:, 1]
    if same.any():
        raise ValueError(f"{name} must pair different rows, got row {int(array[same][0, 0])} with itself")
    return array.astype(np.int64)
