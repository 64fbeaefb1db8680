"""The scale of columns: most stories' networks, priors and starting parameters are made for about one."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from probclust.data.rounding import named_columns
from probclust.distributions.base import laws_of
from probclust.errors import FitWarning
from probclust.story.chunks import evaluating
from probclust.story.columns import columns
from probclust.story.joint import trace_joint
from probclust.story.rows import Survey
from probclust.story.story import Story

LARGE = 20.0
"""Root mean square of a column above which its scale is warned of; grey levels from 0 to 16 have up to 12."""

SMALL = 1e-3
"""Range of a column below which it is, unless most of its values lie at an end of it, as those of a border's pixel."""

SAMPLE = 4000


def warn_of_scale(story: Story, survey: Survey) -> None:
    """Warn of columns of wild scale, where a story assumes that of about one.

    Counts, categories and other discrete values have the scale that they have.
    """
    rows = survey.rows
    index = torch.as_tensor(np.unique(np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64)))
    sample = rows[index].cpu().double()
    seen = ~sample.isnan()
    size = (sample.nan_to_num().square().sum(0) / seen.sum(0).clamp(min=1)).sqrt()
    low, spread = survey.low.cpu().double(), survey.high.cpu().double() - survey.low.cpu().double()
    middle = (sample.nanmedian(0).values - low) / spread
    wild = (size > LARGE) | ((spread > 0) & (spread < SMALL) & (middle > 0.05) & (middle < 0.95))
    if not wild.any():
        return
    found = (wild & _continuous(story, rows[:8].to(story.device))).nonzero().squeeze(1).tolist()
    if not found:
        return
    worst = max(found, key=lambda column: abs(float(size[column].clamp(min=1e-30).log())))
    values = "root mean square" if size[worst] > LARGE else "range"
    what = (
        f"{values} {float(size[worst] if size[worst] > LARGE else spread[worst]):.3g} in {named_columns([worst], None)}"
    )
    warnings.warn(
        f"x is far from unit scale in {named_columns(found, survey.names)} ({what}), but {type(story).__name__} "
        "assumes about unit scale: standardise such columns, as sklearn.preprocessing.StandardScaler does, or divide "
        "pixels by 255",
        FitWarning,
        stacklevel=3,
    )


def _continuous(story: Story, few: torch.Tensor) -> torch.Tensor:
    """(n_features,) whether a column is seen by a site with a density."""
    found = torch.zeros(story.n_features, dtype=torch.bool)
    try:
        with evaluating(story, 0):
            sites = [
                site for site in trace_joint(story.model, story.complete_guide, few).model.values() if site.observed
            ]
    except ValueError:  # what it says of its parameters is said elsewhere
        return ~found
    laws = {site.name: [(part, _is_discrete(law)) for part, law in laws_of(site.fn)] for site in sites}
    if all(discrete for parts in laws.values() for _, discrete in parts):
        return found
    try:
        where = columns(story)
    except Exception:  # the story cannot be run on numbers of columns, or observes what it computes from x
        return ~found
    for name, parts in laws.items():
        for part, discrete in parts:
            if not discrete:
                found[where[name] if part is None else where[name][part]] = True
    return found


def _is_discrete(law: object) -> bool:
    return bool(getattr(getattr(law, "support", None), "is_discrete", False))
