"""A start from the rows' neighbour graph: clusters of its embedding, and codes that follow it.

Clusters of a neighbour embedding are found there twice: by Gaussians with full covariances, which take islands of any
size and shape for what they are, and by k-means, which cuts islands that touch. Which islands there are differs from
one embedding to the next. Of all these clusters those count that explain the graph best.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from probclust.arguments import positive
from probclust.data.kinds import ImageShape
from probclust.starts.clusterers.block_likelihood import block_likelihood
from probclust.starts.clusterers.gaussian_merging import merged_gaussians
from probclust.starts.clusterers.neighbour_embedding import neighbour_embedding, neighbour_graph
from probclust.starts.clusterers.neighbours import nearest_neighbours
from probclust.starts.following import followed
from probclust.starts.labels import complete_rows, start_from
from probclust.starts.start import Clusters, Coder, Start, start_kind
from probclust.story.recipe import Compute, Run, Step
from probclust.story.story import Story

View = Callable[[Tensor], Tensor]


def embedding_start(
    *,
    n_neighbours: int = 15,
    n_components: int = 10,
    n_embeddings: int | None = None,
    view: View | None = None,
    image_shape: ImageShape | None = None,
) -> Compute:
    """A step that puts starting labels into `run.memory.labels`, and an embedding into `run.memory.embedding`.

    The labels of k-means on that embedding are kept in `run.memory.kmeans`, and the neighbours of each row in
    `run.memory.neighbours`.

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
        run.memory.neighbours = torch.as_tensor(neighbour, device=run.x.device)
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
        run.memory.embedding = embedding.to(run.x)
        run.memory.kmeans = torch.as_tensor(kmeans).long()
        start_from(labels, run)

    return Compute(name="start", run=find)


def n_embeddings_of(n_rows: int) -> int:
    """Embeddings to try: 10 of up to 5,000 rows, fewer of more, and 4 of 12,500 and more."""
    return max(4, min(10, 50_000 // n_rows))


@start_kind("embedding", suits=lambda start: start.image_shape is not None and start.lengths is None)
def _steps(start: Start, story: Story, coder: Coder, clusters: Clusters) -> list[Step]:
    return followed(embedding_start(view=coder.view, image_shape=start.image_shape), start, coder)
