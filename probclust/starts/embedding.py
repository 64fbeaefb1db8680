"""A start from the rows' neighbour graph: clusters of its embedding, and codes that follow it.

Clusters of a neighbour embedding are found there twice: by Gaussians with full covariances, which take islands of any
size and shape for what they are, and by k-means, which cuts islands that touch. Which islands there are differs from
one embedding to the next. Of all these clusters those count that explain the graph best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from probclust.arguments import positive
from probclust.data.kinds import ImageShape
from probclust.starts.clusterers.block_likelihood import block_likelihood
from probclust.starts.clusterers.gaussian_merging import merged_gaussians
from probclust.starts.clusterers.neighbour_embedding import neighbour_embedding, neighbour_graph
from probclust.starts.clusterers.neighbours import nearest_neighbours
from probclust.starts.labels import EMBEDDING, KMEANS, NEIGHBOURS, complete_rows, start_from
from probclust.story.recipe import Batch, Compute, Run, Train

View = Callable[[Tensor], Tensor]


def embedding_start(
    *,
    n_neighbours: int = 15,
    n_components: int = 10,
    n_embeddings: int | None = None,
    view: View | None = None,
    image_shape: ImageShape | None = None,
) -> Compute:
    """A step that puts starting labels into `run.memory[START]`, and an embedding into `run.memory[EMBEDDING]`.

    The labels of k-means on that embedding are kept in `run.memory[KMEANS]`, and the neighbours of each row in
    `run.memory[NEIGHBOURS]`.

    Args:
        n_neighbours: nearest neighbours of each row in the graph.
        n_components: dimensions of the embedding.
        n_embeddings: embeddings to try, of which that counts whose clusters have the largest `block_likelihood`; None
            for `n_embeddings_of` the rows. The first clusters that no edge joins end the search.
        view: (rows, n_features) to the columns in which rows are neighbours; None for x.
        image_shape: height and width where rows are images, whose neighbours the image distortion model then finds.
    """

    def find(run: Run) -> None:
        rows = complete_rows(run)
        x = (rows if view is None else view(rows)).cpu().numpy()
        n_clusters = run.story.n_clusters
        distance, neighbour = nearest_neighbours(x, n_neighbours, image_shape)
        run.memory[NEIGHBOURS] = torch.as_tensor(neighbour, device=run.x.device)
        graph = neighbour_graph(distance, neighbour)
        n_tried = n_embeddings_of(len(x)) if n_embeddings is None else positive("n_embeddings", n_embeddings)
        best = -float("inf")
        for seed in np.random.SeedSequence(run.seed).generate_state(n_tried).tolist():
            tried = neighbour_embedding(x, graph, n_components=n_components, seed=seed)
            points = tried.double().numpy()
            plain = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(points)
            for found in (merged_gaussians(points, n_clusters, seed=seed), plain):
                joined = (graph.data * (found[graph.coords[0]] != found[graph.coords[1]])).any()
                score = block_likelihood(graph, found, n_clusters) if joined else float("inf")
                if score > best:
                    best, labels, embedding, kmeans = score, found, tried, plain
            if best == float("inf"):
                break
        run.memory[EMBEDDING] = embedding.to(run.x)
        run.memory[KMEANS] = torch.as_tensor(kmeans).long()
        start_from(labels, run)

    return Compute(name="start", run=find)


def n_embeddings_of(n_rows: int) -> int:
    """Embeddings to try: 10 of up to 5,000 rows, fewer of more, and 4 of 12,500 and more."""
    return max(4, min(10, 50_000 // n_rows))


def embedding_pretraining(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    modules: Sequence[nn.Module],
    *,
    epochs: int | None = None,
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
        epochs: passes over the rows; None for 15, but at least 4,000 batches.
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
        epochs=15 if epochs is None else epochs,
        min_steps=4000 if epochs is None else 0,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule="cosine",
        modules=modules,
    )
