"""Objectives by name."""

from __future__ import annotations

from collections.abc import Mapping

from pyro.infer import ELBO

from probclust.named import classes_named
from probclust.objectives.bounds import Exact, Objective


def objectives_by_name() -> Mapping[str, type[Objective]]:
    """The objectives that fits take by name: those that a file of this folder gives a `name`."""
    return classes_named("probclust.objectives", Objective)


def objective_named(objective: str | ELBO | None) -> ELBO:
    """The objective of that name, such as "exact" or "truncated"; an ELBO is passed through."""
    if objective is None:
        return Exact()
    if isinstance(objective, ELBO):
        return objective
    known = objectives_by_name()
    if not isinstance(objective, str) or objective not in known:
        raise ValueError(f"objective must be one of {list(known)} or a pyro.infer.TraceEnum_ELBO, got {objective!r}")
    return known[objective]()
