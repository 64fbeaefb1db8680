"""The most and the least typical rows of each cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from probclust.arguments import positive
from probclust.story.rows import admit
from probclust.story.scoring import log_joint
from probclust.story.story import Story


def prototypes(story: Story, x: Any, n: int = 5, *, particles: int | None = None, seed: int = 0) -> pd.DataFrame:
    """The rows of each cluster that it finds most probable, its prototypes, and those that it finds least so.

    Rows belong to their most probable cluster k, and are ordered by log p(x, cluster = k), or its bound: within a
    cluster, the order of log p(x | cluster). In a Gaussian mixture, prototypes are nearest to the mean in Mahalanobis
    distance. Unlike `pc.modes`, they are real rows.

    Args:
        story: any story.
        x: (rows, n_features); the index of a pandas frame names the rows.
        n: rows of each kind for each cluster; fewer where a cluster has fewer.
        particles: of `pc.log_joint`: None for latents at the guide's mean, S for a bound by S draws.
        seed: of the draws.

    Returns:
        pandas.DataFrame indexed by cluster, kind ("most" or "least" typical) and rank from 0, with columns

        - row: position in x, so that `x[table.loc[3, "most"]["row"]]` are the prototypes of cluster 3;
        - name: of the row, only where `x` is a frame;
        - log_joint: log p(x, cluster), in nats;
        - responsibility: p(cluster | x).

        A cluster without rows is left out.

    Examples:
        >>> import torch, probclust as pc
        >>> table = prototypes(pc.models.GaussianMixture(2, n_clusters=1), torch.tensor([[9.0, 9.0], [0.0, 0.0]]), n=1)
        >>> table["row"].to_dict()
        {(0, 'most', 0): 1, (0, 'least', 0): 0}
    """
    rows, n = admit(story, x), positive("n", n)
    table = log_joint(story, rows, particles, seed=seed).double()
    labels, probabilities = table.argmax(1).numpy(), table.softmax(1).numpy()
    entries: list[dict[str, Any]] = []
    for k in range(story.n_clusters):
        mine = np.flatnonzero(labels == k)
        score = table[mine, k].numpy()
        for kind, order in (("most", np.argsort(-score, kind="stable")), ("least", np.argsort(score, kind="stable"))):
            entries += [
                {
                    "cluster": k,
                    "kind": kind,
                    "rank": rank,
                    "row": mine[i],
                    "log_joint": score[i],
                    "responsibility": probabilities[mine[i], k],
                }
                for rank, i in enumerate(order[:n])
            ]
    found = pd.DataFrame(entries)
    found["kind"] = pd.Categorical(found["kind"], ["most", "least"])
    found = found.set_index(["cluster", "kind", "rank"]).sort_index()
    if isinstance(x, pd.DataFrame):
        found.insert(1, "name", x.index[found["row"]])
    return found
