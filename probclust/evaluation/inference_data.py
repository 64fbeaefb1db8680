"""`to_inference_data`: what a story says of rows, for ArviZ."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probclust.arguments import checked_seed, positive
from probclust.data.stored import Rows
from probclust.evaluation.matching import cluster_order
from probclust.evaluation.measure import why_no_density
from probclust.locking import alone
from probclust.story.chunks import chunks, evaluating
from probclust.story.columns import columns, placeholder
from probclust.story.finite import require_finite
from probclust.story.joint import Joint, Locals, Pass
from probclust.story.rows import admit, in_order
from probclust.story.scoring import log_likelihood, responsibilities
from probclust.story.sites import CLUSTER, Site, global_values, local_latents
from probclust.story.story import Story

if TYPE_CHECKING:
    from arviz import InferenceData

Arrays = dict[str, NDArray[Any]]
Globals = dict[str, Tensor]
"""One draw of the global latents, by site name."""


def to_inference_data(
    story: Story | Sequence[Story], x: Any, *, draws: int = 100, seed: int = 0, particles: int | None = None
) -> InferenceData:
    """Draws of a story's latents given rows, replicates of the rows and their log-likelihood, for ArviZ.

    Groups, each with dims chain (one, or one for each restart) and draw first, then row:

    - `posterior`: "cluster", drawn from the responsibilities; the local latents, drawn from the guide given that
      cluster; the global latents (no row dim), drawn from their guide, a point where the guide is one ("map").
    - `posterior_predictive`: a replicate of each observed site, drawn from the model given those latents.
    - `predictions`: the posterior predictive of each cluster: at each draw a new row from every cluster, dim
      component in place of row. Left out where the story conditions on x and cannot be sampled.
    - `log_likelihood`: log p(x_n | globals of that draw), in nats, one entry for each row whatever its sites, named
      as the observed site, or "x" where there are several. Cluster and local latents are summed out: exactly, or,
      where there are local latents beside the cluster, by the importance-weighted bound. Left out where the log
      joint is no density of these rows.
    - `sample_stats`: "entropy" of the responsibilities, in nats.
    - `observed_data`: each observed site's values.

    What `az.loo` makes of it: leaving out row n removes its own latents with it, so the terms are those of the row
    given what all rows share. (log p(x_n | z_n, cluster_n) would have the same limit, but as a harmonic mean, whose
    variance is infinite in practice.) Where the globals have a distribution (`global_guide="normal"`), leave-one-out
    is over it. Where all that is shared are points (parameters, MAP), all draws are equal: then elpd_loo is the
    plug-in log-likelihood `pc.log_likelihood(story, x, particles).sum()` and p_loo is 0, as no parameter is left
    uncertain. ArviZ gives Pareto k = inf and warns there, because equal weights have no tail to fit; the value is
    right all the same. It counts no optimism for rows that were fitted: pass held-out rows.

    Several stories are restarts of one, a chain each. Restarts number their clusters differently (label switching):
    each chain's clusters are renumbered to match the first story's by `cluster_order`, in "cluster", in `predictions`
    and in the first dim of global latents that have n_clusters entries there. No other variable is aligned: the axes
    of a latent z turn freely between restarts, and their R-hat means nothing. Nor are restarts draws of one
    posterior: they are local optima, here with equal weights. R-hat of "cluster" and of the globals says whether they
    agree, and `az.loo` scores their equal mixture; where their log-likelihoods differ much, its Pareto k warns.

    The result holds draws * rows * (features + latents + 3) numbers at once, for each chain; pass a part of the rows
    of a large data set. The computation is cut into chunks of rows.

    Args:
        story: any story, or a sequence of restarts of one: of the same class and sizes.
        x: (rows, n_features). The columns of a pandas frame name the features.
        draws: posterior draws per row and chain.
        seed: of all draws, the next one for each further chain; the caller's random state is left alone.
        particles: per row of the importance-weighted bound; None for 100, or for 10 under each draw of globals
            that have a distribution. Stories without local latents need none.

    Returns:
        arviz.InferenceData with coordinates row, feature (of sites that observe columns of x as they are) and
        component (the first dim of global latents of size n_clusters, and of `predictions`).

    Raises:
        ValueError: the stories are of different classes or sizes, or there is none.

    Examples:
        >>> import torch, probclust as pc
        >>> data = to_inference_data(pc.models.GaussianMixture(2, 3), torch.randn(5, 2), draws=4)
        >>> data.posterior["cluster"].shape, data.posterior_predictive["x"].shape
        ((1, 4, 5), (1, 4, 5, 2))
    """
    stories = [story] if isinstance(story, Story) else _restarts(story)
    table, draws = in_order(stories[0], x), positive("draws", draws)
    rows = admit(stories[0], table)
    seed = checked_seed(seed)
    chains = [_chain(one, rows, draws, seed + number, particles) for number, one in enumerate(stories)]
    reference = responsibilities(stories[0], rows)
    for one, chain in zip(stories[1:], chains[1:], strict=True):
        _renumber(chain, cluster_order(reference, responsibilities(one, rows)).numpy())
    groups = {group: dict(arrays) for group, arrays in chains[0].items()}
    for group, arrays in groups.items():
        if group != "observed_data":
            groups[group] = {name: np.concatenate([chain[group][name] for chain in chains]) for name in arrays}
    feature = np.array(table.names or range(stories[0].n_features))
    dims, coords = _local_dims(stories[0], groups, feature)
    for name, value in groups.pop("globals").items():
        dims[name] = [f"{name}_dim_{i}" for i in range(value.ndim - 2)]
        if value.shape[2:3] == (stories[0].n_clusters,):
            dims[name][0] = "component"
        groups["posterior"][name] = value
    for name in groups["log_likelihood"]:
        dims.setdefault(name, ["row"])
    _check_names(groups, dims)
    with alone, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # ArviZ announces its next version at import
        import arviz
    from probclust import __version__

    attrs = {"inference_library": "probclust", "inference_library_version": __version__}
    attrs["story"] = type(stories[0]).__qualname__
    predicted = {name: ["component", *dims[name][1:]] for name in groups["predictions"]}
    named: dict[str, Any] = {group: arrays for group, arrays in groups.items() if arrays}
    return arviz.from_dict(**named, dims=dims, coords=coords, pred_dims=predicted, pred_coords=coords, attrs=attrs)


def _check_names(groups: Mapping[str, Mapping[str, Any]], dims: Mapping[str, Sequence[str]]) -> None:
    """Variables may not have the name of a dimension, which ArviZ would drop."""
    taken = {"chain", "draw", "row", "feature", "component", *(dim for own in dims.values() for dim in own)}
    for group, arrays in groups.items():
        for name in arrays:
            if name in taken:
                raise ValueError(
                    f"site '{name}' has the name of a dimension of {group}, for which ArviZ would take it; give the "
                    "site another name"
                )


def _restarts(stories: Any) -> list[Story]:
    if not isinstance(stories, Sequence) or not stories or not all(isinstance(one, Story) for one in stories):
        raise TypeError(f"expected a probclust.Story or a sequence of them, got {type(stories).__name__}")
    kinds = {(type(one).__qualname__, one.n_features, one.n_clusters) for one in stories}
    if len(kinds) > 1:
        raise ValueError(f"restarts must be of one class, n_features and n_clusters, got {sorted(kinds)}")
    if len(names := {one.feature_names for one in stories} - {None}) > 1:
        raise ValueError(f"restarts must be fitted to the same columns in the same order, got {names}")
    return list(stories)


def _chain(story: Story, rows: Rows, draws: int, seed: int, particles: int | None) -> dict[str, Arrays]:
    """All groups of one story, with a chain dim of 1."""
    shared, names, spread = _draw_globals(story, rows, draws, seed)
    groups = _draw_rows(story, rows, shared, spread, seed)
    groups["predictions"] = _draw_clusters(story, shared, list(groups["observed_data"]), seed)
    groups["globals"] = {name: torch.stack([values[name] for values in shared]).cpu().numpy()[None] for name in names}
    groups["log_likelihood"] = {}
    if why_no_density(story, rows) is None:
        name = next(iter(groups["observed_data"])) if len(groups["observed_data"]) == 1 else "x"
        values = _log_likelihood(story, rows, shared, spread, seed, particles)
        groups["log_likelihood"][name] = values.double().numpy()[None]
    return groups


def _renumber(chain: dict[str, Arrays], order: NDArray[np.int64]) -> None:
    """Number a chain's clusters as another's, of which `order` says which they are, in place."""
    chain["posterior"][CLUSTER] = np.argsort(order)[chain["posterior"][CLUSTER]]
    by_component = {name for name, value in chain["globals"].items() if value.shape[2:3] == order.shape}
    for group, names in (("predictions", set(chain["predictions"])), ("globals", by_component)):
        chain[group] |= {name: chain[group][name].take(order, axis=2) for name in names}


def _draw_globals(story: Story, rows: Rows, draws: int, seed: int) -> tuple[list[Globals], list[str], bool]:
    """Draws of the global latents, the model's names, and whether they have a distribution, so that draws differ."""
    shared, spread = [], False
    with evaluating(story, seed):
        for _ in range(draws):
            sites = Pass("draw").run(story.complete_guide, rows[:2].to(story.device))
            values = global_values(sites)
            spread = spread or any(sites[name].is_random for name in values)
            shared.append({name: value.detach() for name, value in values.items()})
    return shared, [name for name in values if sites[name].role != "auxiliary"], spread


