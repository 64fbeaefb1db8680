"""Merging groups into Gaussians: against a search that computes every likelihood anew, and on long thin clusters."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from probclust.starts.clusterers.gaussian_merging import RIDGE, merge, merged_gaussians


def long_clusters(n_rows=300):
    random = np.random.default_rng(0)
    sizes = (n_rows, n_rows // 2, n_rows // 4)
    points = [random.normal(size=(n, 2)) * (6.0, 0.2) + (0.0, 1.5 * k) for k, n in enumerate(sizes)]
    return np.concatenate(points), np.repeat(range(3), sizes)


def classification_likelihood(points, labels):
    ridge, total = RIDGE * points.var(0).mean() * np.eye(points.shape[1]), 0.0
    for k in np.unique(labels):
        own = points[labels == k]
        covariance = np.atleast_2d(np.cov(own.T, ddof=0)) + ridge
        total += len(own) * np.log(len(own) / len(points)) - len(own) / 2 * np.linalg.slogdet(covariance)[1]
    return total


def test_each_merger_is_the_one_that_costs_the_least():
    points, _ = long_clusters(80)
    groups = KMeans(9, n_init=1, random_state=0).fit_predict(points)
    expected = groups.copy()
    for n_left in range(8, 2, -1):
        pairs = list(combinations(np.unique(expected), 2))
        merged = [np.where(expected == b, a, expected) for a, b in pairs]
        expected = max(merged, key=lambda labels: classification_likelihood(points, labels))
        assert adjusted_rand_score(expected, merge(points, groups, n_left)) == 1.0


def test_long_clusters_of_unequal_size_are_found_where_kmeans_fails():
    points, truth = long_clusters()
    assert adjusted_rand_score(truth, KMeans(3, n_init=10, random_state=0).fit_predict(points)) < 0.5
    for seed in range(3):
        assert adjusted_rand_score(truth, merged_gaussians(points, 3, seed=seed)) > 0.99


def test_labels_are_numbered_from_zero_and_few_rows_are_enough():
    points, _ = long_clusters(20)
    labels = merged_gaussians(points, 4)
    assert set(labels) == set(range(4))
