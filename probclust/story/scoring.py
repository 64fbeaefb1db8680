"""Scores of rows under a fitted story: log joint, responsibilities, predictions, bounds on log p(x)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from probclust.arguments import positive
from probclust.progress import Progress, progress_bar
from probclust.story.chunks import chunk_size, chunks, evaluating
from probclust.story.finite import require_finite
from probclust.story.joint import Joint, Pass, model_joint, trace_joint
from probclust.story.rows import admit
from probclust.story.sites import CLUSTER, Site
from probclust.story.story import Story

MANY_DRAWS = 100
"""Draws of a batch's latents from which further ones are made together, as Pyro's own time then counts once for all."""

FEW_ROWS = 2048
"""Rows of a pass up to which that is done."""

Show = bool | Progress | None


def log_joint(story: Story, x: Any, particles: int | None = None, *, seed: int = 0, progress: Show = None) -> Tensor:
    """The log joint of every row and cluster: (a bound on) log p(x_n, cluster = k).

    Args:
        story: any story.
        x: (rows, n_features).
        particles: None for local latents at the guide's mean: deterministic, a score (k-DVAE's equation 8) and no
            bound. S for the average over S draws from the guide, a lower bound on log p(x_n, k).
        seed: of the draws.
        progress: show a progress bar; None to show one on a terminal where it takes more than a second; or an object
            that shows it. As in all functions here.

    Returns:
        (rows, clusters) tensor, in nats.

    Raises:
        ValueError: `x` does not fit the story, or `particles` is below 1.
        NonFiniteError: the story gives NaN; the message names the site.
    """
    rows = admit(story, x)
    out = torch.empty(rows.shape[0], story.n_clusters, dtype=story.dtype)
    draws = 1 if particles is None else positive("particles", particles)
    with evaluating(story, seed), progress_bar(progress, after=1.0) as bar:
        for part, batch in chunks(story, rows, bar, "log joint"):
            total = torch.zeros((), device=batch.device)
            for _ in range(draws):
                total = total + _table(story, batch, "mean" if particles is None else "draw")
            out[part] = total / draws
    return out


def responsibilities(story: Story, x: Any, *, progress: Show = None) -> Tensor:
    """(rows, clusters) probabilities p(cluster | x): the softmax of the log joint at the guide's mean."""
    return log_joint(story, x, progress=progress).softmax(1)


def predict(story: Story, x: Any, *, progress: Show = None) -> Tensor:
    """(rows,) index of each row's most probable cluster, deterministic."""
    return log_joint(story, x, progress=progress).argmax(1)


def elbo(story: Story, x: Any, particles: int = 1, seed: int = 0, *, progress: Show = None) -> Tensor:
    """(rows,) lower bound on log p(x) in nats: the mean over draws of logsumexp over clusters.

    Each draw of the local latents from the guide gives one unbiased estimate of the bound. Global latents are drawn
    from their guide too, and their own divergence, which belongs to the training set, is left out. Where the story's
    log joint is no density of x (`is_density`, `conditional`), it is the story's own objective instead.

    Args:
        story: any story.
        x: (rows, n_features).
        particles: draws per row.
        seed: of the draws; the caller's random state is left alone.
        progress: as in `log_joint`.
    """
    return _bound(story, x, particles, seed, progress, weighted=False)


def log_likelihood(story: Story, x: Any, particles: int = 100, seed: int = 0, *, progress: Show = None) -> Tensor:
    """(rows,) importance-weighted lower bound on log p(x) in nats: the log of the mean weight over draws.

    Tighter with more particles; exact where the story has no local latents (one particle is used then).
    Source: Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", 2016.
    """
    return _bound(story, x, particles, seed, progress, weighted=True)


def _bound(story: Story, x: Any, particles: int, seed: int, progress: Show, weighted: bool) -> Tensor:
    rows, particles = admit(story, x), positive("particles", particles)
    if not draws_latents(story):
        particles = 1
    out = torch.empty(rows.shape[0], dtype=story.dtype)
    with evaluating(story, seed), progress_bar(progress, after=1.0) as bar:
        for part, batch in chunks(story, rows, bar, "log p(x)"):
            running = torch.full((len(batch),), -math.inf if weighted else 0.0, dtype=story.dtype)
            for draw in log_weights(story, batch, particles):
                running = torch.logaddexp(running, draw) if weighted else running + draw
            out[part] = running - math.log(particles) if weighted else running / particles
    return out


def log_weights(story: Story, batch: Tensor, particles: int) -> Iterator[Tensor]:
    """For each draw of the local latents (rows,) log p(x, latents) - log q(latents | x), the cluster summed out.

    Run it within `evaluating`: it draws from torch's random state.
    """
    joint = trace_joint(story.model, story.complete_guide, batch)
    only, together = _only_draw(joint), max(1, min(FEW_ROWS, chunk_size(story)) // len(batch))
    singly = particles if together == 1 or _draws_globals(joint) else min(particles, MANY_DRAWS)
    yield _log_weight(story, joint)
    for _ in range(singly - 1):
        if only is None:
            joint = trace_joint(story.model, story.complete_guide, batch)
        else:  # q(latent | x) is the same for every draw: the encoder need not run again
            again = replace(only, value=only.fn.sample())
            joint = model_joint(story.model, {**joint.guide, again.name: again}, batch)
        yield _log_weight(story, joint)
    for done in range(singly, particles, together):
        rows = batch.repeat(min(together, particles - done), 1)
        weights = _log_weight(story, trace_joint(story.model, story.complete_guide, rows))
        yield from weights.view(-1, len(batch))


def _log_weight(story: Story, joint: Joint) -> Tensor:
    weight = _finite_table(story, joint).logsumexp(1)
    return (weight if joint.scaled is None else joint.weigh(weight)).cpu()


def _only_draw(joint: Joint) -> Site | None:
    """The one site of the guide that depends on a draw, if it is a row's; None where there are others, or none."""
    sites = [site for name, site in joint.guide.items() if name != CLUSTER]
    if not sites or not (sites[-1].local and sites[-1].is_random):
        return None
    before = all(site.latent and not site.local and not site.is_random for site in sites[:-1])
    return sites[-1] if before else None  # what comes after a draw may depend on it


def _draws_globals(joint: Joint) -> bool:
    return any(site.is_random and not site.local and name != CLUSTER for name, site in joint.guide.items())


def _table(story: Story, batch: Tensor, latents: Any) -> Tensor:
    return _finite_table(story, trace_joint(story.model, story.complete_guide, batch, latents=latents))


def _finite_table(story: Story, joint: Joint) -> Tensor:
    require_finite(joint.table, joint, type(story).__name__)
    return joint.table


def draws_latents(story: Story, *, of_rows: bool = False) -> bool:
    """Whether the guide draws anything but the cluster, so that bounds need several particles.

    Args:
        story: the story.
        of_rows: leave global latents out.
    """
    with evaluating(story, 0):
        x = torch.zeros(2, story.n_features, dtype=story.dtype, device=story.device)
        guide = Pass().run(story.complete_guide, x)
    sites = [site for name, site in guide.items() if name != CLUSTER and (site.local or not of_rows)]
    return any(site.is_random for site in sites)
