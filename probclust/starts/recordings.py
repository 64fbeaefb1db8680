"""A start for rows in order, such as windows of a sensor's signal: clusters that last, by a hidden Markov model.

Neighbouring windows are mostly of one activity, whichever way it shows. So what differs between clusters but not from
one window to the next counts, where k-means goes by the largest differences. Recordings differ by who wears the sensor,
and where: each is brought to mean 0 and deviation 1 of each feature first, so a recording must visit the clusters, not
stay in one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor

from probclust.arguments import positive
from probclust.data.kinds import checked_lengths
from probclust.starts.clusterers.hidden_markov import HiddenMarkov, fitted_hidden_markov
from probclust.starts.following import followed
from probclust.starts.labels import complete_rows, start_from
from probclust.starts.start import Clusters, Coder, Start, start_kind
from probclust.story.recipe import Compute, Run, Step
from probclust.story.story import Story

LEAST_SCALE = 0.1
"""Of a feature's deviation in all rows: below that, its deviation in a recording does not stretch it further."""

ROWS_PER_COMPONENT = 10
"""Rows that the model has at least for each component: with few, any clusters stand apart in some direction."""

SHORT = 5
"""Iterations of EM after which starts are compared."""

GOING_ON = 0.2
"""Share of the starts that go on from there, at least one."""


def sequence_start(
    lengths: Sequence[int],
    *,
    n_components: int = 100,
    n_init: int = 50,
    view: Callable[[Tensor], Tensor] | None = None,
) -> Compute:
    """A step that puts starting labels into `run.memory.labels`, and coordinates into `run.memory.embedding`.

    The coordinates are those in which the clusters differ, one fewer than clusters. The labels of k-means from which
    the model was started are kept in `run.memory.kmeans`.

    Args:
        lengths: rows of each recording; recordings follow each other, and rows are in order of time within them.
        n_components: principal components that the model is of, at most: fewer of fewer than ten times as many rows.
        n_init: starts of k-means to try, see `likeliest_hidden_markov`.
        view: (rows, n_features) to the columns that are clustered; None for x.
    """

    def find(run: Run) -> None:
        rows = complete_rows(run)
        x = (rows if view is None else view(rows)).double().cpu().numpy()
        recordings = checked_lengths(lengths, len(x))
        points = standardised(x, recordings)
        if not points.any():
            raise ValueError(
                f"no feature varies within any of the {len(recordings)} recordings, so that nothing tells clusters "
                "apart in them; check lengths, or leave them out"
            )
        most = max(1, len(points) // ROWS_PER_COMPONENT)
        points = PCA(min(n_components, most, points.shape[1]), random_state=0).fit_transform(points)
        found, kmeans = likeliest_hidden_markov(points, recordings, run.story.n_clusters, n_init=n_init, seed=run.seed)
        run.memory.embedding = torch.as_tensor(found.coordinates).to(run.x)
        run.memory.kmeans = torch.as_tensor(kmeans).long()
        start_from(found.responsibilities.argmax(1), run)

    return Compute(name="start", run=find)


def likeliest_hidden_markov(
    points: NDArray[Any], lengths: Sequence[int], n_clusters: int, *, n_init: int, seed: int
) -> tuple[HiddenMarkov, NDArray[np.int64]]:
    """The model of the largest likelihood from `n_init` starts of k-means, and the (rows,) clusters of that start.

    After five iterations of EM the likeliest fifth of the starts goes on to the end.

    Source: C. Biernacki, G. Celeux, G. Govaert, "Choosing starting values for the EM algorithm for getting the highest
    likelihood in multivariate Gaussian mixture models", Computational Statistics & Data Analysis, 2003: short runs.
    """
    short = []
    for own in np.random.SeedSequence(seed).generate_state(positive("n_init", n_init)).tolist():
        kmeans = KMeans(n_clusters, n_init=1, random_state=own).fit_predict(points)
        begun = fitted_hidden_markov(points, lengths, kmeans, n_clusters, iterations=SHORT)
        short.append((begun.log_likelihood, begun.responsibilities.argmax(1), kmeans))
    short.sort(key=lambda one: -one[0])
    ended = [
        (fitted_hidden_markov(points, lengths, labels, n_clusters), kmeans)
        for _, labels, kmeans in short[: math.ceil(n_init * GOING_ON)]
    ]
    return max(ended, key=lambda one: one[0].log_likelihood)


def standardised(x: NDArray[Any], lengths: Sequence[int]) -> NDArray[np.float64]:
    """(rows, features) with mean 0 in each recording, and deviation 1 where it is not much below that of all rows."""
    least = LEAST_SCALE * x.std(0)
    least[least == 0] = 1
    parts = np.split(np.asarray(x, dtype=np.float64), np.cumsum(lengths)[:-1])
    return np.concatenate([(part - part.mean(0)) / np.maximum(part.std(0), least) for part in parts])


@start_kind("sequence", suits=lambda start: start.lengths is not None)
def _steps(start: Start, story: Story, coder: Coder, clusters: Clusters) -> list[Step]:
    if start.lengths is None:
        raise ValueError("pretraining='sequence' needs lengths, the number of rows of each recording")
    return followed(sequence_start(start.lengths, view=coder.view), start, coder)
