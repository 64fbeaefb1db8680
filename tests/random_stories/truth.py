"""What is right, by brute force in numpy and scipy: weighted points of the guide, its quadrature, for each row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from random_stories.families import FAMILIES
from random_stories.latents import KINDS
from random_stories.plan import Plan

Array = NDArray[np.float64]
Arrays = dict[str, Array]

NODES = {0: 1, 1: 64, 2: 32, 3: 14}
"""Nodes for each component of the latents, by the number of components."""


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


@dataclass(frozen=True)
class Truth:
    """The right answers.

    Attributes:
        at_mean: the latents at the guide's mean, one point.
        points: the quadrature.
        log_q: (N, K) of the guide's cluster; None where it has none.
    """

    at_mean: Points
    points: Points
    log_q: Array | None

    @property
    def table(self) -> Array:
        """(N, K) log joint at the guide's mean."""
        return self.at_mean.joint[0]

    @property
    def bounds(self) -> Array:
        """(N, K) expected log joint."""
        return (self.points.weights * self.points.joint).sum(0)

    def moments(self, values: Array) -> tuple[Array, Array]:
        """Mean and variance over the points of (P, N) values, which share their noise over the clusters."""
        weights = self.points.weights[:, :, 0]
        mean = (weights * values).sum(0)
        return mean, (weights * (values - mean) ** 2).sum(0)

    @property
    def elbo(self) -> tuple[Array, Array]:
        """(N,) expected logsumexp over the clusters, and its variance for one draw."""
        return self.moments(logsumexp(self.points.joint, -1))

    @property
    def evidence(self) -> tuple[Array, Array]:
        """(N,) log p(x), and the relative variance of one weight, exp of the logsumexp."""
        each = logsumexp(self.points.joint, -1)
        log_p = logsumexp(self.points.joint, 0, b=self.points.weights)
        total = logsumexp(log_p, -1)
        return total, self.moments(np.exp(each - total))[1]


def truth(plan: Plan, v: Arrays, x: Array) -> Truth:
    """The right answers for (N, features) rows, from the numbers `v` of a story."""
    components = sum(latent["width"] for latent in plan["latents"] if KINDS[latent["kind"]].drawn)
    log_q = log_softmax(np.tanh(x / 3) @ v["gate"], -1) if plan["gate"] else None
    return Truth(_points(plan, v, x, None), _points(plan, v, x, NODES[components]), log_q)


def feature(plan: Plan, i: int, z: Array) -> Array:
    """What decoders see of latent i."""
    return KINDS[plan["latents"][i]["kind"]].feature(z).mean(-1)


def _points(plan: Plan, v: Arrays, x: Array, nodes: int | None) -> Points:
    """The quadrature; the guide's mean where `nodes` is None."""
    n, k = len(x), plan["n_clusters"]
    weights, log_q, latents = np.ones((1, n, k)), np.zeros((1, n, k)), []
    for i, latent in enumerate(plan["latents"]):
        kind, width = KINDS[latent["kind"]], latent["width"]
        loc = (np.tanh(x / 3) @ v[f"latent{i}_weights"])[:, None] + v[f"latent{i}_offset"]
        loc = np.broadcast_to(loc, (len(weights), n, k, width))
        if latents:
            loc = loc + 0.3 * feature(plan, i - 1, latents[-1])[..., None]
        scale = np.exp(v[f"latent{i}_q_log_scale"])
        if nodes is None:
            z = kind.mean(loc, np.broadcast_to(scale, loc.shape))
        else:
            z, weights, (loc, log_q, *latents) = _spread(kind, loc, scale, nodes, weights, [log_q, *latents])
        log_q = log_q + kind.log_guide(z, loc, scale).sum(-1)
        latents.append(z)
    joint = log_prior(plan, v, latents, n) - log_q
    log_p, means = observed(plan, v, latents, x)
    return Points(latents, weights, joint + log_p, means)


