"""`compare`: stories side by side on the same rows."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probclust.arguments import positive
from probclust.data.named import Named, arranged
from probclust.data.stored import Rows
from probclust.errors import ComparisonWarning
from probclust.evaluation.measure import CONTINUOUS, Measure, measure_of, why_no_density
from probclust.evaluation.metrics import accuracy, ari, contingency, nmi
from probclust.evaluation.rescaling import rescaled
from probclust.fitting.record import FitRecord
from probclust.story.importance import importance_bound
from probclust.story.rows import admit
from probclust.story.scoring import predict
from probclust.story.story import Story

LIKELIHOOD = ("log_likelihood", "se", "difference", "difference_se", "particles", "gain", "ess")


@dataclass(frozen=True)
class Entry:
    """A story to compare, and the rows as it sees them.

    Attributes:
        story: the story.
        rows: (rows, n_features), after its scaler if it has one.
        log_scales: (n_features,) log |slope| of the scaler's columns, in nats; None without a scaler.
    """

    story: Story
    rows: Rows
    log_scales: NDArray[np.float64] | None

    def why_no_density(self) -> str | None:
        """Why there is no log density of these rows; None where there is one."""
        reason = why_no_density(self.story, self.rows)
        if reason is None and self.log_scales is not None and not self.measure.is_by_columns:
            reason = f"its density is {self.measure}, whose change of volume under the scaler is unknown"
        return reason

    @cached_property
    def measure(self) -> Measure:
        """What the story's likelihood is a density of."""
        return measure_of(self.story, self.rows)

    @property
    def log_volume(self) -> float:
        """The log |det dT/dx| of the scaler T over the columns with a density: what takes log p(T(x)) to log p(x)."""
        if self.log_scales is None:
            return 0.0
        return float(sum(s for s, kind in zip(self.log_scales, self.measure.kinds, strict=True) if kind == CONTINUOUS))


def compare(
    stories: Mapping[str, Story | tuple[Any, Story]],
    x: Any,
    y: Any = None,
    *,
    particles: int = 100,
    seed: int = 0,
    records: Mapping[str, FitRecord] | None = None,
) -> pd.DataFrame:
    """Rank stories by their bound on log p(x), and score their clusters where labels are given.

    Likelihoods are compared only where that means something. A story that conditions on x, whose log joint is no
    density, or that gives probabilities to values outside a distribution's support (grey pixels under a Bernoulli)
    has none: its columns stay empty and it is listed last. Densities with respect to different measures (counts
    under a Poisson, real numbers under a Gaussian, other columns of x) have different units: `difference` is given
    only among the stories of the most frequent measure, the first one's where several are as frequent.

    All stories meet the same `x`. One that was fitted to rescaled rows is given as a pair (scaler, story): it sees the
    rows through its scaler, and its density is that of `x` itself, log p(scaler(x)) + log |det|.

    Take rows that were kept out of the fit: on its own training rows the story with more parameters wins.

    Args:
        stories: fitted stories by name, of the same `n_features`; or pairs (scaler, story) with a fitted scaler that
            is affine column by column, such as scikit-learn's `StandardScaler`.
        x: (rows, n_features), before any scaler.
        y: (rows,) labels, integers or strings; they score, and are never seen by a story.
        particles: draws per row of the importance-weighted bound.
        seed: of the draws.
        records: what `pc.fit` returned, by the names of the stories; for the column `seconds`.

    Returns:
        pandas.DataFrame with a row for each story, indexed by name, best first, and columns

        - log_likelihood: mean over the rows of `pc.log_likelihood`, in nats per row;
        - se: its standard error, the standard deviation over the rows over the root of their number;
        - difference: mean over the rows of the story's bound less the best story's, in nats per row, at most 0;
        - difference_se: its standard error; the two stories meet the same rows, so it is that of the rows'
          differences, and mostly much smaller than `se`;
        - particles: draws per row behind the bound; 1 where it is exact;
        - gain: nats per row by which these particles raise the bound over half as many. Near 0, more particles no
          longer move it; else about as much is still missing;
        - ess: mean over the rows of the effective sample size of the importance weights, between 1 and `particles`;
        - accuracy, nmi, ari: of `pc.predict` against `y`, if that is given;
        - parameters: trainable numbers of the story, guide included;
        - seconds: of the fit, where `records` are given.

        A row of probability 0 makes its story's mean minus infinity. Standard errors are of the rows; for a single
        row they are empty. They leave out the Monte Carlo noise of the bound and its gap to log p(x), which differs
        between stories and shrinks with `particles`.

    Raises:
        TypeError: `stories` is no mapping from strings to stories.
        ValueError: it is empty, its stories differ in `n_features`, a scaler is not affine by columns, or `x` or `y`
            do not fit.

    Warns:
        ComparisonWarning: some stories have no likelihood, or one of another measure; or more particles may still
            move a bound by more than its standard error, or past the best one.

    Examples:
        >>> import torch, probclust as pc
        >>> stories = {str(k): pc.models.GaussianMixture(2, k) for k in (2, 3)}
        >>> compare(stories, torch.randn(5, 2)).columns.tolist()
        ['log_likelihood', 'se', 'difference', 'difference_se', 'particles', 'gain', 'ess', 'parameters']
    """
    _check_stories(stories)
    positive("particles", particles)
    if records is not None:
        _check_records(records, stories)
    entries = {name: _entry(given, x) for name, given in stories.items()}
    if y is not None:
        n_rows = len(next(iter(entries.values())).rows)
        contingency(y, np.zeros(n_rows, dtype=int))  # y is checked before any work is done
    reasons = {name: entry.why_no_density() for name, entry in entries.items()}
    scored = {name: entry for name, entry in entries.items() if reasons[name] is None}
    measures = {name: entry.measure for name, entry in scored.items()}
    bounds = {name: importance_bound(entry.story, entry.rows, particles, seed) for name, entry in scored.items()}
    values = {name: bounds[name].bound.numpy() + entry.log_volume for name, entry in scored.items()}
    counts = Counter(measures.values())
    ranked = [name for name in scored if measures[name] == counts.most_common(1)[0][0]]
    best = max(ranked, key=lambda name: values[name].mean(), default=None)
    table = {}
    for name, entry in entries.items():
        facts: dict[str, float] = dict.fromkeys(LIKELIHOOD, np.nan)
        if name in scored:
            facts["log_likelihood"], facts["se"] = _mean_and_error(values[name])
            facts["particles"] = bounds[name].particles
            facts["gain"], facts["ess"] = float(bounds[name].gain.mean()), float(bounds[name].ess.mean())
        if best is not None and name in ranked and np.isfinite(values[best]).all():
            facts["difference"], facts["difference_se"] = _mean_and_error(values[name] - values[best])
        if y is not None:
            labels = predict(entry.story, entry.rows).numpy()
            facts |= {"accuracy": accuracy(y, labels), "nmi": nmi(y, labels), "ari": ari(y, labels)}
        facts["parameters"] = sum(p.numel() for p in entry.story.parameters() if p.requires_grad)
        table[name] = facts | ({} if records is None else {"seconds": records[name].seconds})
    others = [name for name in scored if name not in ranked]
    order = [
        *sorted(ranked, key=lambda name: -values[name].mean()),
        *sorted(others, key=lambda name: (list(counts).index(measures[name]), -values[name].mean())),
        *(name for name in stories if name not in scored),
    ]
    frame = pd.DataFrame.from_dict(table, orient="index").loc[order]
    _warn(reasons, measures, ranked, frame)
    return frame.astype({"parameters": int, "particles": "Int64"}).rename_axis("story")


