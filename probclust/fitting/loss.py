"""The loss of one training step, a batch at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from probclust.objectives.bounds import Objective
from probclust.objectives.monitor import Monitor
from probclust.objectives.named import objective_named
from probclust.objectives.penalties import pair_penalty
from probclust.objectives.pyro_elbo import mean_loss
from probclust.story.joint import programs, trace_joint
from probclust.story.recipe import START, SVI, Batch, Run, Train


class StepLoss(nn.Module):
    """The loss of a step as a module's forward pass, which is what Fabric wraps for precision and several devices."""

    def __init__(self, step: Train, run: Run) -> None:
        super().__init__()
        self.story, self.step, self.run, self.y = run.story, step, run, None
        self.trained = nn.ModuleList(step.modules or ())  # some may be none of the story's
        self.monitor = Monitor()
        if isinstance(step, SVI):
            self.objective = objective_named(step.objective)
            self.y = _known(step, run)
            if isinstance(self.objective, Objective):
                self.objective.n_rows = run.x.shape[0]
                self.objective.start(run, self.y)
            elif self.y is not None:
                raise ValueError(f"{type(self.objective).__name__} takes no known clusters; use a probclust objective")

    @property
    def is_separable(self) -> bool:
        """Whether the loss is a mean of terms of one row each, so that devices may each take some rows of a batch."""
        if type(self.step).after is not Train.after:
            return False
        if self.step.loss is not None:
            return self.step.separable
        return isinstance(self.objective, Objective) and self.objective.is_separable and self.run.pairs is None

    def begin(self, epoch: int) -> dict[str, Any]:
        """Before an epoch: what the objective has to do, and facts for the history."""
        if isinstance(self.step, SVI) and self.step.loss is None and isinstance(self.objective, Objective):
            return self.objective.begin(self.run, epoch)
        return {}

    def forward(self, x: Tensor, index: Tensor, y: Tensor | None) -> Tensor:
        """The batch's loss, a mean over its rows."""
        story = self.story
        if self.step.loss is not None:
            return self.step.loss(Batch(x, index, self.run))
        if not isinstance(self.objective, Objective):
            return mean_loss(self.objective, story, x, self.run.x.shape[0]) + self._penalty(len(x))
        clusters = self.objective.clusters(self.run, index)
        bound, joint = self.objective.per_row(story.model, story.guide, x, y, clusters)
        if self.training:
            self.objective.learn(self.run, index, joint)
            self.monitor.add(joint)
        loss = -bound if self.run.pairs is None else self._penalty(len(x)) - bound
        owed = self.objective.penalty(self.run, index, joint)
        if owed is None:
            return loss
        self.monitor.add_term("penalty", -owed, len(x))
        return loss + owed

    def _penalty(self, n_rows: int) -> Tensor | float:
        """The weighted penalty of pairs, of up to half as many as a batch has rows: both ends are scored beside it."""
        pairs, x = self.run.pairs, self.run.x
        if pairs is None:
            return 0.0
        rows, is_must = pairs.draw(max(1, n_rows // 2))
        joint = trace_joint(*programs(self.story.model, self.story.guide), x[rows.to(x.device)])
        penalty = pair_penalty(joint.table, is_must.to(x.device))
        self.monitor.add_term("pairs", -penalty, n_rows)
        return pairs.weight * penalty


def _known(step: SVI, run: Run) -> Tensor | None:
    """The clusters that an SVI step takes as known: the user's, and those of the warm start where it asks for them."""
    if not step.to_start:
        return run.y
    if START not in run.memory:
        raise ValueError(f"step '{step.name}' trains to the warm start's labels; put a step that finds them before it")
    start = run.memory[START].to(run.x.device)
    return start if run.y is None else torch.where(run.y >= 0, run.y, start)
