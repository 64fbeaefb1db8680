"""`evaluate`: what a fitted story says of rows, computed once; comparisons, reports and `stability` read it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probclust.arguments import checked_seed, positive
from probclust.data.checks import as_rows
from probclust.data.named import Named, Names, arranged
from probclust.data.stored import Rows
from probclust.evaluation.measure import CONTINUOUS, Measure, measure_of, why_no_density
from probclust.evaluation.metrics import agreement, contingency
from probclust.evaluation.rescaling import rescaled
from probclust.story.chunks import chunk_size
from probclust.story.importance import importance_bound
from probclust.story.rows import admit, in_order
from probclust.story.scoring import log_joint
from probclust.story.story import Story


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What a story says of rows, N of them, with K clusters. Numbers of a density are in nats.

    Attributes:
        story: name of the story's class.
        n_features: columns of a row.
        parameters: trainable numbers of the story, guide included.
        seed: of the draws.
        log_joint: (N, K) score of each row and cluster, latents at the guide's mean: `pc.log_joint`.
        particles: S, draws per row behind the bound; 1 where it is exact. None, as the next three, without a density.
        bound: (N,) float64, lower bound on log p(x): `pc.log_likelihood`, summed in float64. Of the rows before their
            scaler, where there is one.
        gain: (N,) by how much it lies above the mean bound of the two halves of the draws: near 0, more of them no
            longer move it. NaN for a single draw, 0 where exact.
        ess: (N,) effective sample size of the importance weights, between 1 and S.
        measure: what the likelihood is a density of: only those of the same measure have comparable bounds.
        why_no_density: why the log joint is no log density of these rows; None where it is one.
        accuracy: of `clusters` against the labels, which only score; None without labels, as the next two.
        nmi: normalised mutual information of the same.
        ari: adjusted Rand index of the same.
        digest: hash of the rows, by which evaluations of other rows are told apart.
    """

    story: str
    n_features: int
    parameters: int
    seed: int
    log_joint: Tensor
    particles: int | None
    bound: Tensor | None
    gain: Tensor | None
    ess: Tensor | None
    measure: Measure | None
    why_no_density: str | None
    accuracy: float | None
    nmi: float | None
    ari: float | None
    digest: str

    def __len__(self) -> int:
        return len(self.log_joint)

    @property
    def n_clusters(self) -> int:
        """K."""
        return self.log_joint.shape[1]

    @cached_property
    def clusters(self) -> Tensor:
        """(N,) index of each row's most probable cluster: `pc.predict`."""
        return self.log_joint.argmax(1)

    @cached_property
    def responsibilities(self) -> Tensor:
        """(N, K) probabilities p(cluster | x): `pc.responsibilities`."""
        return self.log_joint.softmax(1)

    @cached_property
    def sizes(self) -> list[int]:
        """Rows in each of the K clusters."""
        sizes: list[int] = self.clusters.bincount(minlength=self.n_clusters).tolist()
        return sizes

    @cached_property
    def entropy(self) -> float:
        """Of p(cluster | x), mean over the rows, in nats: 0 where no row is in doubt, at most log K."""
        return float(torch.special.entr(self.responsibilities.double()).sum(1).mean())

    @property
    def log_likelihood(self) -> float:
        """Mean of the bound over the rows; NaN without a density."""
        return np.nan if self.bound is None else mean_and_error(self.bound.numpy())[0]

    @property
    def se(self) -> float:
        """Standard error of `log_likelihood` over the rows; NaN for a single row, or one of probability 0."""
        return np.nan if self.bound is None else mean_and_error(self.bound.numpy())[1]

    def facts(self) -> dict[str, Any]:
        """The numbers as `probclust evaluate --json` writes them; what is not defined is None or left out."""
        none, alone = self.bound is None, len(self) < 2
        facts: dict[str, Any] = {
            "log_likelihood": None if none else self.log_likelihood,
            "se": None if none or alone else self.se,
        }
        if none:
            facts["why_no_density"] = self.why_no_density
        if self.accuracy is not None:
            facts |= {"accuracy": self.accuracy, "nmi": self.nmi, "ari": self.ari}
        return facts | {"sizes": self.sizes, "entropy": self.entropy, "rows": len(self)}

    def __repr__(self) -> str:
        told = f"Evaluation of {self.story} on {len(self)} rows, {self.n_clusters} clusters"
        if self.bound is not None:
            error = "" if np.isnan(self.se) else f" ± {self.se:.3f}"
            told += f": log p(x) ≥ {self.log_likelihood:.3f}{error} nats per row"
        return told if self.accuracy is None else f"{told}, ACC {self.accuracy:.3f}"


