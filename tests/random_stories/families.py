"""Families of what a story observes: each as a torch distribution and, apart from that, as scipy has it.

Features have a location `eta`, any real number, and a positive `scale`; what they stand for is the family's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyro.distributions as dist
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, gammaln, log_softmax, logsumexp, softmax

from probclust import likelihoods

Array = NDArray[np.float64]
Kind = Literal["feature", "vector", "code"]


@dataclass(frozen=True)
class Family:
    """A family of what a site observes.

    Attributes:
        law: torch distribution, from tensors `eta` and `scale`, (..., width).
        log_density: from arrays x, eta and scale, (..., width); of each feature, or of "vector" and "code" of the row.
        draw: an array of the shape of x.
        centre: (..., columns) the mean of x; of codes the most probable.
        kind: "feature", independent features; "vector", a distribution of the whole row; "code", a single column of
            whole numbers below the width.
        discrete: whether values are whole numbers.
        spans: whether all real rows are possible.
        missing: whether `probclust.distributions.observed.observed` is to know its marginals.
        features: of a whole row with independent features, the family of each.
    """

    law: Callable[[Any, Any], Any]
    log_density: Callable[[Array, Array, Array], Array]
    draw: Callable[[np.random.Generator, Array, Array], Array]
    centre: Callable[[Array, Array], Array]
    kind: Kind = "feature"
    discrete: bool = False
    spans: bool = False
    missing: bool = True
    features: Family | None = None

    def columns(self, width: int) -> int:
        """How many columns of x a site of that width observes."""
        return 1 if self.kind == "code" else width


def _features(
    law: Callable[[Any, Any], Any],
    frozen: Callable[[Array, Array], Any],
    mean: Callable[[Array, Array], Array] | None = None,
    discrete: bool = False,
    **facts: Any,
) -> Family:
    """Independent features, from a torch distribution of each and scipy's frozen one."""

    def log_density(x: Array, eta: Array, scale: Array) -> Array:
        return frozen(eta, scale).logpmf(x) if discrete else frozen(eta, scale).logpdf(x)

    def draw(rng: np.random.Generator, eta: Array, scale: Array) -> Array:
        return np.asarray(frozen(eta, scale).rvs(size=eta.shape, random_state=rng), dtype=np.float64)

    def centre(eta: Array, scale: Array) -> Array:
        return mean(eta, scale) if mean else frozen(eta, scale).mean() + 0 * eta

    return Family(law, log_density, draw, centre, discrete=discrete, **facts)


DF = 5.0


def _beta(eta: Any, scale: Any) -> Any:
    return dist.Beta((2 + scale) * eta.sigmoid(), (2 + scale) * (-eta).sigmoid())


def normal_factor(eta: Any, scale: Any) -> Any:
    """Cholesky factors with the scales on the diagonal and a fifth below it, in numpy or torch."""
    width = eta.shape[-1]
    if isinstance(eta, torch.Tensor):
        below = eta.new_ones(width, width).tril(-1)
        return torch.diag_embed(scale.expand(eta.shape)) + 0.2 * below
    return np.broadcast_to(scale, eta.shape)[..., None] * np.eye(width) + 0.2 * np.tril(np.ones((width, width)), -1)


def _normal_log_density(x: Array, eta: Array, scale: Array) -> Array:
    factor = normal_factor(eta, scale)
    missed = np.broadcast_to(x - eta, factor.shape[:-1])
    white = np.linalg.solve(factor, missed[..., None])[..., 0]
    return -0.5 * (white**2).sum(-1) - np.log(np.abs(np.linalg.det(factor))) - 0.5 * eta.shape[-1] * np.log(2 * np.pi)


def _normal_draw(rng: np.random.Generator, eta: Array, scale: Array) -> Array:
    return eta + (normal_factor(eta, scale) @ rng.standard_normal(eta.shape)[..., None])[..., 0]


def _code_draw(rng: np.random.Generator, eta: Array, scale: Array) -> Array:
    return (eta + rng.gumbel(size=eta.shape)).argmax(-1)[..., None].astype(np.float64)


def _code_log_density(x: Array, eta: Array, scale: Array) -> Array:
    return (log_softmax(eta, -1) * (x == np.arange(eta.shape[-1]))).sum(-1)


def _hot_draw(rng: np.random.Generator, eta: Array, scale: Array) -> Array:
    return np.eye(eta.shape[-1])[_code_draw(rng, eta, scale)[..., 0].astype(int)]


def _dirichlet_log_density(x: Array, eta: Array, scale: Array) -> Array:
    a = 1 + np.exp(eta)
    return gammaln(a.sum(-1)) - gammaln(a).sum(-1) + ((a - 1) * np.log(x)).sum(-1)


def _dirichlet_draw(rng: np.random.Generator, eta: Array, scale: Array) -> Array:
    drawn = rng.gamma(1 + np.exp(eta))
    return drawn / drawn.sum(-1, keepdims=True)


def _whole(likelihood: Callable[[int], Any], frozen: Callable[[Array, Array], Any], discrete: bool = False) -> Family:
    """A likelihood of the library, which makes a distribution of the whole row."""
    each = _features(dist.Normal, frozen, discrete=discrete)
    return Family(
        lambda eta, scale: likelihood(eta.shape[-1]).to(eta.dtype)(eta),
        lambda x, eta, scale: each.log_density(x, eta, scale).sum(-1),
        each.draw, each.centre, "vector", discrete, spans=not discrete, features=each,
    )  # fmt: skip


