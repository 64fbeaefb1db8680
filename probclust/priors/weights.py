"""Mixture weights p(cluster): parts of stories.

The interface, ours or the user's, is `Weights`: a story calls its weights in the model, outside the plate, and draws
"cluster" from the distribution that it gets. Weights with a prior sample it there as a global latent; the story's
automatic guide (`global_guide`) has its posterior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from probclust.part import Part

__all__ = [
    "Dirichlet",
    "Fixed",
    "Learned",
    "StickBreaking",
    "Weights",
    "WeightsOption",
    "log_weights",
    "weights_named",
]


class Weights(Part):
    """Base of the weights: derive from it to write your own.

    A subclass defines `forward`; it may define `start`.

    Args:
        n_clusters: K.

    Attributes:
        has_prior: whether `forward` samples global latents.
        may_empty: whether clusters are meant to lose all their rows, so that a fit does not warn of it.

    Examples:
        >>> class Decreasing(Weights):
        ...     def forward(self):
        ...         return dist.Categorical(logits=-torch.arange(float(self.n_clusters)))
        >>> Decreasing(3)().probs.argmax().item()
        0
    """

    has_prior: ClassVar[bool] = False
    may_empty: ClassVar[bool] = False

    def __init__(self, n_clusters: int) -> None:
        super().__init__()
        self.n_clusters = n_clusters

    def forward(self) -> Any:
        """The distribution of "cluster", a Categorical with K entries; global latents may be sampled here."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(self)")

    def start(self, shares: Tensor, n_rows: int) -> Mapping[str, Any]:
        """Set the weights from a start's clusters.

        Args:
            shares: (K,) of the rows in each starting cluster; positive, of sum 1.
            n_rows: how many rows there are.

        Returns:
            The global latents' distributions given those clusters, by site name, for the automatic guide.
        """
        return {}


class Learned(Weights):
    """a = softmax(logits), the logits learned by maximum likelihood.

    Args:
        n_clusters: K.
    """

    def __init__(self, n_clusters: int) -> None:
        super().__init__(n_clusters)
        self.logits = nn.Parameter(torch.zeros(n_clusters))

    def forward(self) -> Any:
        """Categorical(a)."""
        return dist.Categorical(logits=self.logits)

    @torch.no_grad()
    def start(self, shares: Tensor, n_rows: int) -> Mapping[str, Any]:
        """The clusters' shares of the rows."""
        self.logits.copy_(shares.log())
        return {}


class Fixed(Weights):
    """Weights that are given, and stay.

    Args:
        n_clusters: K.
        probs: (K,) positive numbers, brought to sum 1; None for uniform weights.
    """

    logits: Tensor

    def __init__(self, n_clusters: int, probs: Sequence[float] | Tensor | None = None) -> None:
        super().__init__(n_clusters)
        weights = torch.ones(n_clusters) if probs is None else torch.as_tensor(probs, dtype=torch.get_default_dtype())
        if weights.shape != (n_clusters,) or not (weights > 0).all() or not torch.isfinite(weights).all():
            raise ValueError(f"probs must be n_clusters={n_clusters} positive numbers, got {probs!r}")
        self.register_buffer("logits", (weights / weights.mean()).log())

    def forward(self) -> Any:
        """Categorical(a)."""
        return dist.Categorical(logits=self.logits)


class Dirichlet(Weights):
    """a ~ Dirichlet(concentration), the global latent "weights".

    Given the clusters of the rows, its posterior is Dirichlet(concentration + counts), which the automatic guide
    "conjugate" can be exactly; "map" is its mode, which needs concentrations above 1 to lie inside.

    Args:
        n_clusters: K.
        concentration: of each weight; one number for all, or K of them. Below 1 it favours few large clusters.

    Source: C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, equations 10.39 and 10.57.
    """

    has_prior = True
    concentration: Tensor

    def __init__(self, n_clusters: int, concentration: float | Sequence[float] | Tensor = 1.0) -> None:
        super().__init__(n_clusters)
        value = torch.as_tensor(concentration, dtype=torch.get_default_dtype())
        if value.shape not in ((), (n_clusters,)) or not (value > 0).all() or not torch.isfinite(value).all():
            raise ValueError(
                f"concentration must be a positive number, or n_clusters={n_clusters} of them, got {concentration!r}"
            )
        self.register_buffer("concentration", value.expand(n_clusters).clone())

    def forward(self) -> Any:
        """Categorical(a)."""
        return dist.Categorical(pyro.sample("weights", dist.Dirichlet(self.concentration)))

    def start(self, shares: Tensor, n_rows: int) -> Mapping[str, Any]:
        """Dirichlet(concentration + rows of each cluster)."""
        return {"weights": dist.Dirichlet(self.concentration + n_rows * shares)}


