"""Networks and centroids trained in turn: a gradient step, then one of mini-batch k-means on the codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor
from torch.nn import functional

from probclust.story.recipe import SVI, Batch


@dataclass(frozen=True, kw_only=True)
class InTurn(SVI):
    """SVI of networks by the hard objective, each batch followed by a step of its story's centroids.

    The story has a `codec` of points, (K, L) `centroids` and (K,) `counts`, the rows that each has had.

    Source: B. Yang, X. Fu, N. Sidiropoulos, M. Hong, "Towards k-means-friendly spaces", ICML 2017, section 4.2.
    """

    objective: str | ELBO = "hard"

    def after(self, batch: Batch) -> None:
        """Assign the batch's rows and move their centroids."""
        story: Any = batch.run.story
        known = None if batch.run.y is None else batch.run.y[batch.index]
        move_centroids(story.centroids, story.counts, story.codec.codes(batch.x), known)


@torch.no_grad()
def move_centroids(centroids: Tensor, counts: Tensor, z: Tensor, known: Tensor | None = None) -> None:
    """Assign codes to their nearest centroids, then make each centroid the mean of all the codes it has had, in place.

    One row at a time, m_k <- m_k - (m_k - z) / c_k with c_k raised by one before, gives the same.

    Args:
        centroids: (K, L).
        counts: (K,) codes that each has had.
        z: (rows, L), a batch.
        known: (rows,) known clusters, -1 where unknown.
    """
    labels = torch.cdist(z, centroids).argmin(1)
    if known is not None:
        labels = torch.where(known >= 0, known, labels)
    belongs = functional.one_hot(labels, len(centroids)).to(z)
    new = belongs.sum(0)
    counts.add_(new)
    centroids.add_((belongs.T @ z - new[:, None] * centroids) / counts.clamp(min=1)[:, None])
