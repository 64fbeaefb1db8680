"""`Dissimilarity`: what a story asks of a dissimilarity, ours or the user's."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from probclust.priors.base import Prior

LearnAlpha = bool | Literal["shared", "cluster"]
MIN_ALPHA, MAX_ALPHA = 1e-10, 1e10


class Dissimilarity(Prior):
    """Base of the dissimilarities: a centre for each cluster, and the inverse temperature alpha.

    A subclass defines `between` and `density`.

    Args:
        n_features: D, columns of x (or of the code).
        n_clusters: K.
        alpha: at the start; between 1e-10 and 1e10.
        learn_alpha: False to hold it fixed; "shared" (the same as True), one for all clusters, or "cluster", one for
            each.

    Attributes:
        is_density: whether `density` has its normaliser.
        on_sphere: whether rows must have length 1, and densities are with respect to the sphere's surface measure.
        degree: V grows by c to this power where x - theta_k does by c; so alpha V(x, theta_k) ~ Gamma(D / degree, 1).
        start_by: the start that the paper uses for it.
        unit: (D,) spread of the columns of the rows that it was started from; centres are kept in it, so that Adam's
            steps have the size of the data.
    """

    degree: ClassVar[int] = 1
    start_by: ClassVar[Literal["k-means", "k-medoids"]] = "k-medoids"
    unit: Tensor

    def __init__(self, n_features: int, n_clusters: int, alpha: float = 1.0, learn_alpha: LearnAlpha = True) -> None:
        super().__init__(n_features, n_clusters)
        if not MIN_ALPHA <= alpha <= MAX_ALPHA:
            raise ValueError(f"alpha must lie between {MIN_ALPHA:g} and {MAX_ALPHA:g}, got {alpha!r}")
        if learn_alpha not in (True, False, "shared", "cluster"):
            raise ValueError(f"learn_alpha must be True, False, 'shared' or 'cluster', got {learn_alpha!r}")
        self.raw_loc = nn.Parameter(torch.randn(n_clusters, n_features))
        n_alphas = n_clusters if learn_alpha == "cluster" else 1
        self.log_alpha = nn.Parameter(torch.full((n_alphas,), math.log(alpha)), requires_grad=bool(learn_alpha))
        self.register_buffer("unit", torch.ones(n_features))

    @property
    def loc(self) -> Tensor:
        """(K, D) centres."""
        return self.unit * self.raw_loc

    @property
    def alpha(self) -> Tensor:
        """(K,) inverse temperatures."""
        bounded = self.log_alpha.clamp(math.log(MIN_ALPHA), math.log(MAX_ALPHA))
        return bounded.exp().expand(self.n_clusters)

    @property
    def theta(self) -> tuple[Tensor, ...]:
        """The clusters' parameters, each (K, ...): the centres, and what else `between` takes."""
        return (self.loc,)

    def between(self, x: Tensor, *theta: Tensor) -> Tensor:
        """V(x, theta): (...) from (..., D) rows and parameters that broadcast against them."""
        raise NotImplementedError(f"{type(self).__name__} must define between(self, x, *theta)")

    def forward(self, x: Tensor) -> Tensor:
        """(rows, K) dissimilarities of (rows, D) rows to all clusters, equation 9 of the paper."""
        return self.between(x[:, None], *self.theta)

    @torch.no_grad()
    def start(self, x: Tensor, labels: Tensor) -> None:
        """Centres, and alpha where it is learned, from rows (rows, D) and their starting clusters (rows,)."""
        self.unit.copy_(_spread(x))
        groups = [x[labels == k] if (labels == k).any() else x for k in range(self.n_clusters)]
        self.place(groups)
        if self.log_alpha.requires_grad:
            own = torch.stack([self.between(g, *(t[k] for t in self.theta)).mean() for k, g in enumerate(groups)])
            if len(self.log_alpha) == 1:
                sizes = own.new_tensor([len(group) for group in groups])
                own = (sizes * own).sum(0, keepdim=True) / sizes.sum()
            self.log_alpha.copy_(self.alpha_of(own).clamp(MIN_ALPHA, MAX_ALPHA).log())

    def place(self, groups: list[Tensor]) -> None:
        """Set the clusters' parameters from each one's rows."""
        self.raw_loc.copy_(torch.stack([self.centre(group) for group in groups]) / self.unit)

    def centre(self, rows: Tensor) -> Tensor:
        """(D,) the centre of some rows."""
        return rows.mean(0)

    def alpha_of(self, mean: Tensor) -> Tensor:
        """The most likely alpha where the dissimilarities have this mean."""
        return self.n_features / self.degree / mean.clamp(min=1e-30)


def _spread(x: Tensor) -> Tensor:
    """(D,) standard deviations, at least a hundredth of their root mean square; 1 where nothing varies."""
    variance = x.var(0, correction=0)
    spread = variance.clamp(min=1e-4 * variance.mean().item()).sqrt()
    return torch.where(spread > 0, spread, torch.ones_like(spread))
