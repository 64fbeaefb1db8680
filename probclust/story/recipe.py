"""Recipes: the named steps of a fit, in order.

A recipe is a list of steps. A `Compute` step runs once (k-means on the codes, an EM start); a `Train` step
minimises a loss over minibatches; `SVI` is the `Train` step whose loss is minus the story's bound. What a step
leaves for a later one (labels of a start, a neighbour graph) it puts into `run.memory`, which checkpoints keep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pyro.infer import ELBO
from torch import Tensor, nn

from probclust.arguments import choice, positive_or_none, real, whole
from probclust.story.memory import Memory
from probclust.story.pairs import Pairs
from probclust.story.story import Story

Schedule = Literal["constant", "cosine"]

START = Memory.labels.name
"""Name in `run.memory` of the (rows,) cluster labels that a warm start found."""

CANDIDATES = Memory.candidates.name
"""Name in `run.memory` of the (rows, S) clusters that truncated enumeration computes for each row, the best first."""


@dataclass
class Run:
    """What the steps of one restart share.

    Attributes:
        story: the story being fitted.
        x: (rows, n_features), on the story's device: a tensor; but after the warm start of a fit whose rows are larger
            than memory `probclust.data.StoredRows`, which give tensors by index, `x[index]`, and by `x.split(size)`.
        y: (rows,) known clusters, -1 where unknown; None where nothing is known.
        seed: of this restart.
        memory: tensors that steps leave for later steps, by name, see `Memory`.
        pairs: must-links and cannot-links, which SVI steps keep to; None where there are none.
    """

    story: Story
    x: Any
    y: Tensor | None
    seed: int
    memory: Memory = field(default_factory=Memory)
    pairs: Pairs | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.memory, Memory):
            self.memory = Memory(self.memory)


@dataclass(frozen=True)
class Batch:
    """A minibatch: rows `index` of `run.x`."""

    x: Tensor
    index: Tensor
    run: Run


@dataclass(frozen=True, kw_only=True)
class Compute:
    """A step that runs once.

    Args:
        name: shown in progress, records and errors.
        run: changes the story's parameters and buffers, and `run.memory`: all that checkpoints keep, and that the
            first of several devices, where it runs, tells the others. It draws random numbers from torch's generator,
            seeded for this step, or from `run.seed`.
    """

    name: str
    run: Callable[[Run], None]


@dataclass(frozen=True, kw_only=True)
class Train:
    """A step that minimises a loss over minibatches with Adam.

    Args:
        name: shown in progress, records and errors.
        epochs: passes over the rows; None for at least 100 and at least 2,000 steps.
        min_steps: batches at least, in more epochs where the rows are few.
        loss: scalar loss of a batch, a mean over its rows (nats per row where it is a bound).
        learning_rate: of Adam, at the start; None for 0.01, or 0.001 where the story has networks of more than 10,000
            weights.
        schedule: "constant", or "cosine" from the learning rate down to zero.
        batch_size: rows per batch; None for `fit`'s.
        modules: whose parameters are trained; None for the story's.
        patience: epochs without an improvement of the epoch's loss by `tolerance` (nats per row) after which the
            step ends; None to run all epochs.
        tolerance: see `patience`.
        separable: whether the loss is a mean of terms that depend on one row each and on no random number. Several
            devices then share each batch; else each computes the loss of all of it.
        clip: norm to which a larger gradient of a batch is scaled down; None for no limit.
    """

    name: str
    epochs: int | None = None
    loss: Callable[[Batch], Tensor] | None = None
    learning_rate: float | None = 1e-3
    schedule: Schedule = "constant"
    batch_size: int | None = None
    modules: Sequence[nn.Module] | None = None
    patience: int | None = None
    tolerance: float = 1e-3
    separable: bool = False
    min_steps: int = 0
    clip: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"a step's name must be a string, got {self.name!r}")
        step = f"step '{self.name}': "
        for name in ("epochs", "batch_size", "patience"):
            positive_or_none(f"{step}{name}", getattr(self, name))
        whole(f"{step}min_steps", self.min_steps)
        for name in ("learning_rate", "clip"):
            if getattr(self, name) is not None:
                real(f"{step}{name}", getattr(self, name), 0)
        real(f"{step}tolerance", self.tolerance, 0, closed="low")
        choice(f"{step}schedule", self.schedule, get_args(Schedule))

    def n_epochs(self, n_batches: int) -> int:
        """How many passes over the rows are made, of so many batches each."""
        epochs, steps = (100, 2000) if self.epochs is None else (self.epochs, 0)
        return max(epochs, math.ceil(max(steps, self.min_steps) / n_batches))

    @property
    def is_start(self) -> bool:
        """Whether the step belongs to the warm start, so that a sample of the rows does where they exceed memory."""
        return True

    def before(self, run: Run, n_batches: int) -> bool:
        """Called before each batch with the number of the step's batches so far; True ends the step there.

        A subclass may do here what is due every so often. What it remembers from one call to the next belongs into
        `run.memory`, by new tensors in place of the old, so that a fit that was stopped goes on from there.
        """
        return False

    def after(self, batch: Batch) -> None:
        """Called after each batch, once its gradient step is taken.

        A subclass may do here what follows from the batch without a gradient, changing the story's own parameters and
        buffers, or `run.memory` as in `before`.
        """


@dataclass(frozen=True, kw_only=True)
class SVI(Train):
    """Stochastic variational inference: maximise the story's bound on log p(x).

    Args:
        objective: the name of one of `probclust.objectives`, such as "exact", or a `pyro.infer.TraceEnum_ELBO`.
        to_start: take the labels of the warm start as known clusters, so that each row trains its own cluster only.
    """

    name: str = "svi"
    learning_rate: float | None = None
    schedule: Schedule = "cosine"
    objective: str | ELBO = "exact"
    to_start: bool = False

    @classmethod
    def to_labels(cls, epochs: int, **changes: Any) -> SVI:
        """The step of a recipe that fits a story to its starting clusters, by small batches at a constant rate.

        Args:
            epochs: passes over the rows.
            changes: other settings than these.
        """
        settings: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 64, "schedule": "constant"}
        return cls(name="fit to start", epochs=epochs, to_start=True, **settings | changes)

    @property
    def is_start(self) -> bool:
        """Where it trains to the start's labels."""
        return self.to_start


Step = Compute | Train