def _spread(kind, loc, scale, nodes, weights, others):
    """Each point in as many as the product rule of a latent's components has; loc and the others repeated."""
    columns = [kind.rule(loc[..., j], scale[j], nodes) for j in range(loc.shape[-1])]
    index = np.stack(np.meshgrid(*[np.arange(len(c[0])) for c in columns], indexing="ij"), -1).reshape(-1, len(columns))
    z = np.stack([column[0][index[:, j]] for j, column in enumerate(columns)], -1)  # (m, P, N, K, width)
    own = np.prod(np.stack([column[1][index[:, j]] for j, column in enumerate(columns)], -1), -1)
    m = len(index)
    repeated = [np.broadcast_to(a, (m, *a.shape)).reshape(-1, *a.shape[1:]) for a in (loc, *others)]
    return z.reshape(-1, *z.shape[2:]), (own * weights).reshape(-1, *weights.shape[1:]), repeated


def log_prior(plan: Plan, v: Arrays, latents: list[Array], n: int) -> Array:
    """(P, N, K) log p(latents, cluster)."""
    total = np.broadcast_to(log_softmax(v["logits"]), (1, n, plan["n_clusters"]))
    for i, latent in enumerate(plan["latents"]):
        loc = v[f"latent{i}_loc"] + (0.5 * feature(plan, i - 1, latents[i - 1])[..., None] if i else 0.0)
        scale = np.exp(v[f"latent{i}_log_scale"])
        total = total + KINDS[latent["kind"]].log_prior(latents[i], loc, scale).sum(-1)
    return total


def observed(plan: Plan, v: Arrays, latents: list[Array], x: Array) -> tuple[Array, Array]:
    """(P, N, K) log p(x | latents, cluster), and (P, N, K, features) the mean of x."""
    n, k = len(x), plan["n_clusters"]
    total, means, start = np.zeros((1, n, k)), [], 0
    for i, site in enumerate(plan["sites"]):
        own = x[:, None, start : start + site["width"]]
        start += site["width"]
        eta, scale = location(plan, v, i, latents, n)
        family = FAMILIES[site["family"]]
        total = total + family.log_density(own, eta, scale).sum(-1)
        means.append(family.centre(eta, scale))
    return total, np.concatenate(np.broadcast_arrays(*means) if len(means) > 1 else means, -1)


def location(plan: Plan, v: Arrays, i: int, latents: list[Array], n: int) -> tuple[Array, Array]:
    """(P, N, K, width) locations and scales of the features of site i."""
    eta = np.broadcast_to(v[f"site{i}_eta"], (1, n, *v[f"site{i}_eta"].shape))
    for j, z in enumerate(latents):
        eta = eta + v[f"site{i}_loading"][j] * feature(plan, j, z)[..., None]
    return eta, np.broadcast_to(np.exp(v[f"site{i}_log_scale"]), eta.shape)


def rows(plan: Plan, v: Arrays, clusters: NDArray[np.int64], rng: np.random.Generator) -> tuple[Array, list[Array]]:
    """Rows drawn from the story given their clusters, and their latents."""
    latents: list[Array] = []
    for i, latent in enumerate(plan["latents"]):
        loc = v[f"latent{i}_loc"][clusters]
        if latents:
            loc = loc + 0.5 * feature(plan, i - 1, latents[-1])[:, None]
        scale = np.broadcast_to(np.exp(v[f"latent{i}_log_scale"]), loc.shape)
        latents.append(KINDS[latent["kind"]].draw(rng, loc, scale))
    columns = []
    for i, site in enumerate(plan["sites"]):
        eta = v[f"site{i}_eta"][clusters]
        for j, z in enumerate(latents):
            eta = eta + v[f"site{i}_loading"][j] * feature(plan, j, z)[:, None]
        scale = np.exp(v[f"site{i}_log_scale"])
        scale = scale[clusters] if len(scale) > 1 else np.broadcast_to(scale[0], eta.shape)
        columns.append(FAMILIES[site["family"]].draw(rng, eta, scale))
    return np.concatenate(columns, 1), latents
