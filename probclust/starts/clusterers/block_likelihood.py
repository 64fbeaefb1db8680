"""How well clusters explain a graph: the likelihood of a stochastic block model that keeps the rows' degrees.

With A[k, l] the weight of edges from cluster k to cluster l, and V[k] that of all edges at k, the profile likelihood
per unit of weight is, but for a constant of the graph,

    sum_kl A[k, l] / A log(A[k, l] A / (V[k] V[l])),    A = sum_kl A[k, l],

which is the mutual information of the clusters at the two ends of an edge, in nats.

Source: B. Karrer, M. Newman, "Stochastic blockmodels and community structure in networks", Physical Review E, 2011
(arXiv 1008.3926), equation 16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.special import xlogy


def block_likelihood(graph: coo_array, labels: NDArray[Any], n_clusters: int) -> float:
    """The clusters' information across edges, in nats.

    Args:
        graph: (rows, rows) symmetric weights.
        labels: (rows,) clusters 0..K-1.
        n_clusters: K.

    Returns:
        At least 0, and at most log K: 0 where edges pay no heed to clusters.
    """
    between = np.zeros((n_clusters, n_clusters))
    first, second = (labels[ends] for ends in graph.coords)
    np.add.at(between, (first, second), graph.data)
    between /= between.sum()
    volume = between.sum(1)
    return float(xlogy(between, between).sum() - 2 * xlogy(volume, volume).sum())
