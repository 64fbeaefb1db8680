"""Kinds of local latents: prior and guide in torch and, apart from that, in scipy, with the guide's quadrature.

Each component has a location, any real number, and a positive scale, for the prior and for the guide. But for circular
ones, a guide's draw is an image of location + scale * noise, the noise standard normal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from numpy.typing import NDArray
from pyro.distributions import transforms
from scipy import stats
from scipy.special import expit, logit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """A kind of latent.

    Attributes:
        prior: torch distribution of each component, from `loc` and `scale`.
        guide: likewise.
        log_prior: log density of `z` elementwise, from `loc` and `scale`.
        log_guide: likewise.
        mean: of the guide, as the library means it (of a transformed one the image of the base's mean).
        mode: of the prior; of a transformed one the image of the base's mode.
        draw: values of the prior.
        rule: quadrature of the guide: nodes, (m, *shape), and their weights, which broadcast to them.
        feature: what decoders see of a component, in numpy.
        torch_feature: the same in torch.
        drawn: whether the guide draws it.
        noisy: whether its draws are transformed noise, which all clusters share, as the quadrature's nodes do.
    """

    prior: Callable[[Any, Any], Any]
    guide: Callable[[Any, Any], Any]
    log_prior: Callable[[Array, Array, Array], Array]
    log_guide: Callable[[Array, Array, Array], Array]
    mean: Callable[[Array, Array], Array]
    mode: Callable[[Array, Array], Array]
    draw: Callable[[np.random.Generator, Array, Array], Array]
    rule: Callable[[Array, Array, int], tuple[Array, Array]]
    feature: Callable[[Array], Array] = np.asarray
    torch_feature: Callable[[Any], Any] = torch.clone
    drawn: bool = True
    noisy: bool = True


@cache
def hermite(n: int) -> tuple[Array, Array]:
    """Nodes and weights (summing to 1) for a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return nodes, weights / weights.sum()


def _normal_rule(image: Callable[[Array], Array]) -> Callable[[Array, Array, int], tuple[Array, Array]]:
    def rule(loc: Array, scale: Array, n: int) -> tuple[Array, Array]:
        nodes, weights = hermite(n)
        ones = [1] * loc.ndim
        return image(loc + scale * nodes.reshape(-1, *ones)), weights.reshape(-1, *ones)

    return rule


def _circle_rule(loc: Array, scale: Array, n: int) -> tuple[Array, Array]:
    angle = 2 * np.pi * np.arange(n).reshape(-1, *[1] * loc.ndim) / n
    weights = np.exp(np.cos(angle) / scale)
    return np.angle(np.exp(1j * (loc + angle))), weights / weights.sum(0)


def _point_rule(loc: Array, scale: Array, n: int) -> tuple[Array, Array]:
    return loc[None], np.ones((1,) * (loc.ndim + 1))


def _flow(*parts: Any) -> Callable[[Any, Any], Any]:
    return lambda loc, scale: dist.TransformedDistribution(dist.Normal(loc, scale), list(parts))


def _flow_draw(image: Callable[[Array], Array]) -> Callable[[np.random.Generator, Array, Array], Array]:
    return lambda rng, loc, scale: image(loc + scale * rng.standard_normal(loc.shape))


def _normal(z: Array, loc: Array, scale: Array) -> Array:
    return stats.norm.logpdf(z, loc, scale)


def _log_normal(z: Array, loc: Array, scale: Array) -> Array:
    return _normal(np.log(z), loc, scale) - np.log(z)


def _unit(z: Array, loc: Array, scale: Array) -> Array:
    return _normal(logit(z), loc, scale) - np.log(z) - np.log1p(-z)


def _circle(z: Array, loc: Array, scale: Array) -> Array:
    return stats.vonmises.logpdf(z, 1 / scale, loc)


def _above_one(z: Array, loc: Array, scale: Array) -> Array:
    return _log_normal((z - 1) / 2, loc, scale) - np.log(2)


def _beta_parameters(loc: Any) -> tuple[Any, Any]:
    share = 1 / (1 + (np if isinstance(loc, np.ndarray) else torch).exp(-loc))
    return 1 + 4 * share, 5 - 4 * share


def _same(loc: Array, scale: Array) -> Array:
    return loc


KINDS: dict[str, Kind] = {
    "normal": Kind(
        prior=dist.Normal,
        guide=dist.Normal,
        log_prior=_normal,
        log_guide=_normal,
        mean=_same,
        mode=_same,
        draw=_flow_draw(np.asarray),
        rule=_normal_rule(np.asarray),
    ),
    "delta": Kind(
        prior=dist.Normal,
        guide=lambda loc, s: dist.Delta(loc),
        log_prior=_normal,
        log_guide=lambda z, loc, s: np.zeros_like(z),
        mean=_same,
        mode=_same,
        draw=_flow_draw(np.asarray),
        rule=_point_rule,
        drawn=False,
    ),
    "heavy": Kind(
        prior=lambda loc, s: dist.StudentT(4.0, loc, s),
        guide=dist.Normal,
        log_prior=lambda z, loc, s: stats.t.logpdf(z, 4.0, loc, s),
        log_guide=_normal,
        mean=_same,
        mode=_same,
        draw=lambda rng, loc, s: loc + s * rng.standard_t(4.0, loc.shape),
        rule=_normal_rule(np.asarray),
        feature=np.tanh,
        torch_feature=torch.tanh,
    ),
    "log-normal": Kind(
        prior=dist.LogNormal,
        guide=dist.LogNormal,
        log_prior=_log_normal,
        log_guide=_log_normal,
        mean=lambda loc, s: np.exp(loc + s**2 / 2),
        mode=lambda loc, s: np.exp(loc - s**2),
        draw=_flow_draw(np.exp),
        rule=_normal_rule(np.exp),
        feature=np.log,
        torch_feature=torch.log,
    ),
    "positive": Kind(
        prior=lambda loc, s: dist.Gamma(3.0, 3.0 * (-loc).exp()),
        guide=_flow(transforms.ExpTransform()),
        log_prior=lambda z, loc, s: stats.gamma.logpdf(z, 3.0, scale=np.exp(loc) / 3.0),
        log_guide=_log_normal,
        mean=lambda loc, s: np.exp(loc),
        mode=lambda loc, s: 2 / 3 * np.exp(loc),
        draw=lambda rng, loc, s: rng.gamma(3.0, np.exp(loc) / 3.0),
        rule=_normal_rule(np.exp),
        feature=np.log,
        torch_feature=torch.log,
    ),
    "unit": Kind(
        prior=lambda loc, s: dist.Beta(*_beta_parameters(loc)),
        guide=_flow(transforms.SigmoidTransform()),
        log_prior=lambda z, loc, s: stats.beta.logpdf(z, *_beta_parameters(loc)),
        log_guide=_unit,
        mean=lambda loc, s: expit(loc),
        mode=lambda loc, s: (_beta_parameters(loc)[0] - 1) / 4,
        draw=lambda rng, loc, s: rng.beta(*_beta_parameters(loc)),
        rule=_normal_rule(expit),
        feature=lambda z: 4 * z - 2,
        torch_feature=lambda z: 4 * z - 2,
    ),
    "flow": Kind(
        prior=_flow(transforms.ExpTransform(), transforms.AffineTransform(1.0, 2.0)),
        guide=_flow(transforms.ExpTransform(), transforms.AffineTransform(1.0, 2.0)),
        log_prior=_above_one,
        log_guide=_above_one,
        mean=lambda loc, s: 1 + 2 * np.exp(loc),
        mode=lambda loc, s: 1 + 2 * np.exp(loc),
        draw=_flow_draw(lambda u: 1 + 2 * np.exp(u)),
        rule=_normal_rule(lambda u: 1 + 2 * np.exp(u)),
        feature=np.log,
        torch_feature=torch.log,
    ),
    "circular": Kind(
        prior=lambda loc, s: dist.VonMises(loc, 1 / s),
        guide=lambda loc, s: dist.VonMises(loc, 1 / s),
        log_prior=_circle,
        log_guide=_circle,
        mean=_same,
        mode=_same,
        draw=lambda rng, loc, s: stats.vonmises.rvs(1 / s, loc, size=loc.shape, random_state=rng),
        rule=_circle_rule,
        feature=np.cos,
        torch_feature=torch.cos,
        noisy=False,
    ),
}
