"""Neighbour embedding: few-dimensional points whose near neighbours are those of the rows (UMAP's objective).

The rows' graph has an edge to each near neighbour, its weight falling with the distance beyond the nearest one, so that
every row has the same effective number of neighbours. Points pull each other along edges and push each other away from
random others, so that the cross-entropy between edges and closeness 1 / (1 + a d^(2b)) falls.

Unlike UMAP's reference implementation, which moves one edge at a time, edges move in a few large batches each epoch.

Source: L. McInnes, J. Healy, J. Melville, "UMAP: uniform manifold approximation and projection for dimension
reduction", 2018 (arXiv 1802.03426), sections 3 and 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from torch import Tensor

A, B = 1.929, 0.7915
"""Of the closeness 1 / (1 + A d^(2B)) that fits exp(-d), UMAP's for a minimal distance of 0 and a spread of 1."""


def neighbour_graph(distance: NDArray[Any], neighbour: NDArray[Any]) -> coo_array:
    """The symmetric graph of fuzzy neighbours.

    Args:
        distance: (rows, n_neighbours) to the nearest other rows of each, increasing.
        neighbour: (rows, n_neighbours) their row numbers.

    Returns:
        (rows, rows) sparse weights between 0 and 1; those of a row's own neighbours, before the graph is made
        symmetric, have the sum log2(n_neighbours + 1).
    """
    n_rows, k = distance.shape
    beyond = distance - distance[:, :1]
    low, high = np.zeros((n_rows, 1)), np.full((n_rows, 1), np.inf)
    scale = np.full((n_rows, 1), distance.mean() + 1e-12)
    for _ in range(64):  # bisection, after doubling until there is an upper end
        above = np.exp(-beyond / scale).sum(1, keepdims=True) > np.log2(k + 1)
        low, high = np.where(above, low, scale), np.where(above, scale, high)
        scale = np.where(np.isinf(high), 2 * scale, (low + np.where(np.isinf(high), 0, high)) / 2)
    weight = np.exp(-beyond / np.maximum(scale, 1e-3 * distance.mean() + 1e-12))
    places = np.repeat(np.arange(n_rows), k), neighbour.ravel()
    one_way = coo_array((weight.ravel(), places), shape=(n_rows, n_rows)).tocsr()
    return coo_array(one_way + one_way.T - one_way.multiply(one_way.T))


def neighbour_embedding(
    x: NDArray[Any],
    graph: coo_array,
    *,
    n_components: int = 10,
    epochs: int = 200,
    n_negative: int = 5,
    n_batches: int = 8,
    seed: int = 0,
) -> Tensor:
    """Points for the rows of a graph.

    Args:
        x: (rows, features), whose principal components are the start.
        graph: (rows, rows) weights, as `neighbour_graph` gives them.
        n_components: dimensions of the points.
        epochs: how often edges are drawn; an edge of weight w in each with a chance of w over the largest weight.
        n_negative: random others that each edge's first point is pushed from.
        n_batches: parts in which an epoch's edges move their points.
        seed: of all draws.

    Returns:
        (rows, n_components) points.
    """
    random = torch.Generator().manual_seed(seed)
    n_rows = len(x)
    weight = torch.as_tensor(graph.data / graph.data.max()).float()
    often = weight > 1 / epochs
    first, second = (torch.as_tensor(np.asarray(part)).long()[often] for part in graph.coords)
    weight = weight[often]
    points = _principal(torch.as_tensor(np.asarray(x)), n_components, random)
    for epoch in range(epochs):
        rate = 1 - epoch / epochs
        drawn = (torch.rand(len(weight), generator=random) < weight).nonzero().squeeze(1)
        drawn = drawn[torch.randperm(len(drawn), generator=random)]
        for part in drawn.chunk(n_batches):
            here, there = first[part], second[part]
            apart = points.index_select(0, here) - points.index_select(0, there)
            square = apart.square().sum(1, keepdim=True).clamp_(min=1e-12)
            power = square**B
            pull = (apart * (-2 * A * B * power / (square * (1 + A * power)))).clamp_(-4, 4).mul_(rate)
            points.index_add_(0, here, pull)
            points.index_add_(0, there, pull.neg_())
            others = torch.randint(n_rows, (len(part) * n_negative,), generator=random)
            apart = points.index_select(0, here)[:, None] - points.index_select(0, others).unflatten(0, (len(part), -1))
            square = apart.square().sum(2, keepdim=True)
            push = apart.mul_(2 * B / ((1e-3 + square) * (1 + A * square**B))).clamp_(-4, 4)
            points.index_add_(0, here, push.sum(1).mul_(rate))
    return points


def _principal(x: Tensor, n_components: int, random: torch.Generator) -> Tensor:
    """Principal components, the largest entry 10, with a little noise for rows that are alike."""
    centred = (x - x.mean(0)).float()
    n_found = min(n_components, *x.shape)
    covariance = centred.T @ centred
    axes = torch.linalg.eigh(covariance.double()).eigenvectors.flip(1)[:, :n_found].to(centred)
    points = torch.zeros(len(x), n_components)
    points[:, :n_found] = centred @ axes
    points *= 10 / points.abs().max().clamp(min=1e-12)
    return points + 1e-4 * torch.randn(points.shape, generator=random)
