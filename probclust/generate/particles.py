"""Weighted particles of rows with gaps: latents under every cluster, and draws of what is missing given them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from probclust.distributions.incomplete import incomplete
from probclust.errors import NonFiniteError
from probclust.story.joint import Joint, Pass
from probclust.story.sites import Site, local_latents
from probclust.story.story import Story

PRIOR_SHARE = 0.25
"""Of the particles that propose from the prior."""


class Particles:
    """Weighted particles of some rows: each with its latents under every cluster.

    Args:
        story: the story.
        x: (rows * particles, n_features), gaps filled; the particles of a row one after the other.
        gaps: (rows * particles, n_features) True where an entry is missing.
        shared: global latents.
        where: columns of each observed site.
        particles: of each row.
        takes_nan: let the guide see NaN instead of what fills the gaps.
    """

    def __init__(
        self,
        story: Story,
        x: Tensor,
        gaps: Tensor,
        shared: Mapping[str, Tensor],
        where: Mapping[str, Tensor],
        particles: int,
        takes_nan: bool,
    ) -> None:
        self.story, self.x, self.gaps, self.shared, self.where = story, x, gaps, shared, where
        self.latents, log_proposal = self._propose(torch.where(gaps, torch.nan, x) if takes_nan else x, particles)
        sites = Pass("enumerate", {**shared, **self.latents}).run(story.model, x)
        joint = Joint(sites, {}, len(x), story.n_clusters)
        table = x.new_zeros(())
        for site in sites.values():
            if site.name in where:
                log_prob = incomplete(site.fn).log_prob(self._with_gaps(site, gaps))
                table = table + scale_and_mask(log_prob, site.scale, site.mask)
            elif site.local and site.role != "deterministic":
                table = table + site.log_prob
        if joint.scale is not None:  # it counts after the sum over the clusters
            table = table / joint.scale
        table = (table - log_proposal).expand(story.n_clusters, len(x)).T
        self.log_weights = table.reshape(-1, particles, story.n_clusters)  # (rows, particles, clusters)

    def _propose(self, x: Tensor, particles: int) -> tuple[dict[str, Tensor], Tensor]:
        """Local latents from the guide, for the first of each row's particles from the prior; log r of them.

        Where the guide takes one at a point, all are the guide's: no draw of the prior has a density under it.
        """
        story, shared = self.story, dict(self.shared)
        sites = Pass("enumerate", shared).run(story.complete_guide, x)
        drawn = local_latents(sites, auxiliary=True).values()
        guide = local_latents(sites)
        values = {name: site.value for name, site in guide.items()}
        self.event_dims = {name: site.fn.event_dim for name, site in guide.items()}
        has_density = len(drawn) == len(guide) and all(site.is_random for site in drawn)
        n_prior = int(PRIOR_SHARE * particles) if has_density else 0
        if n_prior == 0:
            return values, sum((site.unscaled for site in drawn), x.new_zeros(()))
        prior = local_latents(Pass("enumerate", shared).run(story.model, self.x))
        from_prior = torch.arange(len(x), device=x.device) % particles < n_prior
        for name, site in guide.items():
            chosen = from_prior.reshape(-1, *[1] * site.fn.event_dim)
            values[name] = torch.where(chosen, prior[name].value, site.value)
        shared |= values
        log_q, log_p = (
            torch.stack(torch.broadcast_tensors(*(site.unscaled for site in local_latents(sites).values()))).sum(0)
            for sites in (
                Pass("enumerate", shared).run(story.complete_guide, x),
                Pass("enumerate", shared).run(story.model, self.x),
            )
        )
        share = n_prior / particles
        return values, torch.logaddexp(log_q + math.log1p(-share), log_p + math.log(share))

    def _with_gaps(self, site: Site, gaps: Tensor) -> Tensor:
        """An observed site's value with NaN in the gaps."""
        missing = gaps[:, self.where[site.name].to(gaps.device)].reshape(site.value.shape)
        value = site.value if site.value.is_floating_point() else site.value.to(self.x.dtype)
        return torch.where(missing, torch.nan, value)

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Draws in proportion to the weights: (rows, n, n_features) completed rows, and (rows, n) their clusters."""
        rows, particles, clusters = self.log_weights.shape
        chosen = torch.distributions.Categorical(logits=self.log_weights.flatten(1)).sample((n,)).T
        cluster = (chosen % clusters).flatten()
        index = (chosen // clusters + particles * torch.arange(rows, device=chosen.device)[:, None]).flatten()
        values = dict(self.shared)
        for name, value in self.latents.items():
            by_cluster = value.dim() > self.event_dims[name] + 1
            values[name] = value.expand(clusters, *value.shape[1:])[cluster, index] if by_cluster else value[index]
        x, gaps = self.x[index], self.gaps[index]
        sites = Pass(cluster, values).run(self.story.model, x)
        for name, columns_of_site in self.where.items():
            fn, value = sites[name].fn, self._with_gaps(sites[name], gaps)
            x[:, columns_of_site.to(x.device)] = incomplete(fn).impute(value).reshape(len(x), -1).to(x)
        return x.reshape(rows, n, -1), cluster.reshape(rows, n)

    def require_possible(self, first: int) -> None:
        """Raise NonFiniteError where all weights of a row are 0."""
        wrong = ~torch.isfinite(self.log_weights.logsumexp((1, 2)))
        if wrong.any():
            raise NonFiniteError(
                f"the known entries of row {first + int(wrong.nonzero()[0])} of x have probability 0 (or NaN) under "
                f"{type(self.story).__name__}; check their scale and their support"
            )


def takes_nan(story: Story, shared: Mapping[str, Tensor]) -> bool:
    """Whether the guide gives finite latents of rows with missing entries."""
    nothing = torch.full((2, story.n_features), torch.nan, dtype=story.dtype, device=story.device)
    try:
        sites = Pass("enumerate", dict(shared)).run(story.complete_guide, nothing)
    except (ValueError, RuntimeError):
        return False
    return all(torch.isfinite(site.value).all() for site in local_latents(sites).values())