def _draw_rows(story: Story, rows: Rows, shared: Sequence[Globals], spread: bool, seed: int) -> dict[str, Arrays]:
    """The groups with a row dim, but for the log-likelihood; one chunk of rows and one draw at a time."""
    groups: dict[str, Arrays] = {
        name: {} for name in ("posterior", "posterior_predictive", "sample_stats", "observed_data")
    }

    def put(group: str, name: str, where: tuple[Any, ...], value: Tensor) -> None:
        array, found = value.cpu().numpy(), groups[group]
        if name not in found:
            lead = (1, len(shared), rows.shape[0]) if len(where) == 3 else (rows.shape[0],)
            found[name] = np.empty(lead + array.shape[1:], array.dtype)
        found[name][where] = array

    with evaluating(story, seed):
        for part, batch in chunks(story, rows):
            for draw, values in enumerate(shared):
                where = (0, draw, part)
                if draw == 0 or spread:  # under points, all draws have the same responsibilities
                    table = _joint(story, batch, values, "mean").table
                    law = torch.distributions.Categorical(logits=table)
                cluster = law.sample()
                put("posterior", CLUSTER, where, cluster)
                put("sample_stats", "entropy", where, law.entropy())
                guide = Pass(cluster, values).run(story.complete_guide, batch)
                for site in local_latents(guide).values():
                    put("posterior", site.name, where, site.value)
                for site in Pass(cluster, _values(guide)).run(story.model, batch).values():
                    if site.observed:
                        put("observed_data", site.name, (part,), site.value)
                        put("posterior_predictive", site.name, where, site.fn.sample())
    return groups


