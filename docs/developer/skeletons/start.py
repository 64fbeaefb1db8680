"""The start MyStart: say in one line how it finds clusters, and of which rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor

from probclust.starts.following import followed
from probclust.starts.labels import codes_of, start_from
from probclust.starts.start import Clusters, Coder, Start, start_kind
from probclust.story.recipe import Compute, Run, Step
from probclust.story.story import Story


def my_start(*, view: Callable[[Tensor], Tensor] | None = None) -> Compute:
    """A step that leaves clusters in `run.memory.labels`, by Ward's method: write what finds them here.

    Known rows have their say, as `start_from` tells.

    Args:
        view: (rows, n_features) to the columns in which rows are compared; None for x.

    Source: authors, "Title", year.
    """

    def find(run: Run) -> None:
        x = codes_of(run, view).cpu().numpy()
        labels = AgglomerativeClustering(run.story.n_clusters).fit_predict(x)
        run.memory.embedding = torch.as_tensor(x).to(run.x)  # the points that codes follow
        start_from(labels, run)

    return Compute(name="start", run=find)


@start_kind("my-start")  # by which recipes take it: recipe={"pretraining": ...}; nothing else lists it
def _steps(start: Start, story: Story, coder: Coder, clusters: Clusters) -> list[Step]:
    return followed(my_start(view=coder.view), start, coder)
