"""The Hungarian method: which label is which, so that most rows agree."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


def one_to_one(table: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows and columns of a table, each matched with one other at most, whose entries have the largest sum.

    Args:
        table: (m, n) counts or weights.

    Returns:
        min(m, n) rows, ascending, and the column that each is matched with.

    Source: H. W. Kuhn, "The Hungarian method for the assignment problem", 1955.

    Examples:
        >>> one_to_one(np.array([[0, 5], [3, 4]]))[1].tolist()
        [1, 0]
    """
    rows, columns = linear_sum_assignment(table, maximize=True)
    return rows, columns


def same_clusters(labels: NDArray[Any], others: NDArray[Any], n_clusters: int) -> NDArray[np.int64]:
    """(K,) the cluster of `others` that each cluster of `labels` is, both (rows,) numbers from 0 to K - 1."""
    counts = np.zeros((n_clusters, n_clusters), dtype=np.int64)
    np.add.at(counts, (labels, others), 1)
    return one_to_one(counts)[1]
