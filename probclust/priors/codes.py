"""A density of codes, for stories that have none of their own and yet shall draw rows cluster by cluster."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional


class CodeDensity(nn.Module):
    """A Gaussian for the codes of each cluster, and the clusters' weights; both wait for `fit`.

    Args:
        n_clusters: K.
        latent_dim: L, size of a code.
    """

    weights: Tensor
    loc: Tensor
    factor: Tensor

    def __init__(self, n_clusters: int, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(n_clusters))  # all zero until `fit`
        self.register_buffer("loc", torch.zeros(n_clusters, latent_dim))
        self.register_buffer("factor", torch.eye(latent_dim).repeat(n_clusters, 1, 1))

    @torch.no_grad()
    def fit(self, codes: Tensor, labels: Tensor) -> None:
        """Take shares, means and covariances from the codes of all rows.

        Args:
            codes: (rows, latent_dim).
            labels: (rows,) clusters.
        """
        belongs = functional.one_hot(labels, len(self.weights)).to(codes)
        counts = belongs.sum(0)
        loc = belongs.T @ codes / counts.clamp(min=1)[:, None]
        centred = codes - loc[labels]
        covariance = torch.einsum("nk,ni,nj->kij", belongs, centred, centred) / counts.clamp(min=1)[:, None, None]
        covariance += (1e-5 * codes.var() + 1e-12) * torch.eye(codes.shape[1]).to(codes)  # codes may be collinear
        self.weights.copy_(counts / counts.sum())
        self.loc.copy_(loc)
        self.factor.copy_(torch.linalg.cholesky(covariance.double()))

    def clusters(self) -> Any:
        """The distribution of a row's cluster.

        Raises:
            ValueError: `fit` has not run.
        """
        if not self.weights.any():
            raise ValueError(
                "rows are drawn from a density of the story's codes, which has not been fitted; call "
                "story.fit_codes(x) first (the story's own recipe does)"
            )
        return dist.Categorical(self.weights)

    def forward(self, cluster: Tensor) -> Any:
        """The distribution of codes given the cluster."""
        return dist.MultivariateNormal(self.loc[cluster], scale_tril=self.factor[cluster])


def cluster_moments(codes: Tensor, labels: Tensor, n_clusters: int) -> tuple[Tensor, Tensor, Tensor]:
    """Share of the rows, mean and variance of each cluster's codes, all finite where a cluster is empty.

    Args:
        codes: (rows, latent_dim).
        labels: (rows,) clusters.
        n_clusters: K.

    Returns:
        (K,) weights, (K, latent_dim) means and (K, latent_dim) variances, the latter at least 1e-4.
    """
    belongs = functional.one_hot(labels, n_clusters).to(codes)
    counts = belongs.sum(0)[:, None] + 1e-3
    loc = belongs.T @ codes / counts
    variance = (belongs.T @ codes**2 / counts - loc**2).clamp(min=1e-4)
    return counts.squeeze(1) / counts.sum(), loc, variance
