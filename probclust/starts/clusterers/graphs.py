"""Clusters corrected by votes along a graph of neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


def one_way_graph(neighbour: NDArray[Any]) -> csr_array:
    """(rows, rows) graph with an edge of weight 1 from each row to each of its (rows, n_neighbours) neighbours."""
    n_rows, k = neighbour.shape
    ones = np.ones(neighbour.size, dtype=np.float32)
    return csr_array((ones, neighbour.ravel(), np.arange(0, neighbour.size + 1, k)), shape=(n_rows, n_rows))


def agreed_with_neighbours(
    labels: NDArray[np.int64], graph: csr_array, n_clusters: int, rounds: int = 5
) -> NDArray[np.int64]:
    """Clusters after each row has taken that of most weight among its neighbours' and its own, some times over.

    Args:
        labels: (rows,) clusters 0..K-1.
        graph: (rows, rows) weights; a row's own vote has weight 1.
        n_clusters: K.
        rounds: of votes, at most; they end where nothing changes.
    """
    for _ in range(rounds):
        own = np.eye(n_clusters)[labels]
        voted = (own + graph @ own).argmax(1)
        if (voted == labels).all():
            break
        labels = voted
    return labels
