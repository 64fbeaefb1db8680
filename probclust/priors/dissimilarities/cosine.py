"""The cosine, whose density is von Mises-Fisher."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from probclust.distributions.directions import VonMisesFisher
from probclust.priors.dissimilarities.base import Dissimilarity, LearnAlpha


class Cosine(Dissimilarity):
    """V(x, m) = 1 - cos(x, m): a von Mises-Fisher distribution of directions, of concentration alpha.

    Rows must have length 1, and the density is with respect to the sphere's surface measure: it cannot be ranked
    against a density of rows in space. beta = (2 pi)^(D/2) I_{D/2-1}(alpha) exp(-alpha) / alpha^(D/2-1), with I the
    modified Bessel function.
    """

    name = "cosine"
    on_sphere = True

    def __init__(self, n_features: int, n_clusters: int, alpha: float = 1.0, learn_alpha: LearnAlpha = True) -> None:
        super().__init__(n_features, n_clusters, alpha, learn_alpha)
        if n_features < 2:
            raise ValueError(f"cosine dissimilarity needs at least 2 features, got n_features={n_features}")

    @property
    def loc(self) -> Tensor:
        """(K, D) mean directions, of length 1."""
        return functional.normalize(self.raw_loc, dim=-1)

    def between(self, x: Tensor, *theta: Tensor) -> Tensor:
        """1 - cos(x, m), for rows of any length."""
        return 1 - (functional.normalize(x, dim=-1) * functional.normalize(theta[0], dim=-1)).sum(-1)

    def density(self, cluster: Tensor) -> Any:
        """`probclust.distributions.VonMisesFisher`."""
        return VonMisesFisher(self.loc[cluster], self.alpha[cluster])

    def place(self, groups: list[Tensor]) -> None:
        """Mean directions, kept at length sqrt(D), so that the entries have the size that Adam's steps suit."""
        means = torch.stack([functional.normalize(rows, dim=-1).mean(0) for rows in groups])
        self.raw_loc.copy_(functional.normalize(means, dim=-1) * math.sqrt(self.n_features))

    def alpha_of(self, mean: Tensor) -> Tensor:
        """Nearly the most likely one. Source: Banerjee and others, "Clustering on the unit hypersphere", 2005."""
        length = (1 - mean).clamp(1e-6, 1 - 1e-6)
        return length * (self.n_features - length.square()) / (1 - length.square())
