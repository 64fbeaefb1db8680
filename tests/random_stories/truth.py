"""What is right, by brute force in numpy and scipy: weighted points of the guide, its quadrature, for each row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from random_stories.families import FAMILIES, normal_factor
from random_stories.latents import KINDS, Kind
from random_stories.plan import Plan, own_columns, scales
from random_stories.shared import PRIORS, automatic_draw, automatic_laws, own_draw

Array = NDArray[np.float64]
Arrays = dict[str, Array]

NODES = {0: 1, 1: 48, 2: 20, 3: 10}
"""Nodes for each component of the latents, by the number of components."""
FEW_NODES = {0: 1, 1: 16, 2: 8, 3: 6}
"""Likewise, under each draw of global latents."""
GLOBAL_DRAWS = 16
"""Draws of global latents that have a distribution; their part of the truth is a Monte Carlo estimate."""


@dataclass(frozen=True)
class Points:
    """Values of the latents for P points, N rows and K clusters.

    Attributes:
        latents: (P, N, K, width) each.
        weights: (P, N, K), summing to 1 over the points.
        joint: (P, N, K) log p(x, latents, cluster) - log q(latents | x, cluster), in nats.
        means: (P, N, K, features) the mean of x given latents and cluster.
    """

    latents: list[Array]
    weights: Array
    joint: Array
    means: Array

    def average(self, values: Array) -> Array:
        """Over the points, of values that share their noise over the clusters, (P, N), or not, (P, N, K)."""
        weights = self.weights[:, :, 0] if values.ndim == 2 else self.weights
        return (weights * values).sum(0)


@dataclass(frozen=True)
class Expectation:
    """What the average of draws should be.

    Attributes:
        mean: of one draw.
        within: variance of a draw given the global latents, which each pass draws once for all rows.
        between: variance of its mean over the global latents.
    """

    mean: Array
    within: Array
    between: Array

    def error(self, passes: int, copies: int) -> Array:
        """Standard error of the average over passes and copies of a row, beside that of the mean itself."""
        return np.sqrt(self.between / passes + self.within / (passes * copies) + self.between / GLOBAL_DRAWS)


class Truth:
    """The right answers for (N, features) rows, from the numbers of a story as they stand now.

    Attributes:
        log_q: (N, K) of the guide's cluster; None where it has none.
    """

    def __init__(self, story: Any, x: Array) -> None:
        self.plan: Plan = story.plan
        self.v, self.x, self.laws = story.arrays(), x, automatic_laws(story)
        self.log_q = log_gate(self.plan, self.v, x) if self.plan["gate"] else None

    @cached_property
    def at_mean(self) -> Points:
        """All latents at the guide's mean, one point."""
        means, _ = global_draw(self.plan, self.v, self.laws, None)
        return _points(self.plan, self.v | means, self.x, None)

    @property
    def table(self) -> Array:
        """(N, K) log joint at the guide's mean."""
        return self.at_mean.joint[0]

    @cached_property
    def draws(self) -> list[Points]:
        """The quadrature under each draw of the global latents; one where they are points."""
        return self._draws[0]

    @property
    def log_globals(self) -> Array:
        """Under each, log p - log q of the global latents, and what factors outside the plate add, in nats."""
        return self._draws[1]

    @cached_property
    def _draws(self) -> tuple[list[Points], Array]:
        components = sum(latent["width"] for latent in self.plan["latents"] if KINDS[latent["kind"]].drawn)
        spread = any(is_spread(self.plan, latent) for latent in self.plan["globals"])
        nodes = FEW_NODES[components] if spread else NODES[components]
        rng, draws, log_globals = np.random.default_rng(0), [], []
        penalty = (self.v["factor"] ** 2).sum() if "once" in self.plan["factors"] else 0.0
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for _ in range(GLOBAL_DRAWS if spread else 1):
                values, log_global = global_draw(self.plan, self.v, self.laws, rng)
                draws.append(_points(self.plan, self.v | values, self.x, nodes))
                log_globals.append(log_global - penalty)
        return draws, np.array(log_globals)

    def expectation(self, of: Callable[[Points], Array]) -> Expectation:
        """Of what one pass gives: values of each point."""
        values = [of(points) for points in self.draws]
        means = np.stack([points.average(value) for points, value in zip(self.draws, values, strict=True)])
        squares = [
            points.average((value - mean) ** 2) for points, value, mean in zip(self.draws, values, means, strict=True)
        ]
        between = means.var(0, ddof=1) if len(means) > 1 else np.zeros_like(means[0])
        return Expectation(means.mean(0), np.mean(squares, 0), between)

    @property
    def evidence(self) -> Array:
        """(N,) log p(x)."""
        each = [logsumexp(logsumexp(p.joint, 0, b=p.weights), -1) for p in self.draws]
        return logsumexp(each, 0) - np.log(len(each))


