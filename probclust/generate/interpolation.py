"""Paths from one cluster, or one row, to another, through the latents."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from pyro.distributions import constraints
from torch import Tensor
from torch.distributions import Categorical
from torch.nn import functional

from probclust.arguments import positive
from probclust.data.stored import resident
from probclust.distributions.base import family_of, laws_of
from probclust.generate.mode import mean_globals, mean_rows, sites_at_mode
from probclust.story.chunks import evaluating
from probclust.story.columns import columns, placeholder
from probclust.story.joint import Pass, trace_joint
from probclust.story.rows import admit, require_contract
from probclust.story.scoring import predict
from probclust.story.sites import Site, local_latents
from probclust.story.story import Story


def interpolate(story: Story, start: Any, end: Any, n: int = 9) -> Tensor:
    """Rows along a path between two clusters, two rows, or a cluster and a row.

    The latents go from those of `start` to those of `end` in a straight line, or along a great circle where they
    are directions. A cluster's are at their mode, so that the path begins at its row of `pc.modes`; a row's are at the
    guide's mean under its most probable cluster, so that the path begins at its `pc.reconstruct`. Totals of counts that
    are given them go in a straight line from the one's to the other's. Each point is
    decoded under the clusters of both ends, and its mean is mixed from the two: (1 - t) of the first, t of the second.

    Where one decoder serves all clusters, as VaDE's, that is the decoder along the path. Where each cluster has its
    own, as in a mixture of VAEs, no latent leads from one to the other and the path is a cross-fade between two
    decoders. Without local latents it is the straight line between the means.

    Args:
        story: any story that is not conditional, or, between clusters, has a `generative` of its own.
        start: index of a cluster, or one row, (n_features,).
        end: likewise.
        n: points, both ends included; at least 2.

    Returns:
        (n, n_features) rows. Categorical columns, which have no mean, change in the middle.

    Raises:
        ValueError: no such cluster, the row does not fit, or the story conditions on x.

    Examples:
        >>> import torch, probclust as pc
        >>> interpolate(pc.models.GaussianMixture(2, n_clusters=3), 0, 2, n=5).shape
        torch.Size([5, 2])
    """
    require_contract(story)
    if positive("n", n) < 2:
        raise ValueError(f"n must be at least 2, both ends, got {n}")
    found = columns(story)
    ends = [_end(story, start, "start"), _end(story, end, "end")]
    t = torch.linspace(0, 1, n, dtype=story.dtype, device=story.device)
    with evaluating(story, 0):
        shared = mean_globals(story)
        latents = [{name: site.value for name, site in local_latents(sites).items()} for _, sites, _ in ends]
        values = dict(shared)
        for name, value in latents[0].items():
            values[name] = _between(value, latents[1][name], t, ends[0][1][name].fn)
        share = t.cpu()[:, None]
        between = (1 - share) * ends[0][2] + share * ends[1][2]
        decoded = []
        for cluster, _, _ in ends:
            clusters = torch.full((n,), cluster, device=story.device)
            sites = Pass(clusters, values).run(story.generative, placeholder(story, n))
            decoded.append(mean_rows(story, sites, found, like=between))
        mixed = (1 - share) * decoded[0] + share * decoded[1]
        for name, where in found.items():
            jumping = where[_categorical(sites[name].fn, len(where))]
            mixed[:, jumping] = torch.where(share < 0.5, decoded[0], decoded[1])[:, jumping]
    return mixed


def _end(story: Story, end: Any, name: str) -> tuple[int, dict[str, Site], Tensor]:
    """The cluster of an end of the path, the sites of its latents, and (1, n_features) its row."""
    if isinstance(end, int) or getattr(end, "shape", None) == ():
        cluster = int(end)
        if not 0 <= cluster < story.n_clusters or isinstance(end, bool) or cluster != end:
            raise ValueError(f"{name} must be a cluster in 0..{story.n_clusters - 1} or a row, got {end!r}")
        with evaluating(story, 0):
            sites = sites_at_mode(story, torch.tensor([cluster], device=story.device))
            return cluster, sites, mean_rows(story, sites, columns(story))
    if story.conditional:
        raise ValueError(
            f"{type(story).__name__} conditions on x (conditional = True), so no path leads from one row to another; "
            "interpolate between clusters, if it can be sampled"
        )
    if isinstance(end, pd.Series):  # a row of a frame, with the names of its columns
        row = resident(admit(story, end.to_frame().T))
    elif hasattr(end, "__len__") and len(end) == story.n_features:
        row = resident(admit(story, end[None] if isinstance(end, Tensor) else [end]))
    else:
        raise ValueError(f"{name} must be a cluster's index or one row of n_features={story.n_features} numbers")
    label = predict(story, row)
    with evaluating(story, 0):
        joint = trace_joint(
            story.model,
            story.complete_guide,
            row.to(story.device),
            cluster=label.to(story.device),
            latents="mean",
        )
    return int(label), joint.guide, row


def _between(start: Tensor, end: Tensor, t: Tensor, fn: Any) -> Tensor:
    """(points, ...) values from `start` to `end`, each (1, ...)."""
    t = t.reshape(-1, *[1] * (start.dim() - 1))
    if not isinstance(fn.support, type(constraints.sphere)):  # all other supports are convex
        return (1 - t) * start + t * end
    lengths = [value.norm(dim=-1, keepdim=True) for value in (start, end)]  # a mean of directions lies inside
    angle = (start * end / (lengths[0] * lengths[1])).sum(-1, keepdim=True).clamp(-1, 1).acos()
    angle = angle.clamp(1e-3, torch.pi - 1e-3)
    direction = ((1 - t) * angle).sin() * start / lengths[0] + (t * angle).sin() * end / lengths[1]
    return ((1 - t) * lengths[0] + t * lengths[1]) * functional.normalize(direction, dim=-1)


def _categorical(fn: Any, n_columns: int) -> Tensor:
    """(columns,) whether what a site observes are categories, between which nothing lies."""
    found = torch.zeros(n_columns, dtype=torch.bool)
    for part, law in laws_of(fn):
        found[slice(None) if part is None else part] = isinstance(family_of(law), Categorical)
    return found
