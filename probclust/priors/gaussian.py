"""Gaussian priors: standard, diagonal, and diagonal with a few correlated directions."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.distributions.diagonal_normal import DiagonalNormal
from probclust.distributions.softplus import inverse_softplus
from probclust.priors.base import Prior
from probclust.priors.codes import cluster_moments


class StandardNormal(Prior):
    """z ~ Normal(0, I), the same for every cluster: for stories that tell clusters apart by their decoders.

    Args:
        n_features: L, columns of the code.
        n_clusters: K.
    """

    name = "standard"
    by_cluster = False
    loc: Tensor
    scale: Tensor

    def __init__(self, n_features: int, n_clusters: int) -> None:
        super().__init__(n_features, n_clusters)
        self.register_buffer("loc", torch.zeros(n_features), persistent=False)
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def density(self, cluster: Tensor) -> Any:
        """Normal(0, I), of no batch."""
        return DiagonalNormal(self.loc, self.scale)


class DiagonalGaussian(Prior):
    """z | cluster = k ~ Normal(m_k, diag(s_k^2)).

    Args:
        n_features: L, columns of the code.
        n_clusters: K.
        floor: lower bound of the standard deviations, in units of the code.

    Source: Z. Jiang and others, "Variational deep embedding", 2017.
    """

    name = "gaussian"

    def __init__(self, n_features: int, n_clusters: int, floor: float = 0.05) -> None:
        super().__init__(n_features, n_clusters)
        self.floor = checked_floor(floor)
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))
        self.raw_scale = nn.Parameter(torch.full((n_clusters, n_features), 0.5))

    @property
    def scale(self) -> Tensor:
        """(K, L) standard deviations."""
        return self.floor + functional.softplus(self.raw_scale)

    def density(self, cluster: Tensor) -> Any:
        """A normal distribution with independent columns."""
        return DiagonalNormal(self.loc[cluster], self.scale[cluster])

    @torch.no_grad()
    def start(self, codes: Tensor, labels: Tensor) -> None:
        """Means and variances of each cluster's codes."""
        _, loc, variance = cluster_moments(codes, labels, self.n_clusters)
        self.loc.copy_(loc)
        self.raw_scale.copy_(inverse_softplus(variance.sqrt() - self.floor))


class LowRankGaussian(DiagonalGaussian):
    """z | cluster = k ~ Normal(m_k, F_k F_k' + diag(s_k^2)), with F_k of `rank` columns.

    Between the diagonal Gaussian and the full one (`probclust.dissimilarities.Mahalanobis`), at rank * L numbers for
    each cluster instead of L^2 / 2.

    Args:
        n_features: L, columns of the code.
        n_clusters: K.
        rank: directions in which columns vary together, from 1 to L - 1.
        floor: lower bound of the standard deviations s, in units of the code.

    Source: the start is that of M. E. Tipping, C. M. Bishop, "Probabilistic principal component analysis", 1999,
    equations 7 and 8, with what variance is left in each column.
    """

    name = "low_rank"

    def __init__(self, n_features: int, n_clusters: int, rank: int = 1, floor: float = 0.05) -> None:
        super().__init__(n_features, n_clusters, floor)
        if not 1 <= rank < n_features:
            raise ValueError(f"rank must lie between 1 and n_features - 1 = {n_features - 1}, got {rank!r}")
        self.factor = nn.Parameter(0.1 * torch.randn(n_clusters, n_features, rank))

    def density(self, cluster: Tensor) -> Any:
        """A normal distribution whose covariance is a diagonal and a few directions."""
        scale = self.scale[cluster]
        return dist.LowRankMultivariateNormal(self.loc[cluster], self.factor[cluster], scale.square())

    @torch.no_grad()
    def start(self, codes: Tensor, labels: Tensor) -> None:
        """The principal directions of each cluster's codes, and what variance those leave."""
        super().start(codes, labels)
        rank = self.factor.shape[-1]
        for k in range(self.n_clusters):
            own = codes[labels == k]
            if len(own) < 2:
                continue
            covariance = own.T.cov(correction=0)
            values, vectors = torch.linalg.eigh(covariance)  # ascending
            excess = (values[-rank:] - values[:-rank].mean()).clamp(min=0)
            self.factor[k] = vectors[:, -rank:] * excess.sqrt()
            left = (covariance.diagonal() - self.factor[k].square().sum(-1)).clamp(min=(1.01 * self.floor) ** 2)
            self.raw_scale[k] = inverse_softplus(left.sqrt() - self.floor)


def checked_floor(floor: float) -> float:
    """`floor`, or a ValueError where it is not positive."""
    if not floor > 0:
        raise ValueError(f"floor must be positive, got {floor!r}")
    return floor