GATE = 0.3
"""Share of the zeros that are none of the Poisson's."""


def _inflated_log_density(x: Array, eta: Array, scale: Array) -> Array:
    counts = np.log(1 - GATE) + stats.poisson.logpmf(x, np.exp(eta))
    return np.where(x == 0, np.logaddexp(np.log(GATE), counts), counts)


def _two_normals(eta: Any, scale: Any) -> Any:
    both = dist.Normal(torch.stack([eta - 2, eta + 2], -1), scale.unsqueeze(-1))
    return dist.MixtureSameFamily(dist.Categorical(torch.ones_like(both.loc)), both)


FAMILIES: dict[str, Family] = {
    "normal": _features(dist.Normal, stats.norm, spans=True),
    "laplace": _features(dist.Laplace, stats.laplace, spans=True),
    "student": _features(lambda eta, s: dist.StudentT(DF, eta, s), lambda eta, s: stats.t(DF, eta, s), spans=True),
    "log-normal": _features(dist.LogNormal, lambda eta, s: stats.lognorm(s, scale=np.exp(eta))),
    "gamma": _features(
        lambda eta, s: dist.Gamma(1 + s, (1 + s) * (-eta).exp()),
        lambda eta, s: stats.gamma(1 + s, scale=np.exp(eta) / (1 + s)),
    ),
    "exponential": _features(
        lambda eta, s: dist.Exponential(eta.exp()), lambda eta, s: stats.expon(scale=np.exp(-eta))
    ),
    "beta": _features(_beta, lambda eta, s: stats.beta((2 + s) * expit(eta), (2 + s) * expit(-eta))),
    "von Mises": _features(dist.VonMises, lambda eta, s: stats.vonmises(s, loc=eta), mean=lambda eta, s: eta),
    "poisson": _features(
        lambda eta, s: dist.Poisson(eta.exp()), lambda eta, s: stats.poisson(np.exp(eta)), discrete=True
    ),
    "bernoulli": _features(
        lambda eta, s: dist.Bernoulli(logits=eta), lambda eta, s: stats.bernoulli(expit(eta)), discrete=True
    ),
    "negative binomial": _features(
        lambda eta, s: dist.NegativeBinomial(1 + s, logits=eta),
        lambda eta, s: stats.nbinom(1 + s, expit(-eta)),
        discrete=True,
    ),
    "binomial": _features(
        lambda eta, s: dist.Binomial(4, logits=eta), lambda eta, s: stats.binom(4, expit(eta)), discrete=True
    ),
    "geometric": _features(
        lambda eta, s: dist.Geometric(logits=eta), lambda eta, s: stats.geom(expit(eta), loc=-1), discrete=True
    ),
    "zero-inflated poisson": Family(
        lambda eta, s: dist.ZeroInflatedPoisson(eta.exp(), gate=torch.full_like(eta, GATE)),
        _inflated_log_density,
        lambda rng, eta, s: rng.poisson(np.exp(eta)) * (rng.random(eta.shape) > GATE).astype(float),
        lambda eta, s: (1 - GATE) * np.exp(eta),
        discrete=True,
    ),
    "two normals": Family(
        _two_normals,
        lambda x, eta, s: logsumexp([stats.norm.logpdf(x, eta + b, s) for b in (-2, 2)], 0) - np.log(2),
        lambda rng, eta, s: eta + rng.choice([-2, 2], eta.shape) + s * rng.standard_normal(eta.shape),
        lambda eta, s: eta,
        spans=True,
    ),
    "multivariate normal": Family(
        lambda eta, s: dist.MultivariateNormal(eta, scale_tril=normal_factor(eta, s)),
        _normal_log_density, _normal_draw, lambda eta, s: eta, "vector", spans=True,
    ),
    "categorical": Family(
        lambda eta, s: dist.Categorical(logits=eta), _code_log_density, _code_draw,
        lambda eta, s: eta.argmax(-1)[..., None].astype(float), "code", discrete=True, missing=False,
    ),
    "one-hot": Family(
        lambda eta, s: dist.OneHotCategorical(logits=eta),
        lambda x, eta, s: (log_softmax(eta, -1) * x).sum(-1), _hot_draw, lambda eta, s: softmax(eta, -1), "vector",
        discrete=True, missing=False,
    ),
    "dirichlet": Family(
        lambda eta, s: dist.Dirichlet(1 + eta.exp()), _dirichlet_log_density, _dirichlet_draw,
        lambda eta, s: (1 + np.exp(eta)) / (1 + np.exp(eta)).sum(-1, keepdims=True), "vector", missing=False,
    ),
    "library gaussian": _whole(lambda d: likelihoods.Gaussian(d, scale=0.7), lambda eta, s: stats.norm(eta, 0.7)),
    "library student": _whole(
        lambda d: likelihoods.StudentT(d, degrees=DF, scale=0.7), lambda eta, s: stats.t(DF, eta, 0.7)
    ),
    "library poisson": _whole(likelihoods.Poisson, lambda eta, s: stats.poisson(np.exp(eta)), True),
    "library bernoulli": _whole(likelihoods.Bernoulli, lambda eta, s: stats.bernoulli(expit(eta)), True),
}  # fmt: skip
