"""What goes wrong in this field, watched during training: empty clusters, merged clusters, the bound's terms."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from probclust.errors import FitWarning
from probclust.story.joint import Joint
from probclust.story.sites import CLUSTER


class Monitor:
    """Sums over the passes of one epoch; nothing is read from the device before `summary`."""

    def __init__(self) -> None:
        self.rows = 0
        self.sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, joint: Joint) -> None:
        """Add one training pass: responsibilities, their entropy, and each term's mean under them."""
        self.rows += joint.n_rows
        table = joint.table
        weights = table.softmax(1)
        occupancy = weights.sum(0)
        if joint.candidates is not None:
            flat = joint.candidates.T.reshape(-1)
            occupancy = weights.new_zeros(joint.n_clusters).index_add_(0, flat, weights.reshape(-1))
        self._add("occupancy", occupancy)
        self._add("entropy", torch.special.entr(weights).sum())
        per_cluster = weights.T
        for name, term in joint.terms():
            self._add(name, (term * per_cluster).sum() if term.dim() > 1 else term.sum())

    @torch.no_grad()
    def add_term(self, name: str, value: Tensor, n_rows: int) -> None:
        """Add a term of the loss that is no site's: its mean over `n_rows` rows, in nats."""
        self._add(name, value * n_rows)

    def add_sums(self, n_rows: int, names: Sequence[str], sums: Sequence[Tensor]) -> None:
        """Add the sums of another monitor, which saw `n_rows` rows."""
        self.rows += n_rows
        for name, value in zip(names, sums, strict=True):
            self._add(name, value)

    def _add(self, name: str, value: Tensor) -> None:
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def summary(self) -> dict[str, Any]:
        """Per-row means: `occupancy` (a share for each cluster), `entropy` and `terms` (nats)."""
        if not self.rows:
            return {}
        means = {name: (value / self.rows).tolist() for name, value in self.sums.items()}
        occupancy, entropy = means.pop("occupancy"), means.pop("entropy")
        return {"occupancy": occupancy, "entropy": entropy, "terms": means}


def warn_of_clusters(
    occupancy: Sequence[float], n_rows: int, emptied: Sequence[int] = (), may_empty: bool = False
) -> None:
    """Warn where a fit left clusters empty, or all rows in one.

    Args:
        occupancy: share of the rows in each cluster, over the last epoch.
        n_rows: rows of the data set.
        emptied: clusters that had rows at the start, and at the end are no row's most probable one, though their share
            over the last epoch may be larger.
        may_empty: whether clusters are meant to empty out.
    """
    if len(occupancy) < 2:
        return
    empty = [k for k, share in enumerate(occupancy) if share * n_rows < 1]
    largest = max(range(len(occupancy)), key=lambda k: occupancy[k])
    advice = "try another start or more restarts (n_init), fewer clusters, or a smaller learning rate"
    if occupancy[largest] > 0.99:
        warnings.warn(f"all clusters merged into {CLUSTER} {largest}; {advice}", FitWarning, stacklevel=3)
    elif empty and not may_empty:
        warnings.warn(f"clusters {empty} hold less than one row each; {advice}", FitWarning, stacklevel=3)
    elif emptied and not may_empty:
        warnings.warn(
            f"clusters {list(emptied)} lost all rows that they started with; {advice}", FitWarning, stacklevel=3
        )


def warn_of_truncation(history: Sequence[Mapping[str, Any]]) -> None:
    """Warn where truncated enumeration misses the best cluster of more than a tenth of the rows.

    Args:
        history: entries of a restart's epochs; the last ones count, as many as have seen 500 rows.
    """
    found: list[Mapping[str, Any]] = []
    for entry in reversed(history):
        if "truncation" not in entry or sum(facts["rows"] for facts in found) >= 500:
            break
        found.append(entry["truncation"])
    n_rows = sum(facts["rows"] for facts in found)
    if not n_rows:
        return
    missed, captured = (sum(facts[k] * facts["rows"] for facts in found) / n_rows for k in ("missed", "captured"))
    if missed > 0.1:
        warnings.warn(
            f"the candidates lack the best cluster of {missed:.0%} of the rows (of {n_rows} looked at), and capture "
            f"{captured:.0%} of the posterior mass; raise n_candidates or refresh of the truncated objective, start "
            "from labels, or train for more epochs",
            FitWarning,
            stacklevel=3,
        )
