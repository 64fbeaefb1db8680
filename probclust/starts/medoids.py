"""k-medoids: clusters around rows, for any dissimilarity."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from probclust.starts.labels import codes_of, start_from
from probclust.story.recipe import Compute, Run

Between = Callable[[Tensor, Tensor], Tensor]
"""Dissimilarities (...) of rows (..., D) to centres (..., D) that broadcast."""


def k_medoids(distances: Tensor, n_clusters: int, max_rounds: int = 100) -> Tensor:
    """Rows such that the sum over all rows of the dissimilarity to the nearest of them is small.

    Greedy seeding, then alternating between assignment and the best medoid of each cluster, until nothing changes.
    No random numbers are drawn.

    Args:
        distances: (rows, rows), entry [i, j] the dissimilarity of row i to centre j.
        n_clusters: K, at most the number of rows.
        max_rounds: of the alternation.

    Returns:
        (K,) rows.

    Source: L. Kaufman, P. J. Rousseeuw, "Finding groups in data", 1990, chapter 2 (the seeding is PAM's "build").
    """
    nearest = torch.full_like(distances[:, 0], torch.inf)
    chosen: list[int] = []
    for _ in range(n_clusters):
        costs = torch.minimum(nearest[:, None], distances).sum(0)
        costs[chosen] = torch.inf
        chosen.append(int(costs.argmin()))
        nearest = torch.minimum(nearest, distances[:, chosen[-1]])
    medoids = torch.tensor(chosen, device=distances.device)
    for _ in range(max_rounds):
        labels = distances[:, medoids].argmin(1)
        labels[medoids] = torch.arange(n_clusters, device=labels.device)  # where rows are alike, no cluster empties
        members = [(labels == k).nonzero().squeeze(1) for k in range(n_clusters)]
        updated = torch.stack([own[distances[own][:, own].sum(0).argmin()] for own in members])
        if torch.equal(updated, medoids):
            break
        medoids = updated
    return medoids


def kmedoids_start(
    between: Between, max_rows: int = 2000, *, encode: Callable[[Tensor], Tensor] | None = None
) -> Compute:
    """A step that puts starting labels into `run.memory.labels`, by k-medoids.

    Known rows have their say, as `start_from` tells.

    Args:
        between: the dissimilarity.
        max_rows: medoids are sought among that many rows, drawn at random where there are more; the paper takes
            10,000.
        encode: (rows, n_features) to (rows, latent_dim) codes to cluster; None to cluster x itself.
    """

    def find(run: Run) -> None:
        x, n_clusters = codes_of(run, encode), run.story.n_clusters
        some = x[torch.randperm(len(x))[:max_rows].to(x.device)]
        with torch.no_grad():
            medoids = some[k_medoids(_pairwise(some, some, between), n_clusters)]
            labels = _pairwise(x, medoids, between).argmin(1).cpu().numpy()
        start_from(labels, run)

    return Compute(name="start", run=find)


def _pairwise(x: Tensor, centres: Tensor, between: Between) -> Tensor:
    """(rows, centres), some rows at a time so that memory stays bounded."""
    size = max(1, 2**22 // centres.numel())
    return torch.cat([between(part[:, None], centres) for part in x.split(size)])
