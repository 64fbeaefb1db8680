"""Model-based hierarchical clustering: many small groups, merged into K Gaussians, then refined by EM.

EM for a Gaussian mixture with full covariances ends in whatever optimum its start leads to. Here its start comes from
merging: of all pairs of groups, the one whose merger costs the least classification likelihood

    sum_k n_k log(n_k / n) - n_k / 2 log|S_k|,    S_k the covariance of group k,

until K are left.

Source: J. Banfield, A. Raftery, "Model-based Gaussian and non-Gaussian clustering", 1993; C. Fraley, A. Raftery,
"Model-based clustering, discriminant analysis, and density estimation", 2002, whose EM starts like this.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

Points = NDArray[np.float64]
Labels = NDArray[np.int64]

RIDGE = 1e-3
"""Added to every covariance, in units of the points' mean variance."""


def merged_gaussians(points: Points, n_clusters: int, *, n_groups: int = 100, seed: int = 0) -> Labels:
    """Clusters by merging k-means groups, refined by EM with full covariances.

    Args:
        points: (rows, dimensions).
        n_clusters: K.
        n_groups: k-means clusters to begin with, at least K.
        seed: of k-means.

    Returns:
        (rows,) clusters.
    """
    n_groups = max(n_clusters, min(n_groups, len(points) // 5))
    groups = KMeans(n_groups, n_init=1, random_state=seed).fit_predict(points)
    return refined(points, merge(points, groups, n_clusters), n_clusters)


def merge(points: Points, groups: Labels, n_clusters: int) -> Labels:
    """Merge groups, at each step the pair that costs the least classification likelihood, until K are left.

    Args:
        points: (rows, dimensions).
        groups: (rows,) group of each, numbered from 0, none empty.
        n_clusters: K.

    Returns:
        (rows,) clusters 0..K-1.
    """
    n_groups = int(groups.max()) + 1
    belongs = np.eye(n_groups)[groups]
    size = belongs.sum(0)
    mean = belongs.T @ points / size[:, None]
    centred = points - mean[groups]
    scatter = np.stack([centred[groups == k].T @ centred[groups == k] for k in range(n_groups)])
    ridge = RIDGE * points.var(0).mean() * np.eye(points.shape[1])

    def cost(n: NDArray[Any], s: NDArray[Any]) -> NDArray[Any]:
        """Minus twice the classification likelihood of groups of n rows with scatter s, but for constants."""
        logdet: NDArray[Any] = np.linalg.slogdet(s / n[..., None, None] + ridge)[1]
        return n * logdet - 2 * n * np.log(n / len(points))

    def rise(k: int) -> NDArray[Any]:
        """Of the cost, by merging group k with each other one."""
        apart = mean - mean[k]
        both = size + size[k]
        outer = np.einsum("gi,gj->gij", apart, apart) * (size * size[k] / both)[:, None, None]
        return cost(both, scatter + scatter[k] + outer) - own - own[k]

    own = cost(size, scatter)
    rises = np.stack([rise(k) for k in range(n_groups)])
    np.fill_diagonal(rises, np.inf)
    now = np.arange(n_groups)
    for _ in range(n_groups - n_clusters):
        into, gone = sorted(divmod(int(rises.argmin()), n_groups))
        apart, both = mean[gone] - mean[into], size[gone] + size[into]
        scatter[into] += scatter[gone] + np.outer(apart, apart) * size[into] * size[gone] / both
        mean[into] += apart * size[gone] / both
        size[into] = both
        now[now == gone] = into
        own[into] = cost(size[into : into + 1], scatter[into : into + 1])[0]
        dead = np.isinf(rises).all(0)
        rises[into] = rises[:, into] = np.where(dead, np.inf, rise(into))
        rises[into, into] = np.inf
        rises[gone] = rises[:, gone] = np.inf
    labels: Labels = np.unique(now[groups], return_inverse=True)[1]
    return labels


def refined(points: Points, labels: Labels, n_clusters: int) -> Labels:
    """(rows,) clusters after EM from given ones, with full covariances."""
    ridge = RIDGE * points.var(0).mean()
    share = np.bincount(labels, minlength=n_clusters) / len(labels)
    means = np.stack([points[labels == k].mean(0) for k in range(n_clusters)])
    eye = np.eye(points.shape[1])
    precisions = np.stack(
        [np.linalg.inv(np.cov(points[labels == k].T, ddof=0) + ridge * eye) for k in range(n_clusters)]
    )
    mixture = GaussianMixture(
        n_clusters, reg_covar=ridge, weights_init=share, means_init=means, precisions_init=precisions
    )
    with warnings.catch_warnings():  # a mixture short of EM's tolerance is good enough for a start
        warnings.simplefilter("ignore", ConvergenceWarning)
        found: Labels = mixture.fit_predict(points)
    return found
