"""Objectives: lower bounds on log p(x) from the (rows, clusters) log joint, as Pyro ELBOs.

All are `pyro.infer.ELBO`s, so `pyro.infer.SVI(story.model, story.guide, optim, loss=Exact())` takes them, with
Pyro's convention: `loss` is minus the bound, in nats, summed over the rows of the batch. `pc.fit` divides by the
rows. Global latents count once for the whole data set; give `n_rows` where a batch is a part of it.

With L[n, k] the log joint under one draw of the local latents, the bound of row n is

    exact                 logsumexp_k L[n, k]: the optimal q(cluster | x) in closed form
    hard                  max_k L[n, k]: equation 6 of k-DVAE, the rule of k-means
    amortised             sum_k q(k|x) (L[n, k] - log q(k|x)), q the guide's; exact where the guide has no cluster
    importance-weighted   logsumexp_{s,k} L_s[n, k] - log S over S draws (Burda, Grosse, Salakhutdinov,
                          "Importance weighted autoencoders", 2016)
    truncated             logsumexp_{k in C_n} L[n, k] over the row's S candidates: the optimal q(cluster | x) among
                          those that are zero elsewhere

and hard, truncated, amortised <= exact <= importance-weighted <= log p(x), in expectation over the draws.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from pyro.infer import ELBO
from pyro.poutine.runtime import effectful
from torch import Tensor, nn

from probclust.locking import alone
from probclust.objectives.score_function import with_global_scores, with_local_scores
from probclust.story.joint import Clusters, Joint, programs, trace_joint
from probclust.story.recipe import Run


class Objective(ELBO):
    """A lower bound on log p(x), computed from the log joint.

    Args:
        n_rows: rows of the whole data set, of which a batch is a part; None where every batch is all of it.

    Attributes:
        name: under which `pc.fit` takes it, of an objective in a file of this folder.
    """

    name: ClassVar[str]
    particles = 1
    is_separable = True
    """Whether a batch's loss is a mean of terms of one row each, see `Train.separable`."""
    needs_all_rows = False
    """Whether it works only on rows that are all in memory, as where it looks at other rows than a batch's."""
    per_row_memory: Sequence[str] = ()
    """Names in `run.memory` of (rows, ...) tensors of which `learn` writes the batch's rows."""

    def __init__(self, n_rows: int | None = None) -> None:
        super().__init__(max_plate_nesting=1)  # type: ignore[no-untyped-call]
        self.n_rows = n_rows

    def bound(self, joint: Joint) -> Tensor:
        """(rows,) bound on log p(x), in nats, from one pass over a batch."""
        raise NotImplementedError

    def per_row(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        x: Tensor,
        y: Tensor | None = None,
        clusters: Clusters = "enumerate",
    ) -> tuple[Tensor, Joint]:
        """The bound in nats per row, and the pass it came from.

        Args:
            model: the story's model.
            guide: the story's guide.
            x: (rows, n_features).
            y: (rows,) known clusters, -1 where unknown; a known row counts only its own column of the log joint.
            clusters: what `clusters` said of the batch.

        Returns:
            A scalar, the mean over the rows (globals: their share for one row), and the pass.
        """
        joint = trace_joint(*programs(model, guide), self.repeat(x), cluster=clusters)
        rows = self.bound(joint)
        if y is not None:
            column = self.repeat(y).clamp(min=0)[:, None]
            if joint.candidates is not None:
                column = (column == joint.candidates.T).int().argmax(1, keepdim=True)
            known = joint.table.gather(1, column).squeeze(1)
            rows = torch.where(y >= 0, self.reduce(known), rows)
        mean = with_local_scores(joint, joint.weigh(rows)).mean()
        if joint.plate_scale != 1.0:  # of a plate that has each row as often as there are particles
            mean = mean * self.particles if self.n_rows is None else mean / joint.plate_scale
        bound = mean + joint.log_globals / (self.n_rows or x.shape[0])
        return with_global_scores(joint, bound), joint

    def start(self, run: Run, y: Tensor | None) -> None:
        """Called by `pc.fit` before the first epoch of a step, and where a stopped fit goes on.

        Args:
            run: the run.
            y: (rows,) the clusters that the step takes as known, -1 where unknown; None where none is.
        """

    def begin(self, run: Run, epoch: int) -> dict[str, Any]:
        """Called before each epoch; what it returns stands in the record's history."""
        return {}

    def clusters(self, run: Run, index: Tensor) -> Clusters:
        """The clusters to compute for the batch of rows `index`, all or (candidates, rows), for `per_row`."""
        return "enumerate"

    def learn(self, run: Run, index: Tensor, joint: Joint) -> None:
        """Called with the pass over the batch of rows `index`."""

    def penalty(self, run: Run, index: Tensor, joint: Joint) -> Tensor | None:
        """A scalar that the batch of rows `index` owes beyond its bound, in nats per row; None for nothing."""
        return None

    def describe(self) -> str:
        """What a record says of the objective: all that decides the result."""
        return f"{type(self).__name__}(particles={self.particles})"

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError("the log joint comes from one pass, not from traces")

    def repeat(self, rows: Tensor) -> Tensor:
        """The batch as often as there are particles, one after the other: (particles * rows, ...)."""
        return rows if self.particles == 1 else rows.repeat(self.particles, *[1] * (rows.dim() - 1))

    def reduce(self, weights: Tensor) -> Tensor:
        """(rows,) log of the mean weight over the particles, from (particles * rows,) log weights."""
        if self.particles == 1:
            return weights
        return weights.view(self.particles, -1).logsumexp(0) - math.log(self.particles)

    @alone
    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Minus the bound in nats, summed over the rows, as Pyro's ELBOs have it."""
        x = args[0] if args else kwargs["x"]
        bound, _ = self.per_row(model, guide, *args, **kwargs)
        return -bound * x.shape[0]

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """`differentiable_loss` as a number, without a gradient."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    @alone
    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """`differentiable_loss` as a number, after adding its gradient to the parameters' `.grad`."""
        for program in (model, guide):
            module = getattr(program, "__self__", program)
            if isinstance(module, nn.Module):
                _announce(module)
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward(retain_graph=self.retain_graph)
        return float(loss.detach())


