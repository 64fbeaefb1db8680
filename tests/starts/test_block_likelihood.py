"""The block model's likelihood of clusters: against Poisson counts summed pair by pair, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.stats import poisson
from sklearn.metrics import mutual_info_score

from probclust.starts.clusterers.block_likelihood import block_likelihood


def random_graph(n_rows, seed):
    counts = np.random.default_rng(seed).poisson(0.7, (n_rows, n_rows))
    return np.triu(counts, 1) + np.triu(counts, 1).T


def poisson_likelihood(counts, labels, n_clusters):
    """Of the pairs' counts under rates degree_i degree_j omega[k, l], omega at its maximum, for given degrees."""
    degrees = counts.sum(1)
    belongs = np.eye(n_clusters)[labels]
    omega = (belongs.T @ counts @ belongs) / np.outer(belongs.T @ degrees, belongs.T @ degrees)
    rates = np.outer(degrees, degrees) * omega[labels][:, labels]
    return poisson.logpmf(counts, rates).sum() / counts.sum()


def test_differences_are_those_of_the_poisson_block_model():
    counts, random = random_graph(30, 0), np.random.default_rng(1)
    graph = coo_array(counts.astype(float))
    one, two = random.integers(3, size=(2, 30))
    expected = poisson_likelihood(counts, one, 3) - poisson_likelihood(counts, two, 3)
    assert block_likelihood(graph, one, 3) - block_likelihood(graph, two, 3) == pytest.approx(expected)


def test_it_is_the_information_across_edges():
    counts, labels = random_graph(40, 2), np.random.default_rng(3).integers(4, size=40)
    ends = np.repeat(np.argwhere(counts), counts[counts > 0], axis=0)
    expected = mutual_info_score(labels[ends[:, 0]], labels[ends[:, 1]])
    assert block_likelihood(coo_array(counts.astype(float)), labels, 4) == pytest.approx(expected)


def test_cliques_reach_log_k_and_an_empty_cluster_changes_nothing():
    labels = np.repeat(range(3), 5)
    graph = coo_array((labels[:, None] == labels) * 1.0)
    assert block_likelihood(graph, labels, 3) == pytest.approx(np.log(3))
    assert block_likelihood(graph, labels, 4) == pytest.approx(np.log(3))
