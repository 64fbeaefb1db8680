"""Families of what a story observes: each as a torch distribution and, apart from that, as scipy has it.

Features have a location `eta`, any real number, and a positive `scale`; what they stand for is the family's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.distributions as dist
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """A family of single features.

    Attributes:
        law: torch distribution of each feature, from tensors `eta` and `scale`.
        frozen: the same as scipy's frozen distribution, from arrays.
        mean: of x, where it is not that of scipy's.
        discrete: whether values are whole numbers.
    """

    law: Callable[[Any, Any], Any]
    frozen: Callable[[Array, Array], Any]
    mean: Callable[[Array, Array], Array] | None = None
    discrete: bool = False

    def log_density(self, x: Array, eta: Array, scale: Array) -> Array:
        """Elementwise, in nats."""
        frozen = self.frozen(eta, scale)
        return frozen.logpmf(x) if self.discrete else frozen.logpdf(x)

    def draw(self, rng: np.random.Generator, eta: Array, scale: Array) -> Array:
        """One value for each location."""
        return np.asarray(self.frozen(eta, scale).rvs(eta.shape, random_state=rng), dtype=np.float64)

    def centre(self, eta: Array, scale: Array) -> Array:
        """The mean of each feature."""
        return self.mean(eta, scale) if self.mean else self.frozen(eta, scale).mean() + 0 * eta


DF = 5.0


def _beta_law(eta: Any, scale: Any) -> Any:
    total = 2 + scale
    return dist.Beta(total * eta.sigmoid(), total * (-eta).sigmoid())


FAMILIES: dict[str, Family] = {
    "normal": Family(dist.Normal, stats.norm),
    "laplace": Family(dist.Laplace, stats.laplace),
    "student": Family(lambda eta, s: dist.StudentT(DF, eta, s), lambda eta, s: stats.t(DF, eta, s)),
    "lognormal": Family(dist.LogNormal, lambda eta, s: stats.lognorm(s, scale=np.exp(eta))),
    "gamma": Family(
        lambda eta, s: dist.Gamma(1 + s, (1 + s) * (-eta).exp()),
        lambda eta, s: stats.gamma(1 + s, scale=np.exp(eta) / (1 + s)),
    ),
    "beta": Family(_beta_law, lambda eta, s: stats.beta((2 + s) * expit(eta), (2 + s) * expit(-eta))),
    "vonmises": Family(dist.VonMises, lambda eta, s: stats.vonmises(s, loc=eta), mean=lambda eta, s: eta),
    "poisson": Family(lambda eta, s: dist.Poisson(eta.exp()), lambda eta, s: stats.poisson(np.exp(eta)), discrete=True),
    "bernoulli": Family(
        lambda eta, s: dist.Bernoulli(logits=eta), lambda eta, s: stats.bernoulli(expit(eta)), discrete=True
    ),
    "negative binomial": Family(
        lambda eta, s: dist.NegativeBinomial(1 + s, logits=eta),
        lambda eta, s: stats.nbinom(1 + s, expit(-eta)),
        discrete=True,
    ),
}
