"""Rows of which a part is known: draws of the rest, from any story."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import StudentT, constraints
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from probclust.arguments import positive
from probclust.data.checks import as_rows
from probclust.data.named import arranged
from probclust.data.stored import resident
from probclust.distributions.observed import filled, observed
from probclust.errors import NonFiniteError
from probclust.generate.sampling import sample
from probclust.story.chunks import CHUNK_ELEMENTS, evaluating
from probclust.story.columns import columns, rows_of
from probclust.story.joint import Joint, Pass, trace_joint
from probclust.story.rows import admit, require_contract
from probclust.story.sites import CLUSTER, Site, global_values, local_latents
from probclust.story.story import Story

ROUNDS = 3
"""Rounds of proposals; each but the last serves to fill the gaps from which the next one's encoders propose."""
PRIOR_SHARE = 0.25
"""Of the particles that propose from the prior."""


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
        if not any(site.is_random and site.local for name, site in guide.items() if name != CLUSTER):
            particles = 1
        shared = global_values(guide)
        takes_nan = _takes_nan(story, shared)
        size = max(1, CHUNK_ELEMENTS // (story.n_clusters * max(story.n_features, 64) * particles))
        for start in range(0, len(rows), size):
            batch, known = (t[start : start + size].to(story.device) for t in (rows, seen))
            particle_rows, gaps = (t.repeat_interleave(particles, 0) for t in (batch, ~known))
            if particles > 1 and not takes_nan:
                fill = rows_of(story, sample(story, len(particle_rows))).to(batch)
                particle_rows = torch.where(gaps, fill, particle_rows)
                for _ in range(ROUNDS - 1):
                    cloud = _Cloud(story, particle_rows, gaps, shared, where, particles, takes_nan)
                    cloud.require_possible(start)
                    particle_rows = cloud.draw(particles)[0].flatten(0, 1)
            cloud = _Cloud(story, particle_rows, gaps, shared, where, particles, takes_nan)
            cloud.require_possible(start)
            parts.append(cloud.imputation(draws))
    fields = ("x", "cluster"), ("responsibilities", "log_likelihood", "effective_size")
    joined = {name: torch.cat([getattr(p, name) for p in parts], 1 - i) for i in (0, 1) for name in fields[i]}
    return Imputation(**joined)


class _Cloud:
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
        drawn = [site for name, site in sites.items() if site.local and site.latent and name != CLUSTER]
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

    def imputation(self, draws: int) -> Imputation:
        """`draws` of each row, and what the weights say."""
        x, cluster = self.draw(draws)
        per_particle = self.log_weights.logsumexp(2).softmax(1)
        return Imputation(
            x.transpose(0, 1).cpu(),
            cluster.T.cpu(),
            self.log_weights.logsumexp(1).softmax(1).cpu(),
            (self.log_weights.logsumexp((1, 2)) - math.log(self.log_weights.shape[1])).cpu(),
            1 / per_particle.square().sum(1).cpu(),
        )


def incomplete(fn: Any) -> Any:
    """A distribution whose `log_prob` takes NaN for what is missing, and whose `impute` draws that given the rest.

    Args:
        fn: the distribution of an observed site; `probclust.distributions` knows those with independent features and
            the multivariate normal, and others may bring both methods themselves.

    Raises:
        ValueError: nothing is known of its marginals.
    """
    if hasattr(fn, "incomplete"):
        return fn.incomplete()
    if fn.event_dim == 0 and not hasattr(fn, "impute"):
        return _Single(fn)
    try:
        return observed(fn)
    except ValueError:
        if fn.event_dim == 1 and fn.support in (constraints.real_vector, constraints.real):
            return _Integrated(fn)
        raise


class _Single:
    """A site of one number for each row."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.where(value.isnan(), 0.0, self.fn.log_prob(self.impute(value)))

    def impute(self, value: Tensor) -> Tensor:
        return filled(value, self.fn.sample().to(value.dtype))


class _Integrated:
    """A density of real rows whose marginals have no closed form: the missing entries are integrated by draws.

    They are proposed from a Student-t for each column, with the column's mean and deviation under the density.
    """

    n_draws = 200
    df = 5.0

    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def _weighted(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """(draws, ..., D) proposals, known entries as they are, and the logarithm of their weights."""
        missing = value.isnan()
        whole = self.fn.sample([self.n_draws])
        proposal = StudentT(self.df, whole.mean(0), whole.std(0))
        drawn = proposal.sample([self.n_draws])
        x = torch.where(missing, drawn, value.nan_to_num().expand_as(drawn))
        log_q = torch.where(missing, proposal.log_prob(drawn), 0.0).sum(-1)
        return x, self.fn.log_prob(x) - log_q

    def log_prob(self, value: Tensor) -> Tensor:
        return self._weighted(value)[1].logsumexp(0) - math.log(self.n_draws)

    def impute(self, value: Tensor) -> Tensor:
        x, log_weights = self._weighted(value)
        chosen = torch.distributions.Categorical(logits=log_weights.T).sample()
        return x[chosen, torch.arange(x.shape[1], device=x.device)]


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


def _takes_nan(story: Story, shared: Mapping[str, Tensor]) -> bool:
    """Whether the guide gives finite latents of rows with missing entries."""
    nothing = torch.full((2, story.n_features), torch.nan, dtype=story.dtype, device=story.device)
    try:
        sites = Pass("enumerate", dict(shared)).run(story.complete_guide, nothing)
    except (ValueError, RuntimeError):
        return False
    return all(torch.isfinite(site.value).all() for site in local_latents(sites).values())
