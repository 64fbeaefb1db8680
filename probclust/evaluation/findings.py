"""What a page shows of a fitted story beside its scores: samples, reconstructions, confusion with labels, a map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probclust.evaluation import metrics
from probclust.evaluation.evaluation import Evaluation
from probclust.generate.embedding import reconstruct
from probclust.generate.sampling import sample
from probclust.story.columns import rows_of
from probclust.story.rows import admit
from probclust.story.story import Story

MAX_POINTS = 2000
"""Rows in the two-dimensional picture, at most; t-SNE takes long for more."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of labels in clusters, the clusters in the order of the labels that they are matched with.

    Attributes:
        counts: (labels, clusters) rows.
        labels: the labels, sorted.
        clusters: the clusters; unmatched ones come last.
        matched: the label of each matched cluster, one to one, as the accuracy counts it.
    """

    counts: NDArray[np.int64]
    labels: list[Any]
    clusters: list[int]
    matched: Mapping[int, Any]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        matched = {str(cluster): label for cluster, label in self.matched.items()}
        return {"counts": self.counts.tolist(), "labels": self.labels, "clusters": self.clusters, "matched": matched}


def confusion(y: Any, clusters: Any, n_clusters: int) -> Confusion:
    """Count labels in clusters.

    Args:
        y: (rows,) labels.
        clusters: (rows,) integers from 0 to n_clusters - 1.
        n_clusters: K; clusters without rows are shown too.
    """
    counts, labels, seen = metrics.contingency(y, clusters)
    matched = metrics.matching(y, clusters)
    order = [*matched, *(k for k in range(n_clusters) if k not in matched)]
    full = np.zeros((len(labels), n_clusters), dtype=np.int64)
    full[:, seen] = counts
    return Confusion(full[:, order], labels.tolist(), order, matched)


@dataclass(frozen=True, eq=False)
class Findings:
    """What a story says of the rows of a report.

    Attributes:
        name: the run's.
        evaluation: clusters and scores.
        confusion: with the labels, where there are any.
        points: (n, 2) picture of the log joint (`embedding`), and the rows it shows in `shown`.
        shown: (n,) row numbers.
        samples: (K, m, n_features) draws of x from each cluster; None where the story cannot be sampled.
        why_no_samples: why it cannot.
        originals: (n, n_features) rows.
        reconstructions: (n, n_features), theirs; None where the story gives none.
    """

    name: str
    evaluation: Evaluation
    confusion: Confusion | None
    points: NDArray[np.float64] | None
    shown: NDArray[np.int64]
    samples: Tensor | None
    originals: Tensor
    reconstructions: Tensor | None
    why_no_samples: str | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "scores": self.evaluation.facts(),
            "clusters": self.evaluation.clusters.tolist(),
            "confusion": None if self.confusion is None else self.confusion.facts(),
            "embedding": None
            if self.points is None
            else {"rows": self.shown.tolist(), "points": np.round(self.points, 3).tolist()},
            "samples": _rounded(self.samples),
            "why_no_samples": self.why_no_samples,
            "originals": _rounded(self.originals),
            "reconstructions": _rounded(self.reconstructions),
        }


def _rounded(values: Tensor | None) -> Any:
    return None if values is None else np.round(values.double().numpy(), 4).tolist()


def find(name: str, story: Story, evaluation: Evaluation, x: Any, y: Any = None, *, n_images: int = 10) -> Findings:
    """Sample and picture; nothing that the evaluation holds is computed again.

    Args:
        name: of the run.
        story: any story.
        evaluation: of the story on these rows; every draw is made under its seed.
        x: (rows, n_features).
        y: (rows,) labels or None.
        n_images: draws from each cluster, and rows to reconstruct.
    """
    x = admit(story, x)
    clusters, seed = evaluation.clusters.numpy(), evaluation.seed
    rng = np.random.default_rng(seed)
    shown = np.sort(rng.permutation(len(x))[:MAX_POINTS])
    picked = x[_spread(clusters, n_images, rng)]
    samples, why_no_samples = draw_by_cluster(story, n_images, seed)
    return Findings(
        name=name,
        evaluation=evaluation,
        confusion=None if y is None else confusion(y, clusters, story.n_clusters),
        points=embedding(evaluation.log_joint[shown].numpy(), seed),
        shown=shown,
        samples=samples,
        originals=picked,
        reconstructions=_reconstructed(story, picked),
        why_no_samples=why_no_samples,
    )


def draw_by_cluster(story: Story, n: int, seed: int) -> tuple[Tensor | None, str | None]:
    """(K, n, n_features) draws of x, n from each cluster; or None, and why the story cannot give them.

    It cannot where it conditions on x and has no `generative` of its own, where that draws from a density that has not
    been fitted yet, and where its sites cannot be put together to rows.
    """
    clusters = torch.arange(story.n_clusters).repeat_interleave(n)
    try:
        draws = sample(story, len(clusters), cluster=clusters, seed=seed)
        return rows_of(story, draws).view(story.n_clusters, n, -1), None
    except ValueError as error:
        return None, str(error)


def embedding(table: NDArray[Any], seed: int) -> NDArray[np.float64] | None:
    """A picture in two dimensions of what decides the cluster: t-SNE of the log joint, each row less its mean.

    The latents of a mixture of VAEs live in a space of their own for each cluster, and a Gaussian mixture has none;
    the log joint is there for every story, and means the same.

    Args:
        table: (rows, K), in nats.
        seed: of t-SNE.

    Returns:
        (rows, 2), None for fewer than 5 rows or a single cluster.

    Source: van der Maaten and Hinton, "Visualizing data using t-SNE", 2008.
    """
    from sklearn.manifold import TSNE

    n_rows, n_clusters = table.shape
    if n_rows < 5 or n_clusters < 2:
        return None
    table = np.where(np.isfinite(table), table, table[np.isfinite(table)].min())  # rows that a cluster cannot give
    centred = table - table.mean(1, keepdims=True)
    spread = float(centred.std())
    if not spread > 0:
        return None
    tsne = TSNE(perplexity=min(30.0, (n_rows - 1) / 3), init="pca", random_state=seed)
    points: NDArray[np.float64] = tsne.fit_transform(centred / spread).astype(np.float64)
    return points


def _spread(clusters: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Row numbers at random, n of them, from as many clusters as there are."""
    order = rng.permutation(len(clusters))
    seen: dict[int, int] = {}
    turns = []
    for row in order:  # how many rows of its cluster came before
        turns.append(seen.get(clusters[row], 0))
        seen[clusters[row]] = turns[-1] + 1
    picked = order[np.argsort(turns, kind="stable")[:n]]
    return picked[np.argsort(clusters[picked], kind="stable")]


def _reconstructed(story: Story, rows: Tensor) -> Tensor | None:
    try:
        return reconstruct(story, rows)
    except ValueError:
        return None