def evaluate(
    story: Story | tuple[Any, Story], x: Any, y: Any = None, particles: int = 100, seed: int = 0
) -> Evaluation:
    """Score a story on rows: clusters, bound on log p(x), agreement with labels.

    One pass gives the log joint, one looks for values outside the support of their distribution, `particles` give the
    bound. `pc.compare`, `pc.stability` and `pc.report` compute the same numbers, and the first two take them ready.

    Args:
        story: any story; or a pair (scaler, story) as for `pc.compare`, whose bound is that of the rows before it.
        x: (rows, n_features), best rows that were kept out of the fit.
        y: (rows,) labels, integers or strings; they score, and are never seen by the story.
        particles: draws per row of the importance-weighted bound.
        seed: of the draws; the caller's random state is left alone.

    Returns:
        What was found; nothing in it is computed again.

    Raises:
        TypeError: `story` is no story, or `x` or `y` is of no kind that is known.
        ValueError: `x` or `y` does not fit, `particles` is below 1, or the scaler is not affine by columns.
        NonFiniteError: the story gives NaN; the message names the site.

    Examples:
        >>> import torch, probclust as pc
        >>> found = evaluate(pc.models.GaussianMixture(2, n_clusters=3), torch.randn(5, 2), ["a", "b", "a", "a", "b"])
        >>> found.clusters.shape, found.responsibilities.shape, found.bound.shape, sum(found.sizes)
        (torch.Size([5]), torch.Size([5, 3]), torch.Size([5]), 5)
    """
    particles, seed = positive("particles", particles), checked_seed(seed)
    seen = view(story, x)
    check_labels(y, len(seen.rows))
    return evaluate_view(seen, y, particles, seed)


@dataclass(frozen=True, eq=False)
class View:
    """A story, and rows as it sees them.

    Attributes:
        story: the story.
        rows: (rows, n_features), after its scaler if it has one.
        log_scales: (n_features,) log |slope| of the scaler's columns, in nats; None without a scaler.
        digest: hash of the rows before the scaler.
    """

    story: Story
    rows: Rows
    log_scales: NDArray[np.float64] | None
    digest: str


def view(given: Story | tuple[Any, Story], x: Any) -> View:
    """Check rows against a story, or against a pair (scaler, story)."""
    if not isinstance(given, tuple):
        table = in_order(given, x)
        rows = admit(given, table)
        return View(given, rows, None, _digest(rows, table.names, chunk_size(given)))
    if len(given) != 2 or not isinstance(given[1], Story):
        raise TypeError(f"a rescaled story is a pair (scaler, story), got {given!r}")
    scaler, story = given
    seen = getattr(scaler, "feature_names_in_", story.feature_names)
    table = arranged(x, seen, missing=story.missing)
    rescaled_rows, log_scales = rescaled(scaler, table)
    rows = admit(story, Named(rescaled_rows, table.names))
    raw = as_rows(table, dtype=torch.float64, missing=story.missing)
    return View(story, rows, log_scales, _digest(raw, table.names, chunk_size(story)))


def check_labels(y: Any, n_rows: int) -> None:
    """Raise where labels are not one for each row, before any work is done."""
    if y is not None:
        contingency(y, np.zeros(n_rows, dtype=int))


def evaluate_view(seen: View, y: Any, particles: int, seed: int) -> Evaluation:
    """`evaluate`, its arguments checked already."""
    story, rows = seen.story, seen.rows
    table = log_joint(story, rows)
    clusters = table.argmax(1)
    reason, measure, bound = why_no_density(story, rows, clusters), None, None
    if reason is None:
        measure = measure_of(story, rows, clusters)
        if seen.log_scales is not None and not measure.is_by_columns:
            reason = f"its density is {measure}, whose change of volume under the scaler is unknown"
            measure = None
    if measure is not None:
        bound = importance_bound(story, rows, particles, seed)
    marks = {} if y is None else agreement(y, clusters.numpy())
    return Evaluation(
        story=type(story).__name__,
        n_features=story.n_features,
        parameters=sum(p.numel() for p in story.parameters() if p.requires_grad),
        seed=seed,
        log_joint=table,
        particles=None if bound is None else bound.particles,
        bound=None if bound is None or measure is None else bound.bound + _log_volume(measure, seen.log_scales),
        gain=None if bound is None else bound.gain,
        ess=None if bound is None else bound.ess,
        measure=measure,
        why_no_density=reason,
        accuracy=marks.get("accuracy"),
        nmi=marks.get("nmi"),
        ari=marks.get("ari"),
        digest=seen.digest,
    )


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of one value for each row, and its standard error; NaN where it is not defined."""
    if len(values) < 2 or not np.isfinite(values).all():
        return float(values.mean()), np.nan
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _log_volume(measure: Measure, log_scales: NDArray[np.float64] | None) -> float:
    """The log |det dT/dx| of the scaler T over the columns with a density: what takes log p(T(x)) to log p(x)."""
    if log_scales is None:
        return 0.0
    return float(sum(s for s, kind in zip(log_scales, measure.kinds, strict=True) if kind == CONTINUOUS))


def _digest(rows: Rows, names: Names | None, size: int) -> str:
    """Hash of rows in float32, the same for stories of any dtype; columns in the order of their names, if any."""
    order = None if names is None else torch.from_numpy(np.argsort(np.asarray(names), kind="stable"))
    digest = hashlib.blake2b(repr(tuple(rows.shape)).encode(), digest_size=16)
    for start in range(0, len(rows), size):
        batch = rows[start : start + size].cpu().float()
        digest.update((batch if order is None else batch[:, order]).contiguous().numpy().data)
    return digest.hexdigest()