def _draw_clusters(story: Story, shared: Sequence[Globals], names: Sequence[str], seed: int) -> Arrays:
    """A new row from each cluster under each draw of the globals: (1, draws, clusters, ...) by observed site."""
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    clusters = torch.arange(story.n_clusters, device=story.device)
    with evaluating(story, seed):
        for values in shared:
            try:
                sites = Pass(clusters, values, uncondition=True).run(
                    story.generative, placeholder(story, len(clusters))
                )
            except (ValueError, NotImplementedError):  # it conditions on x, or is a score with no normaliser
                return {}
            for name in names:
                found[name].append(sites[name].value.cpu())
    return {name: torch.stack(values).numpy()[None] for name, values in found.items()}


def _log_likelihood(
    story: Story, rows: Rows, shared: Sequence[Globals], spread: bool, seed: int, particles: int | None
) -> Tensor:
    """(draws, rows) log p(x_n | globals), in nats; see `to_inference_data`."""
    if not spread:
        return log_likelihood(story, rows, 100 if particles is None else particles, seed).expand(len(shared), -1)
    particles = positive("particles", 10 if particles is None else particles)
    out = torch.empty(len(shared), rows.shape[0], dtype=story.dtype)
    with evaluating(story, seed):
        for part, batch in chunks(story, rows):
            for draw, values in enumerate(shared):
                joint = _joint(story, batch, values, "draw")
                terms = particles if any(site.is_random for site in local_latents(joint.guide).values()) else 1
                total = joint.table.logsumexp(1)
                for _ in range(terms - 1):
                    total = total.logaddexp(_joint(story, batch, values, "draw").table.logsumexp(1))
                out[draw, part] = total.cpu() - math.log(terms)
    return out


def _joint(story: Story, batch: Tensor, shared: Globals, latents: Locals) -> Joint:
    """One pass over guide and model under every cluster, the global latents given."""
    guide = Pass("enumerate", shared, latents).run(story.complete_guide, batch)
    model = Pass("enumerate", _values(guide)).run(story.model, batch)
    joint = Joint(model, guide, batch.shape[0], story.n_clusters)
    require_finite(joint.table, joint, type(story).__name__)
    return joint


def _values(guide: Mapping[str, Site]) -> dict[str, Tensor]:
    return {name: site.value for name, site in guide.items() if name != CLUSTER}


def _local_dims(
    story: Story, groups: Mapping[str, Arrays], feature: NDArray[Any]
) -> tuple[dict[str, list[str]], dict[str, NDArray[Any]]]:
    """The dims of each variable with a row dim, after chain and draw, and the coordinates."""
    latents, observed = groups["posterior"], groups["observed_data"]
    n_rows = latents[CLUSTER].shape[2]
    coords = {"row": np.arange(n_rows), "feature": feature, "component": np.arange(story.n_clusters)}
    events = {name: value.shape[3:] for name, value in latents.items()}
    events |= {name: value.shape[1:] for name, value in observed.items()}
    dims = {name: ["row", *(f"{name}_dim_{i}" for i in range(len(event)))] for name, event in events.items()}
    dims["entropy"] = ["row"]
    try:
        found = columns(story)
    except ValueError:  # a site observes a transformation of x
        return dims, coords
    for name, where in found.items():
        if events[name] == (len(where),):
            whole = torch.equal(where, torch.arange(story.n_features))
            dims[name][1] = "feature" if whole else f"{name}_feature"
            coords[dims[name][1]] = feature[where.numpy()]
    return dims, coords
