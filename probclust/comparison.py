"""`compare`: stories side by side on the same rows."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probclust.errors import ComparisonWarning
from probclust.measure import Measure, measure_of, why_no_density
from probclust.metrics import accuracy, ari, contingency, nmi
from probclust.rows import admit
from probclust.scoring import log_likelihood, positive, predict
from probclust.story import Story


def compare(
    stories: Mapping[str, Story], x: Any, y: Any = None, *, particles: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Rank stories by their bound on log p(x), and score their clusters where labels are given.

    Likelihoods are compared only where that means something. A story that conditions on x, whose log joint is no
    density, or that gives probabilities to values outside a distribution's support (grey pixels under a Bernoulli)
    has none: its columns stay empty and it is listed last. Densities with respect to different measures (counts
    under a Poisson, real numbers under a Gaussian, other columns of x) have different units: `difference` is given
    only among the stories of the most frequent measure, the first one's where several are as frequent.

    Take rows that were kept out of the fit: on its own training rows the story with more parameters wins.

    Args:
        stories: fitted stories by name, of the same `n_features`.
        x: (rows, n_features).
        y: (rows,) labels, integers or strings; they score, and are never seen by a story.
        particles: draws per row of the importance-weighted bound.
        seed: of the draws.

    Returns:
        pandas.DataFrame with a row for each story, indexed by name, best first, and columns

        - log_likelihood: mean over the rows of `pc.log_likelihood`, in nats per row;
        - se: its standard error, the standard deviation over the rows over the root of their number;
        - difference: mean over the rows of the story's bound less the best story's, in nats per row, at most 0;
        - difference_se: its standard error; the two stories meet the same rows, so it is that of the rows'
          differences, and mostly much smaller than `se`;
        - accuracy, nmi, ari: of `pc.predict` against `y`, if that is given;
        - parameters: trainable numbers of the story, guide included.

        A row of probability 0 makes its story's mean minus infinity. Standard errors are of the rows; for a single
        row they are empty. They leave out the Monte Carlo noise of the
        bound and its gap to log p(x), which differs between stories and shrinks with `particles`.

    Raises:
        TypeError: `stories` is no mapping from strings to stories.
        ValueError: it is empty, its stories differ in `n_features`, or `x` or `y` do not fit.

    Warns:
        ComparisonWarning: some stories have no likelihood, or one of another measure.

    Example:
        >>> import torch, probclust as pc
        >>> stories = {str(k): pc.models.GaussianMixture(2, k) for k in (2, 3)}
        >>> compare(stories, torch.randn(5, 2)).columns.tolist()
        ['log_likelihood', 'se', 'difference', 'difference_se', 'parameters']
    """
    _check_stories(stories)
    positive("particles", particles)
    rows = {name: admit(story, x) for name, story in stories.items()}
    if y is not None:
        n_rows = len(next(iter(rows.values())))
        contingency(y, np.zeros(n_rows, dtype=int))  # y is checked before any work is done
    reasons = {name: why_no_density(story, rows[name]) for name, story in stories.items()}
    scored = [name for name, reason in reasons.items() if reason is None]
    measures = {name: measure_of(stories[name], rows[name]) for name in scored}
    values = {name: log_likelihood(stories[name], rows[name], particles, seed).double().numpy() for name in scored}
    counts = Counter(measures.values())
    ranked = [name for name in scored if measures[name] == counts.most_common(1)[0][0]]
    best = max(ranked, key=lambda name: values[name].mean(), default=None)
    table = {}
    for name, story in stories.items():
        entry = dict.fromkeys(("log_likelihood", "se", "difference", "difference_se"), np.nan)
        if name in scored:
            entry["log_likelihood"], entry["se"] = _mean_and_error(values[name])
        if best is not None and name in ranked and np.isfinite(values[best]).all():
            entry["difference"], entry["difference_se"] = _mean_and_error(values[name] - values[best])
        if y is not None:
            labels = predict(story, rows[name]).numpy()
            entry |= {"accuracy": accuracy(y, labels), "nmi": nmi(y, labels), "ari": ari(y, labels)}
        table[name] = entry | {"parameters": sum(p.numel() for p in story.parameters() if p.requires_grad)}
    _warn(reasons, measures, ranked)
    others = [name for name in scored if name not in ranked]
    order = [
        *sorted(ranked, key=lambda name: -values[name].mean()),
        *sorted(others, key=lambda name: (list(counts).index(measures[name]), -values[name].mean())),
        *(name for name in stories if name not in scored),
    ]
    frame = pd.DataFrame.from_dict(table, orient="index").loc[order]
    return frame.astype({"parameters": int}).rename_axis("story")


def _check_stories(stories: Any) -> None:
    if not isinstance(stories, Mapping):
        raise TypeError(f"stories must be a mapping such as {{'vade': story}}, got {type(stories).__name__}")
    if not stories:
        raise ValueError("stories must hold at least one story, got none")
    for name, story in stories.items():
        if not isinstance(name, str):
            raise TypeError(f"the names of stories must be strings, got {name!r} of type {type(name).__name__}")
        if not isinstance(story, Story):
            raise TypeError(f"stories[{name!r}] must be a probclust.Story (an instance), got {type(story).__name__}")
    sizes = {name: story.n_features for name, story in stories.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"stories must have the same n_features, as they are compared on the same rows, got {sizes}")


def _mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of one value for each row, and its standard error; NaN where it is not defined."""
    if len(values) < 2 or not np.isfinite(values).all():
        return float(values.mean()), np.nan
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _warn(reasons: Mapping[str, str | None], measures: Mapping[str, Measure], ranked: list[str]) -> None:
    """Say which stories are not ranked, and why."""
    notes = [f"'{name}' has no likelihood: {reason}" for name, reason in reasons.items() if reason is not None]
    notes += [
        f"'{name}' is not ranked: its density is {measure}, that of the others {measures[ranked[0]]}, so that their "
        "difference means nothing"
        for name, measure in measures.items()
        if name not in ranked
    ]
    if notes:
        warnings.warn("; ".join(notes), ComparisonWarning, stacklevel=3)
