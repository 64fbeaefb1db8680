"""Rows in and out of codes: reconstructions, embeddings, and draws of the posterior."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from probclust.arguments import positive
from probclust.networks.stacked import of_cluster
from probclust.story.chunks import chunks, evaluating
from probclust.story.columns import columns, own_mean
from probclust.story.joint import Pass, model_joint, trace_joint
from probclust.story.rows import admit
from probclust.story.scoring import log_joint
from probclust.story.sites import CLUSTER, global_values, local_latents
from probclust.story.story import Story


def reconstruct(story: Story, x: Any) -> Tensor:
    """(rows, n_features): the mean of x under each row's most probable cluster, latents at the guide's mean.

    Of counts given their total, it is the mean given the row's own.
    """
    rows = admit(story, x)
    found = columns(story)
    out = torch.zeros(rows.shape, dtype=rows.dtype)
    labels = log_joint(story, rows).argmax(1)
    with evaluating(story, 0):
        for part, batch in chunks(story, rows):
            joint = trace_joint(
                story.model,
                story.complete_guide,
                batch,
                cluster=labels[part].to(batch.device),
                latents="mean",
            )
            for name, where in found.items():
                out[part, where] = own_mean(joint.model[name]).reshape(len(batch), -1).cpu().to(out.dtype)
    return out


def embed(story: Story, x: Any) -> Tensor:
    """(rows, latent_dim): the local latents at the guide's mean, under each row's most probable cluster.

    Several local latents are put side by side. A story without local latents embeds a row by its log joint,
    centred: (rows, clusters), in nats.
    """
    rows = admit(story, x)
    table = log_joint(story, rows)
    parts = []
    with evaluating(story, 0):
        for part, batch in chunks(story, rows):
            labels = table[part].argmax(1).to(batch.device)
            joint = trace_joint(story.model, story.complete_guide, batch, cluster=labels, latents="mean")
            values = [s.value.reshape(len(batch), -1) for s in local_latents(joint.guide).values()]
            if not values:
                return _centred(table)
            parts.append(torch.cat(values, 1).cpu())
    return torch.cat(parts)


def _centred(table: Tensor) -> Tensor:
    """(rows, clusters) log joint less each row's mean.

    A cluster that is impossible, at minus infinity, counts as the least probable that a number can say.
    """
    least = table.amax(1, keepdim=True) + math.log(torch.finfo(table.dtype).tiny)
    finite = torch.where(table.isneginf(), torch.minimum(least, _least_possible(table)), table)
    return finite - finite.mean(1, keepdim=True)


def _least_possible(table: Tensor) -> Tensor:
    return table.masked_fill(table.isneginf(), math.inf).amin(1, keepdim=True)


def sample_posterior(story: Story, x: Any, draws: int = 1, seed: int | None = None) -> dict[str, Tensor]:
    """Draws of the cluster and the local latents given rows.

    Each draw takes the latents of every cluster from the guide, then the cluster in proportion to its log joint.

    Args:
        story: any story.
        x: (rows, n_features).
        draws: per row.
        seed: of the draws; None uses and moves on the caller's random state.

    Returns:
        Site name to (draws, rows, ...) tensor: "cluster" and the local latents.
    """
    rows, draws = admit(story, x), positive("draws", draws)
    out: dict[str, list[Tensor]] = {}
    with evaluating(story, seed):
        for _ in range(draws):
            parts: dict[str, list[Tensor]] = {}
            shared: dict[str, Tensor] = {}  # of the draw, for all of its rows
            for _, batch in chunks(story, rows):
                guide = Pass(values=shared).run(story.complete_guide, batch)
                shared = shared or global_values(guide)
                joint = model_joint(story.model, guide, batch)
                cluster = torch.distributions.Categorical(logits=joint.table).sample()
                parts.setdefault(CLUSTER, []).append(cluster.cpu())
                for name, site in local_latents(joint.guide).items():
                    by_cluster = site.value.dim() > site.fn.event_dim + 1
                    value = of_cluster(site.value, cluster) if by_cluster else site.value
                    parts.setdefault(name, []).append(value.cpu())
            for name, values in parts.items():
                out.setdefault(name, []).append(torch.cat(values))
    return {name: torch.stack(values) for name, values in out.items()}
