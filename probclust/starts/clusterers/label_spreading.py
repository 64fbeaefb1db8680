"""Known labels spread over a graph of neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import diags_array, eye_array
from scipy.sparse.linalg import cg

from probclust.starts.clusterers.graphs import one_way_graph


def spread_labels(
    graph: NDArray[np.int64], y: NDArray[np.int64], n_clusters: int, *, alpha: float = 0.99
) -> NDArray[np.float64]:
    """How much of each cluster's known labels reaches each row.

    F solves (I - alpha S) F = Y, with S = D^(-1/2) W D^(-1/2) of the graph made symmetric and Y the known labels,
    one-hot. Each column is then divided by its sum, so that a cluster whose known rows stand in the thick of the graph
    does not take the others' rows: class mass normalisation, with clusters of equal weight.

    Args:
        graph: (rows, n_neighbours) numbers of each row's neighbours.
        y: (rows,) known clusters, -1 where unknown.
        n_clusters: K.
        alpha: share that a row takes from its neighbours, in (0, 1); near 1, labels travel far.

    Returns:
        (rows, K) scores; a row takes the largest. A row that no label reaches has zeros.

    Source: Zhou, Bousquet, Lal, Weston, Schölkopf, "Learning with local and global consistency", 2004, equation 4;
    Zhu, Ghahramani, Lafferty, "Semi-supervised learning using Gaussian fields and harmonic functions", 2003,
    section 4. Unlike scikit-learn's `LabelSpreading`, the graph is symmetric, and the solution exact.

    Examples:
        >>> chain = np.array([[1], [0], [3], [2]])
        >>> spread_labels(chain, np.array([0, -1, -1, 1]), 2).argmax(1).tolist()
        [0, 0, 1, 1]
    """
    n_rows = len(graph)
    one_way = one_way_graph(graph).astype(np.float64)
    weights = one_way.maximum(one_way.T)
    scale = diags_array(1 / np.sqrt(weights.sum(axis=1)))
    system: Any = eye_array(n_rows) - alpha * (scale @ weights @ scale)
    known = np.zeros((n_rows, n_clusters))
    known[y >= 0, y[y >= 0]] = 1
    scores = np.stack([cg(system, column, rtol=1e-8)[0] for column in known.T], 1)
    return np.maximum(scores, 0) / np.maximum(scores.sum(0), np.finfo(float).tiny)
