"""A start from the rows' neighbour graph: clusters of its embedding, and codes that follow it.

Clusters that are islands of a neighbour embedding are found there by Gaussians with full covariances, whatever their
sizes and shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from probclust.gaussian_merging import merged_gaussians
from probclust.neighbour_embedding import neighbour_embedding, neighbour_graph
from probclust.recipe import Batch, Compute, Run, Train
from probclust.starting_labels import EMBEDDING, KMEANS, complete_rows, start_from

View = Callable[[Tensor], Tensor]


def embedding_start(*, n_neighbours: int = 15, n_components: int = 10, view: View | None = None) -> Compute:
    """A step that puts starting labels into `run.memory[START]`, and an embedding into `run.memory[EMBEDDING]`.

    The labels of k-means on that embedding, which the clusters improve on, are kept in `run.memory[KMEANS]`.

    Args:
        n_neighbours: nearest neighbours of each row in the graph.
        n_components: dimensions of the embedding.
        view: (rows, n_features) to the columns in which rows are neighbours; None for x.
    """

    def find(run: Run) -> None:
        rows = complete_rows(run)
        x = (rows if view is None else view(rows)).cpu().numpy()
        n_clusters, seed = run.story.n_clusters, run.seed % 2**32
        embedding = neighbour_embedding(x, neighbour_graph(x, n_neighbours), n_components=n_components, seed=seed)
        points = embedding.double().numpy()
        run.memory[EMBEDDING] = embedding.to(run.x)
        kmeans = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(points)
        run.memory[KMEANS] = torch.as_tensor(kmeans).long()
        start_from(merged_gaussians(points, n_clusters, seed=seed), run)

    return Compute(name="start", run=find)


def embedding_pretraining(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    modules: Sequence[nn.Module],
    *,
    epochs: int = 15,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    reconstruction: float = 1.0,
    view: View | None = None,
) -> Train:
    """The step after `embedding_start` that trains an autoencoder whose codes are the embedding, and that reconstructs.

    Args:
        encode: (rows, n_features) to (rows, latent_dim) codes; the embedding's first latent_dim columns are theirs,
            and further columns of the codes are free.
        decode: codes to (rows, n_features), or to their view.
        modules: whose parameters are trained.
        epochs: passes over the rows.
        batch_size: rows per batch.
        learning_rate: of Adam at the start; it falls to zero by a cosine.
        reconstruction: weight of the share of variance not reconstructed, beside that of the embedding not matched.
        view: as for `embedding_start`.
    """

    def loss(batch: Batch) -> Tensor:
        x = complete_rows(batch.run)[batch.index]
        seen = x if view is None else view(x)
        codes = encode(x)
        points = batch.run.memory[EMBEDDING]
        shared = min(codes.shape[1], points.shape[1])
        target = points[:, :shared]
        off = (codes[:, :shared] - target[batch.index]).square().sum(1).mean() / target.var(0).sum()
        missed = (decode(codes) - seen).square().sum(1).mean() / seen.var(0).sum().clamp(min=1e-12)
        return off + reconstruction * missed

    return Train(
        name="pre-train",
        loss=loss,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule="cosine",
        modules=modules,
    )
