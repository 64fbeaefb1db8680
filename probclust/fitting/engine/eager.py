"""Engines: how a training step gets its loss and gradients."""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import Tensor

from probclust.networks.fused import recycle

Engine = Literal["auto", "eager", "staged", "compiled"]

LARGE = 1_000_000
"""Parameters from which a network's own work is most of a step, so that staging saves a smaller part of it."""

WORTH_STAGING = {"small": 500, "large": 2000}
"""Batches of a step from which "auto" stages it: what tracing took to pay for itself, or more (docs/engines.md)."""


def checked_engine(engine: Any) -> Engine:
    """`engine`, or a ValueError where there is none of that name."""
    if engine not in get_args(Engine):
        raise ValueError(f"engine must be 'auto', 'eager', 'staged' or 'compiled', got {engine!r}")
    chosen: Engine = engine
    return chosen


def chosen_engine(engine: str, *, n_steps: int, n_parameters: int, device: str) -> str:
    """The engine of a training step: "auto" stages long ones, on devices where that was tried.

    Args:
        engine: what the caller asked for.
        n_steps: batches of all the step's epochs: not those to come, so that a resumed fit goes on as it began.
        n_parameters: numbers that the step trains.
        device: "cpu", "cuda" or "mps".
    """
    if engine != "auto":
        return engine
    is_large = n_parameters >= LARGE and device != "cuda"  # a GPU waits for Python in large networks' steps too
    worth = WORTH_STAGING["large" if is_large else "small"]
    return "staged" if n_steps >= worth and device != "mps" else "eager"


class Eager:
    """Runs the story's programs through Pyro at every batch.

    Args:
        fabric: Lightning Fabric's, for the backward pass.
        module: the step's loss, as Fabric set it up.
        optimizer: whose parameters get gradients.
    """

    def __init__(self, fabric: Any, module: Any, optimizer: Any) -> None:
        self.fabric, self.module, self.optimizer = fabric, module, optimizer

    def start_epoch(self) -> None:
        """Called before an epoch's first batch."""

    def gradients(self, x: Tensor, index: Tensor, y: Tensor | None, weight: float = 1.0) -> Tensor:
        """The batch's loss, a scalar; its gradients are left in the parameters.

        Args:
            x: (rows, n_features).
            index: (rows,) their numbers among all rows.
            y: (rows,) known clusters, -1 where unknown, or None.
            weight: of the loss in the gradients.
        """
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                recycle(parameter)
        loss: Tensor = self.module(x, index, y)
        self.fabric.backward(loss if weight == 1.0 else loss * weight)
        return loss.detach()
