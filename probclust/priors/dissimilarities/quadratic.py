"""Squared distances, whose densities are Gaussian."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.distributions.softplus import inverse_softplus
from probclust.priors.dissimilarities.base import Dissimilarity


class SquaredEuclidean(Dissimilarity):
    """V(x, m) = sum_d (x_d - m_d)^2: a spherical Gaussian of variance 1 / (2 alpha)."""

    name = "squared_euclidean"
    degree = 2
    start_by = "k-means"

    def between(self, x: Tensor, *theta: Tensor) -> Tensor:
        """||x - m||^2."""
        return (x - theta[0]).square().sum(-1)

    def density(self, cluster: Tensor) -> Any:
        """A normal distribution."""
        scale = (2 * self.alpha[cluster]).rsqrt()
        return dist.Normal(self.loc[cluster], scale[..., None]).to_event(1)


class Mahalanobis(Dissimilarity):
    """V(x, (m, S)) = (x - m)' S^-1 (x - m) with S = L L' full: a Gaussian of covariance S / (2 alpha).

    Its alpha is fixed, as S learns the scale: one half makes S the covariance.

    Args:
        n_features: see `Dissimilarity`.
        n_clusters: see `Dissimilarity`.
        alpha: fixed.
        floor: lower bound of the diagonal of L, in units of the column's spread.
    """

    name = "mahalanobis"
    degree = 2
    start_by = "k-means"

    def __init__(self, n_features: int, n_clusters: int, alpha: float = 0.5, floor: float = 1e-2) -> None:
        super().__init__(n_features, n_clusters, alpha, learn_alpha=False)
        if not floor > 0:
            raise ValueError(f"floor must be positive, got {floor!r}")
        self.floor = floor
        self.raw_diagonal = nn.Parameter(torch.full((n_clusters, n_features), 0.5))
        self.lower = nn.Parameter(torch.zeros(n_clusters, n_features, n_features))

    @property
    def factor(self) -> Tensor:
        """(K, D, D) Cholesky factors L."""
        diagonal = self.floor + functional.softplus(self.raw_diagonal)
        return self.unit[:, None] * (self.lower.tril(-1) + torch.diag_embed(diagonal))

    @property
    def theta(self) -> tuple[Tensor, ...]:
        """Centres (K, D) and Cholesky factors (K, D, D)."""
        return self.loc, self.factor

    def between(self, x: Tensor, *theta: Tensor) -> Tensor:
        """||L^-1 (x - m)||^2."""
        loc, factor = theta
        if factor.dim() > x.dim():  # each row has a factor of its own
            solved = torch.linalg.solve_triangular(factor, (x - loc)[..., None], upper=False)
            return solved.square().sum((-2, -1))
        inverse = torch.linalg.solve_triangular(factor, torch.eye(self.n_features).to(factor), upper=False)
        return torch.einsum("...ij,...j->...i", inverse, x - loc).square().sum(-1)  # copies no factor for each row

    def density(self, cluster: Tensor) -> Any:
        """A multivariate normal distribution."""
        factor = self.factor * (2 * self.alpha).rsqrt()[:, None, None]
        return dist.MultivariateNormal(self.loc[cluster], scale_tril=factor[cluster])

    def place(self, groups: list[Tensor]) -> None:
        """Means and covariances."""
        super().place(groups)
        for k, rows in enumerate(groups):
            centred = (rows - rows.mean(0)).double() / self.unit
            covariance = 2 * self.alpha[k] * centred.T @ centred / len(rows)
            ridge = (1.01 * self.floor) ** 2 * torch.eye(self.n_features).to(covariance)
            factor = torch.linalg.cholesky(covariance + ridge).to(self.lower)
            self.lower[k] = factor.tril(-1)
            self.raw_diagonal[k] = inverse_softplus(factor.diagonal() - self.floor)
