"""The measure that a story's likelihood is a density of: what may be ranked against what.

A log density of real numbers (nats per unit of volume) and a log probability of counts (nats) have different units;
their difference means nothing. Nor does that of densities of different columns of x.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from pyro.distributions import constraints
from torch import Tensor

from probclust.data.stored import Rows
from probclust.distributions.base import base_of, laws_of
from probclust.story.chunks import chunks, evaluating
from probclust.story.columns import columns
from probclust.story.joint import Joint, trace_joint
from probclust.story.rows import admit
from probclust.story.scoring import predict
from probclust.story.sites import Site, is_masked
from probclust.story.story import Story

CONTINUOUS, DISCRETE, DIRECTIONAL, UNOBSERVED = "continuous", "discrete", "directional", "unobserved"
GIVEN_TOTAL = "discrete given the total"


@dataclass(frozen=True)
class Measure:
    """What a likelihood is a density of. Equal measures have comparable log-likelihoods.

    Attributes:
        kinds: of each column of x: "continuous", "discrete", "directional" (with respect to the surface of the unit
            sphere), "discrete given the total" (counts that have it on average, whose probabilities sum to less
            than 1) or "unobserved". Where a site observes a transformation of x, its volumes are unknown: then the one
            entry is the class of the story, comparable with itself alone.
    """

    kinds: tuple[str, ...]

    @property
    def is_by_columns(self) -> bool:
        """Whether a scaler of columns changes it by a known volume, of each continuous column on its own."""
        return set(self.kinds) <= {CONTINUOUS, DISCRETE, GIVEN_TOTAL, UNOBSERVED}

    def __str__(self) -> str:
        if len(set(self.kinds)) == 1:
            return self.kinds[0]
        runs = [(kind, len(list(run))) for kind, run in groupby(self.kinds)]
        return "columns " + ", ".join(f"{n} {kind}" for kind, n in runs)


def measure_of(story: Story, x: Any, clusters: Tensor | None = None) -> Measure:
    """The measure that a story's likelihood is a density of.

    Args:
        story: any story.
        x: (rows, n_features); a few rows are looked at.
        clusters: (rows,) those of `pc.predict`, where they are known.
    """
    rows = admit(story, x)[:8]
    try:
        found = columns(story)
    except ValueError:
        return Measure((f"a transformation of x by {type(story).__qualname__}",))
    times = Counter(column for where in found.values() for column in where.tolist())
    if max(times.values()) > 1:  # such as x > 0.5, which looks like column 1 repeated
        return Measure((f"a transformation of x by {type(story).__qualname__}",))
    kinds = [UNOBSERVED] * story.n_features
    for site in _observed(story, rows, predict(story, rows) if clusters is None else clusters[:8]):
        for column, kind in zip(found[site.name].tolist(), _kinds(site), strict=True):
            kinds[column] = kind
    return Measure(tuple(kinds))


def why_no_density(story: Story, x: Any, clusters: Tensor | None = None) -> str | None:
    """Why a story's log joint is no log density of these rows; None where it is one.

    Args:
        story: any story.
        x: (rows, n_features). All rows are looked at: a value outside the support of its distribution, such as grey
            under a Bernoulli, still gets a number, which is then a score.
        clusters: (rows,) those of `pc.predict`, where they are known.
    """
    if not story.is_density:
        return "its log joint is no log density of x (is_density = False)"
    if story.conditional:
        return "it conditions on x (conditional = True)"
    rows = admit(story, x)
    reason = _why_no_log_joint(_a_pass(story, rows[:8]))
    if reason is not None:
        return reason
    for site in _observed(story, rows, predict(story, rows) if clusters is None else clusters):
        fn = base_of(site.fn)
        try:
            inside = fn.support.check(site.value)
        except NotImplementedError:  # the distribution does not say
            continue
        inside = inside.reshape(len(site.log_prob), -1)
        wrong = ~inside.all(1) & ~torch.isneginf(site.log_prob)  # probability 0 is right outside the support
        if wrong.any():
            row = int(wrong.nonzero()[0])
            values = site.value[row].flatten()
            value = values[~inside[row]][0] if inside.shape[1] == len(values) else values[0]
            return f"site '{site.name}' observes {value.item():.4g}, outside the support of {type(fn).__name__}"
    return None


def _a_pass(story: Story, rows: Tensor) -> Joint:
    with evaluating(story, 0):
        return trace_joint(story.model, story.complete_guide, rows.to(story.device))


def _why_no_log_joint(joint: Joint) -> str | None:
    """What a story adds to its log joint, or leaves out of it, so that it is no log density."""
    if (site := joint.scaled) is not None:
        return f"site '{site.name}' is scaled (poutine.scale) and site 'cluster' is not, or otherwise"
    for sites in (joint.model, joint.guide):
        for site in sites.values():
            if site.local and site.role == "factor":
                return f"pyro.factor '{site.name}' adds a term to each row's log joint"
            if site.local and site.role != "deterministic" and is_masked(site):
                return f"site '{site.name}' is masked, so that its log probability leaves rows or columns out"
    return None


def _observed(story: Story, rows: Rows, clusters: Tensor) -> Iterator[Site]:
    """The observed sites, chunk by chunk, under each row's most probable cluster."""
    for part, batch in chunks(story, rows):
        with evaluating(story, 0):
            joint = trace_joint(story.model, story.complete_guide, batch, cluster=clusters[part].to(batch.device))
        yield from (site for site in joint.model.values() if site.observed)


def _kinds(site: Site) -> list[str]:
    """The kind of each column of an observed site."""
    kinds = [UNOBSERVED] * site.value[0].numel()
    for columns_of_law, law in laws_of(site.fn):
        for column in range(len(kinds)) if columns_of_law is None else columns_of_law:
            kinds[column] = _kind(law, site.value)
    return kinds


def _kind(fn: Any, value: Tensor) -> str:
    if not getattr(fn, "keeps_total", True):
        return GIVEN_TOTAL
    try:
        support = fn.support
    except NotImplementedError:  # the distribution does not say
        return CONTINUOUS if torch.is_floating_point(value) else DISCRETE
    if isinstance(support, type(constraints.sphere)):
        return DIRECTIONAL
    return DISCRETE if support.is_discrete else CONTINUOUS