def is_spread(plan: Plan, latent: dict[str, Any]) -> bool:
    """Whether the guide has a distribution for a global latent, not a point."""
    return latent["guide"] == "draw" or (latent["guide"] == "auto" and plan["global_guide"] != "map")


def global_draw(plan: Plan, v: Arrays, laws: dict[str, Any], rng: np.random.Generator | None) -> tuple[Arrays, float]:
    """A draw of the global latents from their guide by use, their mean where there is no `rng`; log p - log q."""
    found, total = {}, 0.0
    for latent in plan["globals"]:
        if latent["guide"] == "auto":
            value, log_q = automatic_draw(laws[latent["name"]], rng is not None)
        else:
            value, log_q = own_draw(latent, v[f"{latent['use']}_guide"], rng)
        found[latent["use"]] = value
        total += PRIORS[latent["family"]].log_density(value) - log_q
    return found, total


def encode(plan: Plan, v: Arrays, x: Array) -> Array:
    """What the guide's weights see of rows."""
    seen = np.nan_to_num(x)
    if plan["encoder"] == "batch norm":
        seen = (seen - v["norm_running_mean"]) / np.sqrt(v["norm_running_var"] + 1e-5)
        seen = seen * v["norm_weight"] + v["norm_bias"]
    return np.tanh(seen / 3)


def feature(plan: Plan, i: int, z: Array) -> Array:
    """What decoders see of latent i."""
    return KINDS[plan["latents"][i]["kind"]].feature(z).mean(-1)


def without_last(logits: Array) -> Array:
    """The last cluster made impossible."""
    return np.where(np.arange(logits.shape[-1]) == logits.shape[-1] - 1, -np.inf, logits)


def log_gate(plan: Plan, v: Arrays, x: Array) -> Array:
    """(N, K) log q(cluster | x) of the guide."""
    logits = encode(plan, v, x) @ v["gate"]
    return log_softmax(without_last(logits) if plan["zero"] else logits, -1)


def log_weights(plan: Plan, v: Arrays) -> Array:
    """(K,) log p(cluster)."""
    logits = v["logits"]
    if "weights" in v:
        weights = v["weights"]
        logits = np.log(np.array([weights, 1 - weights]) if weights.ndim == 0 else weights)
    return log_softmax(without_last(logits) if plan["zero"] == "both" else logits)


def _points(plan: Plan, v: Arrays, x: Array, nodes: int | None) -> Points:
    """The quadrature; the guide's mean where `nodes` is None."""
    n, k = len(x), plan["n_clusters"]
    weights, log_q, latents = np.ones((1, n, k)), np.zeros((1, n, k)), []
    for i, latent in enumerate(plan["latents"]):
        kind, width = KINDS[latent["kind"]], latent["width"]
        loc = (encode(plan, v, x) @ v[f"latent{i}_weights"])[:, None] + v[f"latent{i}_offset"]
        loc = np.broadcast_to(loc, (len(weights), n, k, width))
        if latent["parent"]:
            loc = loc + 0.3 * feature(plan, i - 1, latents[-1])[..., None]
        scale = v[f"latent{i}_guide_scale"]
        if nodes is None:
            z = kind.mean(loc, np.broadcast_to(scale, loc.shape))
        else:
            z, weights, (loc, log_q, *latents) = _spread(kind, loc, scale, nodes, weights, [log_q, *latents])
        log_q = log_q + latent["scale"] * kind.log_guide(z, loc, scale).sum(-1)
        latents.append(z)
    log_p, means = observed(plan, v, latents, x)
    return Points(latents, weights, scales(plan)[0] * (log_prior(plan, v, latents, n) - log_q + log_p), means)


def _spread(
    kind: Kind, loc: Array, scale: Array, nodes: int, weights: Array, others: list[Array]
) -> tuple[Array, Array, list[Array]]:
    """Each point in as many as the product rule of a latent's components has; loc and the others repeated."""
    rules = [kind.rule(loc[..., j], scale[j], nodes) for j in range(loc.shape[-1])]
    index = np.stack(np.meshgrid(*[np.arange(len(rule[0])) for rule in rules], indexing="ij"), -1)
    index = index.reshape(-1, len(rules))
    z = np.stack([rule[0][index[:, j]] for j, rule in enumerate(rules)], -1)  # (m, P, N, K, width)
    own = np.prod([rule[1][index[:, j]] for j, rule in enumerate(rules)], 0)
    repeated = [np.broadcast_to(a, (len(index), *a.shape)).reshape(-1, *a.shape[1:]) for a in (loc, *others)]
    return z.reshape(-1, *z.shape[2:]), (own * weights).reshape(-1, *weights.shape[1:]), repeated


