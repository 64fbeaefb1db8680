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
        image: what the guide makes of location + scale * noise.
        log_prior: log density of `z` elementwise, from `loc` and `scale`.
        log_guide: likewise.
        mean: of the guide, as the library means it (of a transformed one the image of the base's mean).
        draw: values of the prior.
        feature: what decoders see of a component, in numpy.
        torch_feature: the same in torch.
        rule: quadrature nodes of the guide, (m, *shape), and their weights, which broadcast to them.
        noisy: whether its draws are transformed noise, which the clusters share in the quadrature.
    """

    prior: Callable[[Any, Any], Any]
    guide: Callable[[Any, Any], Any]
    log_prior: Callable[[Array, Array, Array], Array]
    log_guide: Callable[[Array, Array, Array], Array]
    mean: Callable[[Array, Array], Array]
    draw: Callable[[np.random.Generator, Array, Array], Array]
    feature: Callable[[Array], Array] = np.asarray
    torch_feature: Callable[[Any], Any] = torch.clone
    rule: Callable[[Array, Array, int], tuple[Array, Array]] | None = None
    drawn: bool = True


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
    return 4 * share, 4 * (1 - share)


KINDS: dict[str, Kind] = {
    "normal": Kind(
        dist.Normal, dist.Normal, _normal, _normal, lambda loc, s: loc, _flow_draw(np.asarray),
        rule=_normal_rule(np.asarray),
    ),
    "delta": Kind(
        dist.Normal, lambda loc, s: dist.Delta(loc), _normal, lambda z, loc, s: np.zeros_like(z), lambda loc, s: loc,
        _flow_draw(np.asarray), rule=_point_rule, drawn=False,
    ),
    "log-normal": Kind(
        dist.LogNormal, dist.LogNormal, _log_normal, _log_normal, lambda loc, s: np.exp(loc + s**2 / 2),
        _flow_draw(np.exp), np.log, torch.log, _normal_rule(np.exp),
    ),
    "positive": Kind(
        lambda loc, s: dist.Gamma(3.0, 3.0 * (-loc).exp()), _flow(transforms.ExpTransform()),
        lambda z, loc, s: stats.gamma.logpdf(z, 3.0, scale=np.exp(loc) / 3.0), _log_normal, lambda loc, s: np.exp(loc),
        lambda rng, loc, s: rng.gamma(3.0, np.exp(loc) / 3.0), np.log, torch.log, _normal_rule(np.exp),
    ),
    "unit": Kind(
        lambda loc, s: dist.Beta(*_beta_parameters(loc)), _flow(transforms.SigmoidTransform()),
        lambda z, loc, s: stats.beta.logpdf(z, *_beta_parameters(loc)), _unit, lambda loc, s: expit(loc),
        lambda rng, loc, s: rng.beta(*_beta_parameters(loc)), lambda z: 4 * z - 2, lambda z: 4 * z - 2,
        _normal_rule(expit),
    ),
    "flow": Kind(
        _flow(transforms.ExpTransform(), transforms.AffineTransform(1.0, 2.0)),
        _flow(transforms.ExpTransform(), transforms.AffineTransform(1.0, 2.0)),
        _above_one, _above_one, lambda loc, s: 1 + 2 * np.exp(loc), _flow_draw(lambda u: 1 + 2 * np.exp(u)),
        np.log, torch.log, _normal_rule(lambda u: 1 + 2 * np.exp(u)),
    ),
    "circular": Kind(
        lambda loc, s: dist.VonMises(loc, 1 / s), lambda loc, s: dist.VonMises(loc, 1 / s), _circle, _circle,
        lambda loc, s: loc, lambda rng, loc, s: stats.vonmises.rvs(1 / s, loc, size=loc.shape, random_state=rng),
        np.cos, torch.cos, _circle_rule,
    ),
}  # fmt: skip
