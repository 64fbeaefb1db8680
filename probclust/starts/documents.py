"""A start for documents that are bags of words: clusters of the means of their words' vectors.

Documents make no islands for a neighbour embedding to show, and k-means on them ends elsewhere from each start. Of
several, each corrected by the documents' neighbours, the one counts that explains the neighbour graph best.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor

from probclust.arguments import positive
from probclust.starts.clusterers.block_likelihood import block_likelihood
from probclust.starts.clusterers.graphs import agreed_with_neighbours
from probclust.starts.clusterers.neighbour_embedding import neighbour_graph
from probclust.starts.clusterers.neighbours import nearest_neighbours
from probclust.starts.clusterers.word_vectors import document_vectors
from probclust.starts.following import followed
from probclust.starts.labels import complete_rows, start_from
from probclust.starts.start import Clusters, Coder, Start, start_kind
from probclust.story.recipe import Compute, Run, Step
from probclust.story.story import Story

N_SHOWN = 10
"""Principal components of the documents' vectors that are left as the start's embedding."""


def words_start(
    *,
    n_neighbours: int = 15,
    n_components: int = 100,
    n_init: int = 50,
    view: Callable[[Tensor], Tensor] | None = None,
) -> Compute:
    """A step that puts starting labels into `run.memory.labels`, and documents' vectors into `run.memory.embedding`.

    The latter are rotated to their principal components, of which the first ten stay. The labels of k-means are kept in
    `run.memory.kmeans`, and the neighbours of each document in `run.memory.neighbours`.

    Args:
        n_neighbours: nearest neighbours of each document in the graph.
        n_components: dimensions of the words' vectors.
        n_init: starts of k-means to try; many, for they end far apart, and a few leave the best to chance.
        view: (rows, n_features) to the words' weights, 0 where a document lacks a word; None for x.
    """

    def find(run: Run) -> None:
        rows = complete_rows(run)
        x = (rows if view is None else view(rows)).cpu().numpy()
        n_clusters = run.story.n_clusters
        points = document_vectors(x, n_components)
        distance, neighbour = nearest_neighbours(points, n_neighbours)
        graph = neighbour_graph(distance, neighbour)
        votes = graph.tocsr()
        tried = [
            KMeans(n_clusters, n_init=1, random_state=seed).fit_predict(points)
            for seed in np.random.SeedSequence(run.seed).generate_state(positive("n_init", n_init)).tolist()
        ]
        corrected = [agreed_with_neighbours(labels, votes, n_clusters) for labels in tried]
        best = int(np.argmax([block_likelihood(graph, labels, n_clusters) for labels in corrected]))
        shown = PCA(min(N_SHOWN, *points.shape), random_state=0).fit_transform(points)
        run.memory.neighbours = torch.as_tensor(neighbour, device=run.x.device)
        run.memory.embedding = torch.as_tensor(shown).to(run.x)
        run.memory.kmeans = torch.as_tensor(tried[best]).long()
        start_from(corrected[best], run)

    return Compute(name="start", run=find)


@start_kind("words", suits=lambda start: start.documents)
def _steps(start: Start, story: Story, coder: Coder, clusters: Clusters) -> list[Step]:
    return followed(words_start(view=coder.view), start, coder)
