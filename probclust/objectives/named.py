"""Objectives by name."""

from __future__ import annotations

from pyro.infer import ELBO

from probclust.objectives.bounds import Amortised, Exact, Hard, ImportanceWeighted, Objective
from probclust.objectives.truncated import Truncated

_BY_NAME: dict[str, type[Objective]] = {o.name: o for o in (Exact, Hard, Amortised, ImportanceWeighted, Truncated)}


def objective_named(objective: str | ELBO | None) -> ELBO:
    """The objective of that name, such as "exact" or "truncated"; an ELBO is passed through."""
    if objective is None:
        return Exact()
    if isinstance(objective, ELBO):
        return objective
    if not isinstance(objective, str) or objective not in _BY_NAME:
        raise ValueError(
            f"objective must be one of {sorted(_BY_NAME)} or a pyro.infer.TraceEnum_ELBO, got {objective!r}"
        )
    return _BY_NAME[objective]()
