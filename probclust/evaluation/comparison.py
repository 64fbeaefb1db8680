"""`compare`: stories side by side on the same rows."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from probclust.arguments import checked_seed, positive
from probclust.errors import ComparisonWarning
from probclust.evaluation.evaluation import Evaluation, check_labels, evaluate_view, mean_and_error, view
from probclust.evaluation.measure import Measure
from probclust.evaluation.metrics import agreement
from probclust.fitting.record import FitRecord
from probclust.story.story import Story

Given = Story | tuple[Any, Story] | Evaluation

LIKELIHOOD = ("log_likelihood", "se", "difference", "difference_se", "particles", "gain", "ess")
AGREEMENT = ("accuracy", "nmi", "ari")


def compare(
    stories: Mapping[str, Given],
    x: Any = None,
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
            is affine column by column, such as scikit-learn's `StandardScaler`. Or what `pc.evaluate` returned for
            any of them on the same rows, which costs nothing.
        x: (rows, n_features), before any scaler; left out where all are evaluations already.
        y: (rows,) labels, integers or strings; they score, and are never seen by a story.
        particles: draws per row of the importance-weighted bound; evaluations have their own, as they have a seed.
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
        ValueError: it is empty, its stories differ in `n_features`, a scaler is not affine by columns, evaluations
            are of other rows, or `x` or `y` do not fit.

    Warns:
        ComparisonWarning: some stories have no likelihood, or one of another measure; or more particles may still
            move a bound by more than its standard error, or past the best one.

    Examples:
        >>> import torch, probclust as pc
        >>> stories = {str(k): pc.models.GaussianMixture(2, k) for k in (2, 3)}
        >>> compare(stories, torch.randn(5, 2)).columns.tolist()
        ['log_likelihood', 'se', 'difference', 'difference_se', 'particles', 'gain', 'ess', 'parameters']
    """
    check_stories(stories)
    particles, seed = positive("particles", particles), checked_seed(seed)
    if records is not None:
        check_records(records, stories)
    found = _evaluated(stories, x, y, particles, seed)
    reasons = {name: one.why_no_density for name, one in found.items()}
    measures = {name: one.measure for name, one in found.items() if one.measure is not None}
    values = {name: one.bound.numpy() for name, one in found.items() if one.bound is not None}
    counts = Counter(measures.values())
    ranked = [name for name in values if measures[name] == counts.most_common(1)[0][0]]
    best = max(ranked, key=lambda name: values[name].mean(), default=None)
    table = {}
    for name, one in found.items():
        facts: dict[str, float | None] = dict.fromkeys([*LIKELIHOOD, *AGREEMENT], np.nan)
        if one.gain is not None and one.ess is not None:
            facts |= {"log_likelihood": one.log_likelihood, "se": one.se, "particles": one.particles}
            facts |= {"gain": float(one.gain.mean()), "ess": float(one.ess.mean())}
        if best is not None and name in ranked and np.isfinite(values[best]).all():
            facts["difference"], facts["difference_se"] = mean_and_error(values[name] - values[best])
        if y is not None:
            facts |= agreement(y, one.clusters.numpy())
        elif one.accuracy is not None:
            facts |= {mark: getattr(one, mark) for mark in AGREEMENT}
        facts["parameters"] = one.parameters
        table[name] = facts | ({} if records is None else {"seconds": records[name].seconds})
    others = [name for name in values if name not in ranked]
    order = [
        *sorted(ranked, key=lambda name: -values[name].mean()),
        *sorted(others, key=lambda name: (list(counts).index(measures[name]), -values[name].mean())),
        *(name for name in stories if name not in values),
    ]
    frame = pd.DataFrame.from_dict(table, orient="index").loc[order]
    if y is None and all(one.accuracy is None for one in found.values()):
        frame = frame.drop(columns=list(AGREEMENT))
    _warn(reasons, measures, ranked, frame)
    return frame.astype({"parameters": int, "particles": "Int64"}).rename_axis("story")


def _evaluated(stories: Mapping[str, Given], x: Any, y: Any, particles: int, seed: int) -> dict[str, Evaluation]:
    """An evaluation for each story, all of the same rows; everything is checked before the first is made."""
    asked = {name: given for name, given in stories.items() if not isinstance(given, Evaluation)}
    if asked and x is None:
        raise ValueError("stories need the rows that they are asked about: compare(stories, x)")
    if not asked and x is not None:
        raise ValueError("evaluations are of rows already; leave x out, or pass stories")
    seen = {name: view(given, x) for name, given in asked.items()}
    ready = {name: given for name, given in stories.items() if isinstance(given, Evaluation)}
    rows = {name: seen[name].digest if name in seen else ready[name].digest for name in stories}
    if ready and len(set(rows.values())) > 1:
        first = next(iter(stories))
        others = ", ".join(repr(name) for name in stories if rows[name] != rows[first])
        raise ValueError(
            f"stories must be compared on the same rows, got others for {others} than for {first!r}; evaluate all of "
            "them on the same x"
        )
    check_labels(y, len(next(iter(seen.values())).rows) if seen else len(next(iter(ready.values()))))
    return {
        name: ready[name] if name in ready else evaluate_view(seen[name], None, particles, seed) for name in stories
    }


def check_stories(stories: Any) -> None:
    """Raise where stories to compare are no mapping, or are not of the same rows."""
    if not isinstance(stories, Mapping):
        raise TypeError(f"stories must be a mapping such as {{'vade': story}}, got {type(stories).__name__}")
    if not stories:
        raise ValueError("stories must hold at least one story, got none")
    found = {}
    for name, given in stories.items():
        if not isinstance(name, str):
            raise TypeError(f"the names of stories must be strings, got {name!r} of type {type(name).__name__}")
        story = found[name] = given[1] if isinstance(given, tuple) and len(given) == 2 else given
        if not isinstance(story, Story) and not isinstance(given, Evaluation):
            raise TypeError(f"stories[{name!r}] must be a probclust.Story (an instance), got {type(story).__name__}")
    sizes = {name: story.n_features for name, story in found.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"stories must have the same n_features, as they are compared on the same rows, got {sizes}")


def check_records(records: Any, stories: Mapping[str, Any]) -> None:
    """Raise where the records of fits are not those of the stories."""
    if not (isinstance(records, Mapping) and all(isinstance(record, FitRecord) for record in records.values())):
        raise TypeError(f"records must map the names of stories to what pc.fit returned, got {records!r}")
    if set(records) != set(stories):
        raise ValueError(f"records must have the names of the stories, {sorted(stories)}, got {sorted(records)}")


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