def _entry(given: Story | tuple[Any, Story], x: Any) -> Entry:
    if isinstance(given, Story):
        return Entry(given, admit(given, x), None)
    scaler, story = given
    seen = getattr(scaler, "feature_names_in_", story.feature_names)
    table = arranged(x, seen, missing=story.missing)
    rows, log_scales = rescaled(scaler, table)
    return Entry(story, admit(story, Named(rows, table.names)), log_scales)


def _check_stories(stories: Any) -> None:
    if not isinstance(stories, Mapping):
        raise TypeError(f"stories must be a mapping such as {{'vade': story}}, got {type(stories).__name__}")
    if not stories:
        raise ValueError("stories must hold at least one story, got none")
    found = {}
    for name, given in stories.items():
        if not isinstance(name, str):
            raise TypeError(f"the names of stories must be strings, got {name!r} of type {type(name).__name__}")
        story = found[name] = given[1] if isinstance(given, tuple) and len(given) == 2 else given
        if not isinstance(story, Story):
            raise TypeError(f"stories[{name!r}] must be a probclust.Story (an instance), got {type(story).__name__}")
    sizes = {name: story.n_features for name, story in found.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"stories must have the same n_features, as they are compared on the same rows, got {sizes}")


def _check_records(records: Any, stories: Mapping[str, Any]) -> None:
    if not (isinstance(records, Mapping) and all(isinstance(record, FitRecord) for record in records.values())):
        raise TypeError(f"records must map the names of stories to what pc.fit returned, got {records!r}")
    if set(records) != set(stories):
        raise ValueError(f"records must have the names of the stories, {sorted(stories)}, got {sorted(records)}")


def _mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of one value for each row, and its standard error; NaN where it is not defined."""
    if len(values) < 2 or not np.isfinite(values).all():
        return float(values.mean()), np.nan
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _warn(
    reasons: Mapping[str, str | None], measures: Mapping[str, Measure], ranked: list[str], frame: pd.DataFrame
) -> None:
    """Say which stories are not ranked and why, and which bounds more particles would still move."""
    notes = [f"'{name}' has no likelihood: {reason}" for name, reason in reasons.items() if reason is not None]
    notes += [
        f"'{name}' is not ranked: its density is {measure}, that of the others {measures[ranked[0]]}, so that their "
        "difference means nothing"
        for name, measure in measures.items()
        if name not in ranked
    ]
    gains = frame["gain"]
    for name in frame.index:
        if gains[name] > frame["se"][name]:
            notes.append(
                f"the bound of '{name}' is not settled: these particles raise it by {gains[name]:.3g} nats per row "
                "over half as many, more than its standard error; take more"
            )
        if gains[name] - gains[frame.index[0]] > max(0.0, -frame["difference"][name]):
            notes.append(f"more particles may put '{name}' first, as its bound still rises by {gains[name]:.3g} nats")
    if notes:
        warnings.warn("; ".join(notes), ComparisonWarning, stacklevel=3)
