"""The start from principal components: k-means on the rows' first components, which the codes then follow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor

from probclust.arguments import positive
from probclust.starts.following import followed
from probclust.starts.labels import codes_of, start_from
from probclust.starts.start import Clusters, Coder, Start, start_kind
from probclust.story.recipe import Compute, Run, Step
from probclust.story.story import Story


def principal_components_start(
    *, n_components: int = 10, n_init: int = 20, view: Callable[[Tensor], Tensor] | None = None
) -> Compute:
    """A step that leaves clusters in `run.memory.labels`, and the components in `run.memory.embedding`.

    Args:
        n_components: principal components, at most; fewer of fewer columns or rows.
        n_init: starts of k-means, of which the one with the least inertia counts.
        view: (rows, n_features) to the columns that are reduced; None for x.
    """
    positive("n_components", n_components)

    def find(run: Run) -> None:
        x = codes_of(run, view).cpu().numpy()
        points = PCA(min(n_components, *x.shape), random_state=0).fit_transform(x)
        kmeans = KMeans(run.story.n_clusters, n_init=n_init, random_state=run.seed % 2**32).fit_predict(points)
        run.memory.embedding = torch.as_tensor(points).to(run.x)
        run.memory.kmeans = torch.as_tensor(kmeans).long()
        start_from(kmeans, run)

    return Compute(name="start", run=find)


@start_kind("principal components")
def _steps(start: Start, story: Story, coder: Coder, clusters: Clusters) -> list[Step]:
    return followed(principal_components_start(view=coder.view), start, coder)
