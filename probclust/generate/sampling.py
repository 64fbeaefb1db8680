"""Draws from a story, and what its latents say of given rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from probclust.arguments import positive, real
from probclust.distributions.tempered import Temperature
from probclust.generate.tempering import Tempered
from probclust.story.chunks import chunks, evaluating
from probclust.story.columns import draw_globals, is_variable, rows_of
from probclust.story.joint import Pass
from probclust.story.rows import require_contract
from probclust.story.scoring import log_joint
from probclust.story.sites import CLUSTER, Site
from probclust.story.story import Story

log = logging.getLogger(__name__)


class Samples(dict[str, Tensor]):
    """Site name to tensor with one entry per row, as `pyro.infer.Predictive` gives.

    Attributes:
        rejected: draws thrown away because their posterior fell short of `min_posterior`.
    """

    rejected: int = 0


def sample(
    story: Story,
    n: int,
    cluster: int | Sequence[int] | Tensor | None = None,
    seed: int | None = None,
    *,
    min_posterior: float | None = None,
    temperature: Temperature = 1.0,
) -> Samples:
    """Draw rows from the generative story.

    At a temperature T, each site is drawn, given those before it, from its density to the power 1 / T, normalised:
    the latents and the observed sites both, the cluster and the global latents not. Gaussians keep their mean and
    get T times their variance; towards T = 0 draws are `pc.modes`. `temperature={"z": 0.5}` tempers the latent alone.
    A story without latents has nothing but its likelihood to temper. `probclust.distributions` has the families.

    Args:
        story: any story that is not conditional, or has a `generative` of its own.
        n: rows to draw.
        cluster: None to draw the cluster too, k to draw from k only, or one cluster for each row.
        seed: of the draws; None uses and moves on the caller's random state.
        min_posterior: keep only draws whose responsibility for their own cluster is at least this. VaDE's paper shows
            its samples so, at 0.999. `rejected` of the result says how many were thrown away.
        temperature: T of all sites but "cluster", or by site name ("cluster" too), 1 for those not named.

    Returns:
        Site name to tensor: "cluster" (n,), the local latents, what `pyro.deterministic` computes of them and the
        observed sites, each with n rows. All rows are drawn under one draw of the global latents.

    Raises:
        ValueError: `cluster` is out of range or of the wrong length; the story conditions on x; `temperature` is not
            positive, names no site, or meets a distribution that has no known form at a temperature.
        RuntimeError: fewer than one draw in a thousand reaches `min_posterior`.
    """
    n = positive("n", n)
    require_contract(story)
    wanted = _clusters(story, n, cluster)
    with evaluating(story, seed):
        shared, tempering = draw_globals(story), Tempered(temperature)
        if min_posterior is None:
            draws = _generate(story, n, wanted, shared, tempering)
        else:
            draws = _accepted(story, n, wanted, min_posterior, shared, tempering)
    if isinstance(temperature, Mapping) and not set(temperature) <= set(draws):
        raise ValueError(f"temperature names {sorted(set(temperature) - set(draws))}; the sites are {sorted(draws)}")
    return draws


def _clusters(story: Story, n: int, cluster: Any) -> Tensor | None:
    if cluster is None:
        return None
    try:
        wanted = torch.as_tensor(cluster)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"cluster must be an integer, a sequence of integers or None, got {cluster!r}") from error
    if wanted.is_floating_point() or wanted.dtype == torch.bool:
        raise TypeError(f"cluster must be an integer, a sequence of integers or None, got {cluster!r}")
    wanted = wanted.to(torch.int64)
    if wanted.dim() > 1 or (wanted.dim() == 1 and len(wanted) != n):
        raise ValueError(f"cluster must be one integer or n={n} of them, got shape {tuple(wanted.shape)}")
    if ((wanted < 0) | (wanted >= story.n_clusters)).any():
        raise ValueError(f"cluster must lie in 0..{story.n_clusters - 1}, got {wanted.flatten().unique().tolist()}")
    return wanted.expand(n).to(story.device)


def _generate(story: Story, n: int, wanted: Tensor | None, shared: dict[str, Tensor], tempering: Tempered) -> Samples:
    """Rows under given global latents; those of them that nothing gives are drawn by the model."""
    parts: list[dict[str, Tensor]] = []
    empty = torch.zeros(n, story.n_features, dtype=story.dtype, device=story.device)
    for part, x in chunks(story, empty):
        with tempering:
            sites = Pass("draw" if wanted is None else wanted[part], shared, uncondition=True).run(story.generative, x)
        parts.append({name: _by_row(site, len(x)).cpu() for name, site in sites.items() if is_variable(site)})
    return Samples({name: torch.cat([p[name] for p in parts]) for name in parts[0]})


def _by_row(site: Site, n_rows: int) -> Tensor:
    """A site's value with a leading dim of the rows, which a deterministic one that is the same for all may lack."""
    value = site.value
    if site.role == "deterministic" and value.shape[:1] != (n_rows,):
        return value.expand(n_rows, *value.shape)
    return value


_ROUND = 256
"""Draws of a round where few rows are missing, so that a rare acceptance does not cost a pass for each draw."""


def _accepted(
    story: Story,
    n: int,
    wanted: Tensor | None,
    min_posterior: float,
    shared: dict[str, Tensor],
    tempering: Tempered,
) -> Samples:
    real("min_posterior", min_posterior, 0, 1, closed="low")
    kept: dict[str, list[Tensor]] = {}
    places: list[Tensor] = []
    missing, rejected = torch.arange(n), 0
    while len(missing):
        tries = max(1, _ROUND // len(missing))
        rows = missing.repeat(tries)
        clusters = None if wanted is None else wanted[rows.to(wanted.device)]
        draws = _generate(story, len(rows), clusters, shared, tempering)
        posterior = log_joint(story, rows_of(story, draws)).softmax(1)
        good = (posterior.gather(1, draws[CLUSTER][:, None]) >= min_posterior).view(tries, -1)
        found, first = good.any(0), good.int().argmax(0)
        rejected += int(torch.where(found, first, tries).sum())
        chosen = (first * len(missing) + torch.arange(len(missing)))[found]
        for name, value in draws.items():
            kept.setdefault(name, []).append(value[chosen])
        places.append(missing[found])
        missing = missing[~found]
        if rejected > 1000 * n and len(missing):
            raise RuntimeError(
                f"only {n - len(missing)} of {n - len(missing) + rejected} draws reach min_posterior={min_posterior}; "
                "lower it, or fit longer"
            )
    order = torch.cat(places).argsort()
    result = Samples({name: torch.cat(values)[order] for name, values in kept.items()})
    result.rejected = rejected
    log.info("min_posterior=%g: rejected %d of %d draws", min_posterior, rejected, n + rejected)
    return result
