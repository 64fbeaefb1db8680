"""Draws from a story, and what its latents say of given rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from probclust.arguments import positive, real
from probclust.joint import Pass, model_joint, trace_joint
from probclust.likelihoods.totals import given_totals
from probclust.missing import centre
from probclust.networks import of_cluster
from probclust.rows import admit, chunks, evaluating, require_contract
from probclust.scoring import log_joint
from probclust.sites import CLUSTER, Site, global_values, local_latents, mean_of
from probclust.story import Story
from probclust.tempering import Temperature, Tempered

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
    A story without latents has nothing but its likelihood to temper. `probclust.tempering` has the families.

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


def is_variable(site: Site) -> bool:
    """Whether a site is a variable of the row, and not a term added by `pyro.factor`."""
    return site.local and site.role != "factor"


def _by_row(site: Site, n_rows: int) -> Tensor:
    """A site's value with a leading dim of the rows, which a deterministic one that is the same for all may lack."""
    value = site.value
    if site.role == "deterministic" and value.shape[:1] != (n_rows,):
        return value.expand(n_rows, *value.shape)
    return value


def draw_globals(story: Story) -> dict[str, Tensor]:
    """One draw of the global latents from their guide, by name. Run it within `evaluating`."""
    guide = Pass("draw").run(story.complete_guide, placeholder(story, 2))
    return global_values(guide)


def placeholder(story: Story, n_rows: int) -> Tensor:
    """(n_rows, n_features) zeros, for programs that read no more of x than its number of rows."""
    return torch.zeros(n_rows, story.n_features, dtype=story.dtype, device=story.device)


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


def columns(story: Story) -> dict[str, Tensor]:
    """The columns of x that each observed site reads, found by showing the model rows of column numbers.

    One row counts up, the other down, so that no transformation of x passes for a choice of columns.

    Raises:
        ValueError: a site observes a transformation of x, so that its columns cannot be told.
    """
    numbers = torch.arange(story.n_features, dtype=story.dtype, device=story.device)
    with evaluating(story, 0):
        x = torch.stack([numbers, numbers.flip(0) + 2])
        guide = Pass("draw").run(story.complete_guide, x)
        values = {name: site.value for name, site in guide.items() if name != CLUSTER}
        sites = Pass("draw", values).run(story.model, x)
    found = {}
    for site in sites.values():
        if not site.observed:
            continue
        up, down = site.value.reshape(2, -1).to(x)
        where = up.nan_to_num().long().clamp(0, story.n_features - 1)
        if not (torch.equal(x[0, where], up) and torch.equal(x[1, where], down)):
            raise ValueError(
                f"site '{site.name}' observes a transformation of x, not columns of it; its columns are unknown"
            )
        found[site.name] = where.cpu()
    return found


def rows_of(story: Story, values: dict[str, Tensor]) -> Tensor:
    """(rows, n_features) from the observed sites' values, each in the columns it reads; 0 where none does."""
    found = columns(story)
    n_rows = len(next(iter(values.values())))
    x = torch.zeros(n_rows, story.n_features, dtype=story.dtype)
    for name, where in found.items():
        x[:, where] = values[name].reshape(n_rows, -1).to(x.dtype)
    return x


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


def observed_mean(site: Site) -> Tensor:
    """The mean of an observed site's distribution; of a categorical one, which has none, the mode."""
    if hasattr(getattr(site.fn, "base_dist", site.fn), "centre"):
        return centre(site.fn)
    mean = mean_of(site.fn, site.name)
    return site.fn.mode.to(mean.dtype) if torch.isnan(mean).all() else mean


def own_mean(site: Site) -> Tensor:
    """As `observed_mean`; of counts given their total, at the totals of the site's own value."""
    return observed_mean(replace(site, fn=given_totals(site.fn, site.value)))


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