class StickBreaking(Weights):
    """a_k = v_k prod_{l < k} (1 - v_l) with v_k ~ Beta(1, concentration): a Dirichlet process, cut at K clusters.

    K is an upper bound: clusters that explain nothing empty out, and come last. The global latent is "rest", the K - 1
    shares 1 - v_k ~ Beta(concentration, 1) of the stick that each break leaves, as floating-point numbers near 0 are
    finer than those near 1. Given the clusters of the rows its posterior is Beta(concentration + rows of later
    clusters, 1 + rows of cluster k), which the automatic guide "conjugate" can be exactly. "map" lets no cluster empty
    out: a point has no entropy, so that clusters without rows cost as much as those with.

    Args:
        n_clusters: K, more than clusters are expected.
        concentration: expected clusters grow as concentration times the logarithm of the number of rows.

    Source: J. Sethuraman, "A constructive definition of Dirichlet priors", 1994; D. M. Blei, M. I. Jordan, "Variational
    inference for Dirichlet process mixtures", 2006, whose coordinate updates of the sticks are that Beta.
    """

    has_prior = True
    may_empty = True
    concentration: Tensor

    def __init__(self, n_clusters: int, concentration: float = 1.0) -> None:
        super().__init__(n_clusters)
        if n_clusters < 2:
            raise ValueError(f"stick-breaking weights need n_clusters of at least 2, got {n_clusters}")
        if not 0 < concentration < float("inf"):
            raise ValueError(f"concentration must be a positive number, got {concentration!r}")
        self.register_buffer("concentration", torch.tensor(float(concentration)))

    def forward(self) -> Any:
        """Categorical(a)."""
        prior = dist.Beta(self.concentration, torch.ones_like(self.concentration))
        rest = pyro.sample("rest", prior.expand([self.n_clusters - 1]).to_event(1))
        return dist.Categorical(logits=log_weights(rest))

    def start(self, shares: Tensor, n_rows: int) -> Mapping[str, Any]:
        """Beta(concentration + rows of later clusters, 1 + rows of cluster k)."""
        counts = n_rows * shares
        later = counts.flip(0).cumsum(0).flip(0) - counts
        return {"rest": dist.Beta(self.concentration + later[:-1], 1 + counts[:-1]).to_event(1)}


def log_weights(rest: Tensor) -> Tensor:
    """(..., K) log of the weights from the (..., K - 1) shares that each break of the stick leaves."""
    tiny = torch.finfo(rest.dtype).tiny
    left = rest.clamp(min=tiny).log().cumsum(-1)
    broken = torch.log1p(-rest.clamp(max=1 - torch.finfo(rest.dtype).eps))
    one = torch.zeros_like(left[..., :1])
    return torch.cat([broken, one], -1) + torch.cat([one, left], -1)


WeightsOption = str | Weights
_BY_NAME: dict[str, type[Weights]] = {
    "learned": Learned,
    "fixed": Fixed,
    "uniform": Fixed,
    "dirichlet": Dirichlet,
    "stick-breaking": StickBreaking,
}


def weights_named(weights: WeightsOption, n_clusters: int) -> Weights:
    """The weights of that name; a part is checked and passed through.

    Args:
        weights: "learned", "uniform" (the same as "fixed"), "dirichlet" or "stick-breaking", the last two with a
            concentration of 1; or a part.
        n_clusters: K.

    Raises:
        ValueError: the name is unknown, or the part is of another size.
        TypeError: it is neither a name nor a part.
    """
    if isinstance(weights, str):
        if weights not in _BY_NAME:
            raise ValueError(f"weights must be one of {sorted(_BY_NAME)} or a part, got {weights!r}")
        return _BY_NAME[weights](n_clusters)
    if not isinstance(weights, Weights):
        raise TypeError(
            f"expected the name of weights, or an object whose class derives from probclust.weights.Weights, got "
            f"{type(weights).__name__}"
        )
    if weights.n_clusters != n_clusters:
        raise ValueError(
            f"the weights must be built for n_clusters={n_clusters}, got some for n_clusters={weights.n_clusters}"
        )
    return weights
