"""Global latents: their priors in torch and in scipy, the guides of a story's own, and what a guide makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from numpy.typing import NDArray
from pyro import poutine
from scipy import stats
from torch import Tensor
from torch.distributions import Independent

Array = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Prior:
    """The prior of a global latent.

    Attributes:
        law: torch distribution, from a shape and a tensor of the story's dtype.
        log_density: of a value, summed.
        positive: whether values are positive numbers.
    """

    law: Callable[[Shape, Tensor], Any]
    log_density: Callable[[Array], float]


def _elementwise(law: Callable[[Tensor], Any], frozen: Any) -> Prior:
    return Prior(
        lambda shape, one: law(one).expand(shape).to_event(len(shape)), lambda value: float(frozen.logpdf(value).sum())
    )


def _dirichlet(concentration: Callable[[int], float]) -> Prior:
    def log_density(value: Array) -> float:
        k = len(value)
        return float(stats.dirichlet.logpdf(value / value.sum(), np.full(k, concentration(k)))) if k > 1 else 0.0

    return Prior(lambda shape, one: dist.Dirichlet(concentration(shape[0]) * one.expand(shape)), log_density)


PRIORS: dict[str, Prior] = {
    "dirichlet": _dirichlet(lambda k: 2.0),
    "sparse dirichlet": _dirichlet(lambda k: 1 / k),
    "beta": _elementwise(lambda one: dist.Beta(2 * one, 3 * one), stats.beta(2, 3)),
    "normal": _elementwise(lambda one: dist.Normal(0 * one, one), stats.norm(0, 1)),
    "student": _elementwise(lambda one: dist.StudentT(5 * one, 0 * one, one), stats.t(5, 0, 1)),
    "gamma": _elementwise(lambda one: dist.Gamma(3 * one, 3 * one), stats.gamma(3, scale=1 / 3)),
    "log-normal": _elementwise(lambda one: dist.LogNormal(0 * one, 0.5 * one), stats.lognorm(0.5)),
    "half-normal": _elementwise(lambda one: dist.HalfNormal(one), stats.halfnorm(0, 1)),
}


def shape_of(latent: dict[str, Any], n_clusters: int, width: int) -> Shape:
    """Of a global latent, by its use."""
    if latent["use"] == "weights":
        return () if latent["family"] == "beta" else (n_clusters,)
    return (n_clusters, width) if latent["use"] == "shift" else ()


def own_guide(latent: dict[str, Any], number: Tensor) -> Any:
    """What a story's own guide draws it from, given a real number of its shape."""
    use, beta = latent["use"], latent["family"] == "beta"
    if latent["guide"] == "point":
        value = {"weights": number.sigmoid() if beta else number.softmax(-1), "shift": number, "spread": number.exp()}
        return dist.Delta(value[use], event_dim=number.dim())
    if use == "weights":
        return dist.Beta(3 + number.exp(), 4.0) if beta else dist.Dirichlet(3 + number.exp())
    law = dist.Normal(number, 0.3) if use == "shift" else dist.LogNormal(number, 0.2)
    return law.to_event(number.dim())


def own_draw(latent: dict[str, Any], number: Array, rng: np.random.Generator | None) -> tuple[Array, float]:
    """A draw of the same in numpy, its mean where there is no `rng`; and its log density."""
    use, beta = latent["use"], latent["family"] == "beta"
    if latent["guide"] == "point":
        if use == "weights":
            value = 1 / (1 + np.exp(-number)) if beta else np.exp(number) / np.exp(number).sum()
        else:
            value = number if use == "shift" else np.exp(number)
        return value, 0.0
    if use == "weights":
        a = np.array([3 + np.exp(number), 4.0]) if beta else 3 + np.exp(number)
        both = a / a.sum() if rng is None else rng.dirichlet(a)
        density = float(stats.dirichlet.logpdf(both, a)) if len(a) > 1 else 0.0
        return (both[0] if beta else both), density
    law = stats.norm(number, 0.3) if use == "shift" else stats.lognorm(0.2, scale=np.exp(number))
    value = law.mean() + 0 * number if rng is None else np.asarray(law.rvs(size=number.shape, random_state=rng))
    return value, float(law.logpdf(value).sum())


def automatic_laws(story: Any) -> dict[str, Any]:
    """What the automatic guide, as it stands, draws from, by site: it is a part of the question, not of the answer."""
    if story.globals is None:
        return {}
    with torch.no_grad():
        nodes = poutine.trace(story.globals).get_trace().nodes
    return {name: node["fn"] for name, node in nodes.items() if node["type"] == "sample"}


def automatic_draw(law: Any, draw: bool) -> tuple[Array, float]:
    """A draw of such a law, or its mean; and its log density."""
    with torch.no_grad():
        value = law.sample() if draw else _mean(law)
        return value.double().numpy(), float(law.log_prob(value))


def _mean(law: Any) -> Tensor:
    while isinstance(law, Independent):
        law = law.base_dist
    transforms = getattr(law, "transforms", None)
    if transforms is None or isinstance(law, dist.LogNormal):
        return law.mean
    value = _mean(law.base_dist)
    for transform in transforms:
        value = transform(value)
    return value