class Exact(Objective):
    """The cluster summed out exactly: the optimal q(cluster | x)."""

    name = "exact"

    def bound(self, joint: Joint) -> Tensor:
        """(rows,) logsumexp over the clusters."""
        return joint.table.logsumexp(1)


class Hard(Objective):
    """Each row counts under its best cluster only (k-DVAE, equation 6, with its log weight)."""

    name = "hard"

    def bound(self, joint: Joint) -> Tensor:
        """(rows,) maximum over the clusters."""
        return joint.table.max(1).values


class Amortised(Objective):
    """The cluster averaged over the guide's own q(cluster | x): the value of Pyro's `TraceEnum_ELBO`."""

    name = "amortised"

    def bound(self, joint: Joint) -> Tensor:
        """(rows,) mean under q(cluster | x), plus its entropy."""
        log_q = joint.log_q
        if log_q is None:
            return joint.table.logsumexp(1)
        impossible = torch.isneginf(log_q)  # counts 0, whatever the model says of it
        return (log_q.exp() * (joint.table - joint.q_weight * log_q).masked_fill(impossible, 0.0)).sum(1)


class ImportanceWeighted(Objective):
    """The log of the mean importance weight over several draws of the latents.

    Args:
        particles: draws per row; the bound tightens as they grow.
        n_rows: rows of the whole data set.
    """

    name = "importance"

    def __init__(self, particles: int = 8, n_rows: int | None = None) -> None:
        if isinstance(particles, bool) or not isinstance(particles, int) or particles < 1:
            raise ValueError(f"particles must be an integer of at least 1, got {particles!r}")
        super().__init__(n_rows)
        self.particles = particles

    def bound(self, joint: Joint) -> Tensor:
        """(rows,) log mean weight over the particles."""
        return self.reduce(joint.table.logsumexp(1))


@effectful(type="param")
def _param(value: Any) -> Any:  # `effectful` itself takes the name
    return value


def _announce(module: nn.Module) -> None:
    """Show a module's plain parameters to `pyro.infer.SVI`, which collects them from "param" messages.

    The global parameter store is not involved: each message carries its value.
    """
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            _param(SimpleNamespace(unconstrained=weakref.ref(parameter)), name=f"{id(module)}.{name}")
