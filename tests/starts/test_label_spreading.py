"""Known labels over a graph: against the dense solution, and where they reach."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.neighbors import NearestNeighbors

from probclust.starts.clusterers.label_spreading import spread_labels


@pytest.mark.parametrize("alpha", [0.5, 0.99])
def test_the_scores_are_the_dense_solution(alpha):
    rng = np.random.default_rng(0)
    graph = NearestNeighbors(n_neighbors=4).fit(rng.normal(size=(30, 2))).kneighbors(return_distance=False)
    y = np.full(30, -1)
    y[[2, 5, 7, 11]] = [0, 1, 2, 1]
    weights = np.zeros((30, 30))
    for row, neighbours in enumerate(graph):
        for other in neighbours:
            weights[row, other] = weights[other, row] = 1
    scale = np.diag(weights.sum(1) ** -0.5)
    known = np.eye(3)[y] * (y >= 0)[:, None]
    expected = np.linalg.inv(np.eye(30) - alpha * scale @ weights @ scale) @ known
    np.testing.assert_allclose(spread_labels(graph, y, 3, alpha=alpha), expected / expected.sum(0), atol=1e-6)


def test_one_label_for_each_moon_is_enough():
    x, moon = make_moons(300, noise=0.05, random_state=0)
    graph = NearestNeighbors(n_neighbors=8).fit(x).kneighbors(return_distance=False)
    y = np.full(300, -1)
    y[[np.argmax(moon == 0), np.argmax(moon == 1)]] = [0, 1]
    assert (spread_labels(graph, y, 2).argmax(1) == moon).mean() > 0.99


def test_rows_that_no_label_reaches_have_no_score():
    graph = np.array([[1], [0], [3], [2]])
    assert spread_labels(graph, np.array([1, -1, -1, -1]), 2)[2:].tolist() == [[0, 0], [0, 0]]
