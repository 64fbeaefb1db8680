"""Rows for experts that start from clusters of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from probclust.story.recipe import Batch


def own_rows(batch: Batch) -> Tensor:
    """(K, rows, n_features) rows for each cluster's expert, drawn with replacement from its own starting cluster.

    Each gets a quarter of the batch's number of rows, so that K experts cost little more than a few on all rows. An
    expert whose cluster is empty gets a row of another.
    """
    memory, n_clusters = batch.run.memory, batch.run.story.n_clusters
    if "members" not in memory:
        memory.members = memory.labels.argsort(stable=True)
        memory.sizes = memory.labels.bincount(minlength=n_clusters)
    sizes = memory.sizes[:, None]
    share = torch.rand(n_clusters, max(1, len(batch.index) // 4), device=sizes.device)
    place = sizes.cumsum(0) - sizes + (share * sizes).long()
    return batch.run.x[memory.members[place.clamp(max=len(batch.run.x) - 1)]]
