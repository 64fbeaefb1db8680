"""Neighbour embedding: the graph's weights, the curve of closeness, and neighbours that stay neighbours."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import brentq, curve_fit
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from probclust.starts.clusterers.neighbour_embedding import A, B, neighbour_embedding, neighbour_graph
from probclust.starts.clusterers.neighbours import nearest_neighbours

X = np.random.default_rng(0).normal(size=(60, 4))


def graph_of(x, n_neighbours):
    return neighbour_graph(*nearest_neighbours(x, n_neighbours))


def test_weights_are_those_of_umap_row_by_row():
    distance, neighbour = NearestNeighbors(n_neighbors=7).fit(X).kneighbors()
    one_way = np.zeros((60, 60))
    for i, d in enumerate(distance):
        scale = brentq(lambda s, d=d: np.exp(-(d - d[0]) / s).sum() - np.log2(8), 1e-6, 1e3)
        one_way[i, neighbour[i]] = np.exp(-(d - d[0]) / scale)
    expected = one_way + one_way.T - one_way * one_way.T
    np.testing.assert_allclose(graph_of(X, 7).toarray(), expected, atol=1e-6)


def test_rows_that_are_alike_have_finite_weights():
    weight = graph_of(np.repeat(X[:10], 6, axis=0), 5).data
    assert np.isfinite(weight).all()
    assert weight.min() >= 0
    assert weight.max() <= 1 + 1e-12


def test_the_curve_of_closeness_fits_the_exponential():
    d = np.linspace(0, 3, 300)
    (a, b), _ = curve_fit(lambda d, a, b: 1 / (1 + a * d ** (2 * b)), d, np.exp(-d), p0=(1.5, 0.8))
    np.testing.assert_allclose((A, B), (a, b), rtol=0.01)


def test_neighbours_stay_neighbours_better_than_in_principal_components():
    x = load_digits().data[:600] / 16
    points = neighbour_embedding(x, graph_of(x, 10), n_components=2)
    ours, linear = (trustworthiness(x, p, n_neighbors=10) for p in (points.numpy(), PCA(2).fit_transform(x)))
    assert ours > 0.95 > linear


def test_one_seed_gives_one_embedding():
    graph = graph_of(X, 5)
    first, again, other = (neighbour_embedding(X, graph, n_components=3, epochs=5, seed=s) for s in (0, 0, 1))
    assert first.shape == (60, 3)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_offset_of_all_rows_changes_nothing():
    x = load_digits().data[:60] / 16
    graph = graph_of(x, 5)
    plain, moved = (neighbour_embedding(x + off, graph, epochs=3, seed=1) for off in (0.0, 2.0**30))
    np.testing.assert_allclose(moved, plain, atol=1e-2)


def test_more_components_than_features_are_taken():
    assert neighbour_embedding(X, graph_of(X, 5), n_components=10, epochs=3).isfinite().all()
