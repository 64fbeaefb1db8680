"""Densities of codes: for stories that have none of their own, and the moments that priors start from."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional


class GaussianCodes(nn.Module):
    """A Gaussian with correlations for the codes of each cluster, taken from them as they are.

    Args:
        n_clusters: K.
        latent_dim: L, size of a code.
    """

    is_density = True
    loc: Tensor
    factor: Tensor

    def __init__(self, n_clusters: int, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(n_clusters, latent_dim))
        self.register_buffer("factor", torch.eye(latent_dim).repeat(n_clusters, 1, 1))

    def density(self, cluster: Tensor) -> Any:
        """p(code | cluster)."""
        return dist.MultivariateNormal(self.loc[cluster], scale_tril=self.factor[cluster])

    @torch.no_grad()
    def start(self, codes: Tensor, labels: Tensor) -> None:
        """Take means and covariances from (rows, L) codes and their (rows,) clusters."""
        belongs = functional.one_hot(labels, len(self.loc)).to(codes)
        counts = belongs.sum(0)
        loc = belongs.T @ codes / counts.clamp(min=1)[:, None]
        centred = codes - loc[labels]
        covariance = torch.einsum("nk,ni,nj->kij", belongs, centred, centred) / counts.clamp(min=1)[:, None, None]
        covariance += (1e-5 * codes.var() + 1e-12) * torch.eye(codes.shape[1]).to(codes)  # codes may be collinear
        self.loc.copy_(loc)
        self.factor.copy_(torch.linalg.cholesky(covariance.double()))


class CodeDensity(nn.Module):
    """p(cluster) p(code | cluster), fitted to the codes of a trained story, which has no density of them itself.

    Args:
        n_clusters: K.
        part: p(code | cluster), `GaussianCodes` or a prior; with its values before `fit` it stands for nothing.
    """

    earlier: ClassVar = {
        "code_weights": "code_density.weights",
        "codes.weights": "code_density.weights",
        "codes": "code_density.part",
    }
    """What its state was called in a story that had no `code_density` yet, for `Part.renamed_state`."""

    weights: Tensor

    def __init__(self, n_clusters: int, part: Any) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(n_clusters))  # all zero until `fit`
        self.part = part

    @torch.no_grad()
    def fit(self, codes: Tensor, labels: Tensor) -> None:
        """Take the clusters' shares and densities from the codes of all rows.

        Args:
            codes: (rows, latent_dim).
            labels: (rows,) clusters.
        """
        self.require_normaliser()
        self.part.start(codes, labels)
        self.weights.copy_(labels.bincount(minlength=len(self.weights)) / len(labels))

    def clusters(self) -> Any:
        """The distribution of a row's cluster.

        Raises:
            ValueError: `fit` has not run, or the part has no normaliser.
        """
        self.require_normaliser()
        if not self.weights.any():
            raise ValueError(
                "rows are drawn from a density of the story's codes, which has not been fitted; call "
                "story.fit_codes(x) first (the story's own recipe does)"
            )
        return dist.Categorical(self.weights)

    def forward(self, cluster: Tensor) -> Any:
        """The distribution of codes given the cluster."""
        return self.part.density(cluster)

    def require_normaliser(self) -> None:
        """Raise a ValueError where the part is no density."""
        if not self.part.is_density:
            raise ValueError(
                f"{type(self.part).__name__} has no normaliser, so there is no density of codes to draw from; use a "
                "named dissimilarity, or pc.reconstruct"
            )


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
