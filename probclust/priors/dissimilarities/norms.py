"""Norms of x less the centre."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from probclust.distributions.norms import NormExponential, p_norm
from probclust.priors.dissimilarities.base import Dissimilarity, LearnAlpha


class Norm(Dissimilarity):
    """V(x, m) = ||x - m||_p, equation 14 of the paper; beta = D! vol(B_p) / alpha^D, with B_p the unit ball."""

    p: float

    def between(self, x: Tensor, *theta: Tensor) -> Tensor:
        """||x - m||_p."""
        return p_norm(x - theta[0], self.p)

    def density(self, cluster: Tensor) -> Any:
        """`probclust.distributions.NormExponential`."""
        return NormExponential(self.loc[cluster], self.alpha[cluster], self.p)


class Manhattan(Norm):
    """V(x, m) = sum_d |x_d - m_d|: independent Laplace columns; beta = (2 / alpha)^D."""

    name = "manhattan"
    p = 1.0

    def centre(self, rows: Tensor) -> Tensor:
        """The median of each column."""
        return rows.median(0).values


class Euclidean(Norm):
    """V(x, m) = sqrt(sum_d (x_d - m_d)^2), not squared: a peak at the centre, and heavier tails than a Gaussian's."""

    name = "euclidean"
    p = 2.0
    start_by = "k-means"


class Chebyshev(Norm):
    """V(x, m) = max_d |x_d - m_d|; beta = D! (2 / alpha)^D."""

    name = "chebyshev"
    p = math.inf


class Minkowski(Norm):
    """V(x, m) = ||x - m||_p for any p.

    Args:
        n_features: see `Dissimilarity`.
        n_clusters: see `Dissimilarity`.
        p: at least 1, `math.inf` included.
        alpha: see `Dissimilarity`.
        learn_alpha: see `Dissimilarity`.
    """

    name = "minkowski"

    def __init__(
        self, n_features: int, n_clusters: int, p: float = 3.0, alpha: float = 1.0, learn_alpha: LearnAlpha = True
    ) -> None:
        super().__init__(n_features, n_clusters, alpha, learn_alpha)
        if not p >= 1:
            raise ValueError(f"p must be at least 1 (below, there is no norm), got {p!r}")
        self.p = float(p)
