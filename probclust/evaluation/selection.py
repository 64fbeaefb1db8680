"""`select_n_clusters`: how many clusters the rows that a fit has not seen ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from probclust.arguments import checked_seed, positive
from probclust.data.checks import as_rows
from probclust.evaluation.measure import why_no_density
from probclust.fitting.fitting import fit
from probclust.locking import alone
from probclust.story.scoring import log_likelihood
from probclust.story.story import Story

_RULE = "one standard error"


@dataclass(frozen=True)
class ClusterSelection:
    """The held-out bound for each number of clusters, and the choice.

    Attributes:
        table: a row for each K, with the columns of `select_n_clusters`.
        best: the K with the largest held-out bound.
        one_standard_error: the smallest K whose bound is within one standard error of the best's.
    """

    table: pd.DataFrame
    best: int
    one_standard_error: int

    def __str__(self) -> str:
        return f"{self.table}\nbest K: {self.best}, within one standard error: {self.one_standard_error}"


def select_n_clusters(
    build: Callable[[int], Story],
    x: Any,
    n_clusters: Iterable[int],
    *,
    cv: Any = 5,
    particles: int = 100,
    seed: int = 0,
    **options: Any,
) -> ClusterSelection:
    """Choose the number of clusters by the importance-weighted bound on log p(x) of rows that were kept out.

    Every K is fitted once for each split of the rows, and scored on the part that was kept out. The splits are the
    same for all K, so that the differences are paired: `difference_se` is far smaller than `se`, and it is the one of
    the one-standard-error rule (Hastie, Tibshirani, Friedman, "The elements of statistical learning", section 7.10).

    Args:
        build: from K to a new story with new parts, such as `lambda k: pc.models.VaDE(64, k)`; called under a seed.
        x: (rows, n_features).
        n_clusters: the numbers to try, such as `range(2, 11)`.
        cv: folds of a shuffled cross-validation, or a scikit-learn splitter: `ShuffleSplit(1, test_size=0.2)` for a
            single split, which costs one fit for each K.
        particles: draws per row of the bound.
        seed: of the splits, the fits and the bounds.
        options: keyword arguments of every `pc.fit`, such as `epochs` or `n_init`.

    Returns:
        The choice, and a table indexed by `n_clusters` with the columns

        - log_likelihood, se: mean over the rows kept out, in nats per row, and its standard error;
        - difference, difference_se: paired, to the best;
        - seconds: of the fits;
        - choice: "best" and "one standard error" where they fall.

    Raises:
        ValueError: a number of clusters is below 1 or given twice, a fold is too small for the largest, a single row
            is kept out, `build` gives a story or part that was fitted before, or the story's log joint is no density
            of x, so that it has no likelihood to choose by.

    Examples:
        >>> import probclust as pc
        >>> from sklearn.datasets import make_blobs
        >>> x, _ = make_blobs(120, centers=[[-9, 0], [0, 9], [9, 0]], random_state=0)
        >>> found = select_n_clusters(lambda k: pc.models.GaussianMixture(2, k), x, range(1, 5), cv=2, epochs=5)
        >>> found.one_standard_error
        3
    """
    if isinstance(n_clusters, str) or not isinstance(n_clusters, Iterable):
        raise TypeError(f"n_clusters must be the numbers to try, such as range(2, 11), got {n_clusters!r}")
    wanted, seed = [positive("n_clusters", k) for k in n_clusters], checked_seed(seed)
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"n_clusters must name at least one number, each once, got {wanted}")
    positive("particles", particles)
    story = _built(build, wanted[0], seed)
    rows = as_rows(x, n_features=story.n_features, dtype=story.dtype, missing=story.missing).numpy()
    splitter = KFold(positive("cv", cv), shuffle=True, random_state=seed) if hasattr(cv, "__index__") else cv
    splits = list(splitter.split(rows))
    smallest = min(len(train) for train, _ in splits)
    if max(wanted) > smallest:
        raise ValueError(f"n_clusters must be at most the {smallest} rows of the smallest split, got {max(wanted)}")
    if sum(len(test) for _, test in splits) < 2:
        raise ValueError("cv must keep out at least 2 rows, whose bounds tell the standard error, got 1")
    values: dict[int, NDArray[np.float64]] = {}
    seconds = dict.fromkeys(wanted, 0.0)
    for k in wanted:
        parts = []
        for train, test in splits:
            before, story = story, _built(build, k, seed)
            _check_anew(story, before)
            story.may_empty = True  # too many clusters do leave some of them empty
            record = fit(story, rows[train], seed=seed, **{"progress": False, **options})
            seconds[k] += record.seconds
            reason = why_no_density(story, rows[test])
            if reason is not None:
                raise ValueError(f"{type(story).__name__} has no likelihood to choose by: {reason}")
            parts.append(log_likelihood(story, rows[test], particles, seed).double().numpy())
        values[k] = np.concatenate(parts)
    return _selection(values, seconds)


def _selection(values: dict[int, NDArray[np.float64]], seconds: dict[int, float]) -> ClusterSelection:
    best = max(values, key=lambda k: float(values[k].mean()))
    paired = {k: rows - values[best] for k, rows in values.items()}
    simplest = min(k for k, rows in paired.items() if rows.mean() >= -_error(rows))
    columns = {
        "log_likelihood": [rows.mean() for rows in values.values()],
        "se": [_error(rows) for rows in values.values()],
        "difference": [rows.mean() for rows in paired.values()],
        "difference_se": [_error(rows) for rows in paired.values()],
        "seconds": [seconds[k] for k in values],
        "choice": ["best" * (k == best) + ", " * (k == best == simplest) + _RULE * (k == simplest) for k in values],
    }
    table = pd.DataFrame(columns, index=pd.Index(list(values), name="n_clusters"))
    return ClusterSelection(table, best, simplest)


def _error(rows: NDArray[np.float64]) -> float:
    return float(rows.std(ddof=1) / np.sqrt(len(rows)))


def _built(build: Callable[[int], Story], k: int, seed: int) -> Story:
    if isinstance(build, Story):
        raise TypeError(
            "build must make a story of K clusters, as lambda k: "
            f"{type(build).__name__}(..., n_clusters=k) does, got a story"
        )
    with alone, torch.random.fork_rng([]):
        torch.manual_seed(seed)
        story = build(k)
    if not isinstance(story, Story):
        raise TypeError(f"build must return a probclust.Story, got {type(story).__name__}")
    if story.n_clusters != k:
        raise ValueError(f"build({k}) must return a story of {k} clusters, got n_clusters={story.n_clusters}")
    return story


def _check_anew(story: Story, before: Story) -> None:
    """Check that a fit of `story` does not go on with what the fit before has learned from rows kept out now."""
    trained = {id(parameter) for parameter in before.parameters() if parameter.requires_grad}
    shared = [name for name, parameter in story.named_parameters() if id(parameter) in trained]
    if shared:
        raise ValueError(
            f"build must make a new story with new parts at each call, got one whose parameter {shared[0]!r} is that "
            "of the story before, fitted to rows that are kept out now; make the story and its parts inside build"
        )
