"""Pyro's own ELBOs as objectives of a fit: the cluster enumerated, the global latents counted once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, JitTraceEnum_ELBO, TraceEnum_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor

from probclust.objectives.bounds import Objective
from probclust.story.joint import Pass, programs
from probclust.story.module_parameters import module_local_parameters
from probclust.story.placement import made_on
from probclust.story.recipe import SVI, Step
from probclust.story.sites import CLUSTER, PLATE, local_latents
from probclust.story.story import Story
from probclust.story.untouched import untouched

REMEDY = "take objective='exact', its value where the model enumerates the cluster, or 'amortised'"


def mean_loss(elbo: Any, story: Story, x: Tensor, n_rows: int) -> Tensor:
    """Minus the bound of a batch in nats per row, a scalar: rows' terms by their mean, the globals' by their share.

    Args:
        elbo: a `TraceEnum_ELBO` that `check_elbos` has let in.
        story: the story.
        x: (rows, n_features) of the batch.
        n_rows: rows of the whole data set.
    """
    model, guide = programs(story.model, story.guide)
    with module_local_parameters, made_on(x.device):
        loss = elbo.differentiable_loss(_prepared(model, n_rows), _prepared(guide, n_rows), x)
    return loss / n_rows


def check_elbos(steps: Sequence[Step], story: Story, x: Tensor) -> None:
    """Refuse steps whose objective is an ELBO that does not sum out the cluster, or fails on the story.

    Args:
        steps: of a fit.
        story: the story.
        x: (rows, n_features), a few rows on the story's device.

    Raises:
        ValueError: names the step, the objective and the reason.
    """
    for step in steps:
        elbo = step.objective if isinstance(step, SVI) and step.loss is None else None
        if not isinstance(elbo, ELBO) or isinstance(elbo, Objective):
            continue
        what = f"step '{step.name}': objective {type(elbo).__name__}"
        if not isinstance(elbo, TraceEnum_ELBO) or isinstance(elbo, JitTraceEnum_ELBO):
            raise ValueError(
                f"{what} draws the cluster, or compiles it away; expected pyro.infer.TraceEnum_ELBO, which sums it "
                f"out: {REMEDY}"
            )
        if elbo.vectorize_particles and elbo.num_particles > 1:
            raise ValueError(
                f"{what} has vectorize_particles=True, whose plate stories do not have; leave it out, or take "
                "objective='importance'"
            )
        with untouched(story), pyro.validation_enabled(False):
            guide = Pass().run(story.complete_guide, x)
            by_cluster = [name for name, site in local_latents(guide).items() if site.unscaled.dim() > 1]
            if by_cluster and CLUSTER not in guide:
                raise ValueError(
                    f"{what} needs a q(cluster | x) in the guide of {type(story).__name__}, whose '{by_cluster[0]}' "
                    "is by cluster; take objective='exact', which finds the optimal one"
                )
            try:
                with torch.enable_grad():
                    mean_loss(elbo, story, x, 2 * len(x))
            except Exception as error:
                raise ValueError(f"{what} fails on {type(story).__name__} ({error}); {REMEDY}") from error


def _prepared(program: Callable[..., Any], n_rows: int) -> Callable[..., Any]:
    enumerated: Callable[..., Any] = poutine.infer_config(
        program, lambda site: {"enumerate": "parallel"} if site["name"] == CLUSTER else {}
    )
    return _ForAllRows(n_rows)(enumerated)


class _ForAllRows(Messenger):
    """Lets the sites in the plate of a batch count for all rows."""

    def __init__(self, n_rows: int) -> None:
        super().__init__()
        self.n_rows = n_rows

    def _pyro_sample(self, msg: Any) -> None:
        for frame in msg["cond_indep_stack"]:
            if frame.name == PLATE:
                msg["scale"] = msg["scale"] * self.n_rows / (frame.full_size or frame.size)


def described(elbo: ELBO) -> str:
    """The class of one of Pyro's ELBOs and its plain settings, for a record."""
    plain = {name: value for name, value in sorted(vars(elbo).items()) if isinstance(value, bool | int | float | str)}
    return f"{type(elbo).__name__}({', '.join(f'{name}={value}' for name, value in plain.items())})"