def log_prior(plan: Plan, v: Arrays, latents: list[Array], n: int) -> Array:
    """(P, N, K) log p(latents, cluster), factors in the plate included."""
    total = np.broadcast_to(log_weights(plan, v), (1, n, plan["n_clusters"]))
    for i, latent in enumerate(plan["latents"]):
        loc = v[f"latent{i}_loc"] + (0.5 * feature(plan, i - 1, latents[i - 1])[..., None] if latent["parent"] else 0)
        each = KINDS[latent["kind"]].log_prior(latents[i], loc, v[f"latent{i}_scale"]).sum(-1)
        total = total + latent["scale"] * each
    if "cluster" in plan["factors"]:
        total = total + 0.5 * v["factor"]
    if "rows" in plan["factors"]:
        total = total + 0.3 * sum((feature(plan, i, z) for i, z in enumerate(latents)), v["factor"][0])
    return total


def observed(plan: Plan, v: Arrays, latents: list[Array], x: Array) -> tuple[Array, Array]:
    """(P, N, K) log p(x | latents, cluster), and (P, N, K, features) the mean of x."""
    n, k = len(x), plan["n_clusters"]
    total, means = np.zeros((1, n, k)), []
    for i, columns in enumerate(own_columns(plan)):
        own, site = x[:, None, columns], plan["sites"][i]
        eta, scale = location(plan, v, i, latents, n)
        family = FAMILIES[site["family"]]
        means.append(family.centre(eta, scale))
        if site["mask"] != "off":
            total = total + site["scale"] * log_observed(site, own, eta, scale)
    shape = np.broadcast_shapes(*(mean.shape[:-1] for mean in means))
    return total, np.concatenate([np.broadcast_to(mean, (*shape, mean.shape[-1])) for mean in means], -1)


def log_observed(site: dict[str, Any], x: Array, eta: Array, scale: Array) -> Array:
    """(P, N, K) log density of what is seen of (N, 1, columns) rows."""
    family, missing = FAMILIES[site["family"]], np.isnan(x)
    if site["family"] == "multivariate normal" and site["mask"] == "observed":
        return _marginal_normal(x, eta, scale)
    whole = np.where(missing, 1.0, x) if family.discrete else np.where(missing, 0.5, x)
    each = family.log_density(whole, eta, scale)
    if family.kind != "feature" and site["mask"] == "observed":  # of the library, whose features are independent
        return np.where(missing, 0.0, family.features.log_density(whole, eta, scale)).sum(-1)
    if family.kind == "feature":
        seen = ~missing.any(-1, keepdims=True) if site["mask"] == "rows" else ~missing
        return np.where(seen, each, 0.0).sum(-1)
    return np.where(missing.any(-1), 0.0, each)


def _marginal_normal(x: Array, eta: Array, scale: Array) -> Array:
    """Row by row, of the entries that are there."""
    total = np.zeros(eta.shape[:-1])
    for row, seen in enumerate(~np.isnan(x[:, 0])):
        factor = normal_factor(eta[:, row], scale[:, row])
        covariance = (factor @ np.swapaxes(factor, -1, -2))[..., seen, :][..., seen]
        missed = x[row, 0, seen] - eta[:, row][..., seen]
        solved = np.linalg.solve(covariance, missed[..., None])[..., 0]
        log_det = np.linalg.slogdet(covariance)[1]
        total[:, row] = -0.5 * ((missed * solved).sum(-1) + log_det + seen.sum() * np.log(2 * np.pi))
    return total


def location(plan: Plan, v: Arrays, i: int, latents: list[Array], n: int) -> tuple[Array, Array]:
    """(P, N, K, width) locations and scales of the features of site i."""
    eta, scale = v[f"site{i}_eta"], v[f"site{i}_scale"]
    if i == 0:
        eta, scale = eta + v.get("shift", 0.0), scale * v.get("spread", 1.0)
    eta = np.broadcast_to(eta, (1, n, *eta.shape))
    for weights, (j, z) in zip(v[f"site{i}_loading"], enumerate(latents), strict=True):
        eta = eta + weights * feature(plan, j, z)[..., None]
    return eta, np.broadcast_to(scale, eta.shape)
