"""What a fit maximises: bounds on log p(x) from the log joint, and penalties beside them."""

from __future__ import annotations

from probclust.objectives.bounds import Amortised, Exact, Hard, ImportanceWeighted, Objective
from probclust.objectives.linked import Linked
from probclust.objectives.minimum_information import MinimumInformation
from probclust.objectives.named import objective_named
from probclust.objectives.truncated import Truncated

__all__ = [
    "Amortised",
    "Exact",
    "Hard",
    "ImportanceWeighted",
    "Linked",
    "MinimumInformation",
    "Objective",
    "Truncated",
    "objective_named",
]
