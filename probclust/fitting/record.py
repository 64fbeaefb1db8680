"""The record of a fit: what ran, on what, for how long, and how the loss went."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from torch import Tensor

from probclust.part import Part
from probclust.story.registry import qualified_name
from probclust.story.saving import describe


@dataclass(frozen=True)
class FitRecord:
    """What `pc.fit` returns.

    Attributes:
        story: name of the story's class.
        settings: all that decides the result: the story's arguments, the steps, seed, batch size, data digest.
        versions: of Python and the packages that compute.
        history: one entry per epoch of training: restart, step, epoch, loss (nats per row where it is a bound),
            seconds, learning rate, and for SVI steps occupancy, entropy and terms; for the truncated objective
            truncation: the share of rows whose best cluster was "missed", the posterior mass "captured", and the
            "rows" that these come from. The last of a step says "undone" where the step ended with a lower bound than
            it began with, so that its start's weights were kept.
        bounds: each restart's bound on log p(x), mean over the rows, in nats; minus infinity of one that failed.
        restart: the restart that was kept, the one with the largest bound.
        seconds: of the whole fit, over all its resumptions.
        memory: what the kept restart's steps left for later ones, such as the (rows,) labels of the warm start under
            "start".
        assignments: (n_init, rows) clusters that each restart ended with, less those that failed, for `pc.stability`;
            None for a single one.
    """

    story: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    history: tuple[Mapping[str, Any], ...]
    bounds: tuple[float, ...]
    restart: int
    seconds: float
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    assignments: Tensor | None = None

    @property
    def bound(self) -> float:
        """The kept restart's bound on log p(x), mean over the rows, in nats."""
        return self.bounds[self.restart]

    def losses(self, step: str = "svi") -> list[float]:
        """The kept restart's loss per epoch of the step of that name."""
        return [e["loss"] for e in self.history if e["step"] == step and e["restart"] == self.restart]

    def to_json(self) -> str:
        """The record as JSON, without `memory` and `assignments`."""
        facts = {name: value for name, value in vars(self).items() if name not in ("memory", "assignments")}
        facts["settings"] = describe_plain(self.settings)
        return json.dumps(facts, indent=1)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute."""
    packages = ("probclust", "torch", "pyro-ppl", "numpy", "scikit-learn", "lightning-fabric")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def describe_plain(value: Any) -> Any:
    """`value` for a reader of JSON: plain containers as they are, other objects as `describe` has them."""
    if isinstance(value, Mapping):
        return {str(key): describe_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe_plain(item) for item in value]
    if isinstance(value, Part):
        return {"class": qualified_name(type(value)), "arguments": describe_plain(value.arguments)}
    try:
        return describe(value)
    except TypeError:  # a function, say: it cannot be saved, but a fit can be described
        named: Any = value if hasattr(value, "__qualname__") else type(value)
        return qualified_name(named)
