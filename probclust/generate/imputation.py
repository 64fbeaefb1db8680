"""Rows of which a part is known: draws of the rest, from any story."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probclust.arguments import positive
from probclust.data.checks import as_rows
from probclust.data.named import arranged
from probclust.data.stored import resident
from probclust.distributions.incomplete import incomplete
from probclust.generate.particles import Particles, takes_nan
from probclust.generate.sampling import sample
from probclust.story.chunks import CHUNK_ELEMENTS, evaluating
from probclust.story.columns import columns, rows_of
from probclust.story.joint import Pass, trace_joint
from probclust.story.rows import admit, require_contract
from probclust.story.sites import global_values, local_latents
from probclust.story.story import Story

ROUNDS = 3
"""Rounds of proposals; each but the last serves to fill the gaps from which the next one's encoders propose."""


@dataclass(frozen=True)
class Imputation:
    """Draws of rows given their known entries.

    Attributes:
        x: (draws, rows, n_features), known entries as they were.
        cluster: (draws, rows) index of the cluster that each was drawn from.
        responsibilities: (rows, clusters), p(cluster | known entries).
        log_likelihood: (rows,) importance-weighted bound on log p(known entries), in nats.
        effective_size: (rows,) effective number of particles; below about 10, ask for more particles.
    """

    x: Tensor
    cluster: Tensor
    responsibilities: Tensor
    log_likelihood: Tensor
    effective_size: Tensor

    @property
    def mean(self) -> Tensor:
        """(rows, n_features) mean of the draws: the imputation of least squared error."""
        return self.x.mean(0)

    @property
    def std(self) -> Tensor:
        """(rows, n_features) standard deviation of the draws, 0 where the entry is known."""
        return self.x.std(0)


def impute(story: Story, x: Any, draws: int = 100, *, particles: int = 100, seed: int = 0) -> Imputation:
    """Draw the missing part of rows given the rest, by importance sampling from the story.

    For each row, S particles propose the local latents under every cluster; particle s and cluster k weigh

        w_sk = p(known entries, z_sk, k) / r(z_sk | k),    r = 3/4 q(z | x_s, k) + 1/4 p(z | k)

    in proportion to which they are drawn, and then the missing entries from p(missing | z, k, known). A quarter of
    the particles come from the prior, so that no weight is unbounded where the guide is too narrow; none where the
    guide takes a latent at a point. With a growing number of particles the draws are from p(missing | known),
    whatever the guide. Without local latents that is exact. Of counts given their total, the total of a row with
    gaps is drawn as well, given its known entries. A guide that takes NaN proposes from the known entries; another
    sees rows x_s whose gaps are filled by draws of the story, then twice anew by draws given the known entries, so
    that the particles propose from the rows that could be.

    Args:
        story: any story that does not condition on x, and whose sites observe columns of x as they are.
        x: (rows, n_features), NaN (or pandas' NA) for what is to be drawn; missing at random.
        draws: of each row.
        particles: S.
        seed: of all draws; the caller's random state is left alone. Global latents are one draw of their guide.

    Returns:
        Imputation.

    Raises:
        ValueError: the story conditions on x, or an observed site's distribution has no known conditional (of a
            direction, say). Densities over real rows without a closed one are integrated by 200 draws.
        NonFiniteError: the known entries of a row have probability 0.

    References:
        P.-A. Mattei, J. Frellsen, "MIWAE: deep generative modelling and imputation of incomplete data sets", 2019,
        section 3; O. Cappé and others, "Population Monte Carlo", 2004; A. Owen, Y. Zhou, "Safe and effective importance
        sampling", 2000.

    Examples:
        >>> import torch, probclust as pc
        >>> story = pc.models.GaussianMixture(3, n_clusters=2)
        >>> impute(story, torch.tensor([[0.5, torch.nan, 1.0]]), draws=20).x.shape
        torch.Size([20, 1, 3])
    """
    draws, particles = positive("draws", draws), positive("particles", particles)
    rows, seen, where = _admit_known(story, x, seed)
    parts: list[Imputation] = []
    with evaluating(story, seed):
        guide = Pass("enumerate").run(story.complete_guide, rows[:2].to(story.device))
        if not any(site.is_random for site in local_latents(guide, auxiliary=True).values()):
            particles = 1
        shared = global_values(guide)
        sees_gaps = takes_nan(story, shared)
        size = max(1, CHUNK_ELEMENTS // (story.n_clusters * max(story.n_features, 64) * particles))
        for start in range(0, len(rows), size):
            batch, known = (t[start : start + size].to(story.device) for t in (rows, seen))
            particle_rows, gaps = (t.repeat_interleave(particles, 0) for t in (batch, ~known))
            if particles > 1 and not sees_gaps:
                fill = rows_of(story, sample(story, len(particle_rows))).to(batch)
                particle_rows = torch.where(gaps, fill, particle_rows)
                for _ in range(ROUNDS - 1):
                    cloud = Particles(story, particle_rows, gaps, shared, where, particles, sees_gaps)
                    cloud.require_possible(start)
                    particle_rows = cloud.draw(particles)[0].flatten(0, 1)
            cloud = Particles(story, particle_rows, gaps, shared, where, particles, sees_gaps)
            cloud.require_possible(start)
            parts.append(_imputation(cloud, draws))
    fields = ("x", "cluster"), ("responsibilities", "log_likelihood", "effective_size")
    joined = {name: torch.cat([getattr(p, name) for p in parts], 1 - i) for i in (0, 1) for name in fields[i]}
    return Imputation(**joined)


def _imputation(cloud: Particles, draws: int) -> Imputation:
    """`draws` of each row, and what the weights say."""
    x, cluster = cloud.draw(draws)
    per_particle = cloud.log_weights.logsumexp(2).softmax(1)
    return Imputation(
        x.transpose(0, 1).cpu(),
        cluster.T.cpu(),
        cloud.log_weights.logsumexp(1).softmax(1).cpu(),
        (cloud.log_weights.logsumexp((1, 2)) - math.log(cloud.log_weights.shape[1])).cpu(),
        1 / per_particle.square().sum(1).cpu(),
    )


def _admit_known(story: Story, x: Any, seed: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(rows, n_features) x with draws of the story in its gaps, the mask of what is known, the sites' columns."""
    require_contract(story)
    if story.conditional:
        raise ValueError(
            f"{type(story).__name__} conditions on x (conditional = True), so it has no distribution of one part of "
            "a row given another"
        )
    table = arranged(x, story.feature_names, missing=True)
    rows = as_rows(table, n_features=story.n_features, dtype=story.dtype, missing=True)
    seen = ~rows.isnan()
    where = columns(story)
    times = torch.cat(list(where.values())).bincount(minlength=story.n_features)
    wrong = ~seen.all(0) & (times != 1)
    if wrong.any():
        column = int(wrong.nonzero()[0])
        raise ValueError(
            f"column {column} of x has missing entries, and {int(times[column])} sites of {type(story).__name__} "
            "observe it; expected 1"
        )
    with evaluating(story, seed):
        fill = rows_of(story, sample(story, len(rows)))
        sites = trace_joint(story.model, story.complete_guide, fill[:2].to(story.device)).model
        for name, own in where.items():
            if not seen[:, own].all():
                incomplete(sites[name].fn)  # known before the rows are looked at
    return resident(admit(story, torch.where(seen, rows, fill))), seen, where
