"""DCN, deep clustering network: an autoencoder and k-means on its codes, trained in turn.

Generative story, for each row, with the precision lambda given:

    cluster ~ Categorical(1/K)
    z | cluster = k ~ Normal(m_k, I / lambda)
    x | z ~ Normal(decoder(z), I / 2)

Guide: z = encoder(x), a point, so that the log joint of row x and cluster k is, up to a constant,

    - (|x - decoder(encoder(x))|^2 + lambda / 2 |encoder(x) - m_k|^2).

Minus the hard objective, its maximum over k, is the paper's loss, equation 6, plus the constant D/2 log(pi) - L/2
log(lambda / (2 pi)) + log K. A point z has no entropy, so none of it is a bound on log p(x): `is_density` is False.

Training goes in turn, batch by batch: a gradient step of encoder and decoder with each row in its nearest cluster, then
one of mini-batch k-means (`InTurn`).

Unlike the paper, which draws no samples, `pc.sample` draws from a Gaussian of each cluster's codes (`CodeSampler`):
lambda says how much clusters count, not how far codes spread.

Source: B. Yang, X. Fu, N. Sidiropoulos, M. Hong, "Towards k-means-friendly spaces: simultaneous deep learning and
clustering", ICML 2017 (arXiv 1610.04794), sections 3 and 4. Unlike the paper, the gradient step finds each row's
nearest centroid itself, where the paper keeps the one from the row's last visit; and the c_k start from the sizes of
the starting clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from probclust.distributions import DiagonalNormal
from probclust.generate.code_sampler import CodeSampler
from probclust.likelihoods import Gaussian, Likelihood
from probclust.networks import Codec
from probclust.priors import CodeDensity, GaussianCodes, cluster_moments
from probclust.starts import InTurn, Start, decoder_start
from probclust.story import SVI, Compute, Run, Step


class DCN(CodeSampler):
    """An autoencoder whose codes lie close to K centroids.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim, hidden: of the code z, see `probclust.networks.Codec`.
        precision: lambda, the weight of the distance to the centroid; the recipe starts from codes of unit scale.
        likelihood: p(x | z), as `Codec` takes it; None for the paper's squared error.

    Examples:
        >>> import torch, probclust as pc
        >>> pc.log_joint(DCN(16, n_clusters=3, latent_dim=2, hidden=(8,)), torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    is_density = False
    renamed_state = Codec.earlier | CodeDensity.earlier
    uniform: Tensor
    code_scale: Tensor
    counts: Tensor

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        latent_dim: int = 10,
        hidden: Sequence[int] = (500, 500, 2000),
        precision: float = 1.0,
        likelihood: str | Likelihood | None = None,
    ) -> None:
        if not precision > 0:
            raise ValueError(f"precision must be a positive number, got {precision!r}")
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        part = likelihood or Gaussian(n_features, scale=math.sqrt(0.5))
        self.codec = Codec(n_features, latent_dim, hidden, part, posterior="point")
        self.centroids = nn.Parameter(torch.randn(n_clusters, latent_dim))
        self.code_density = CodeDensity(n_clusters, GaussianCodes(n_clusters, latent_dim))
        self.register_buffer("counts", torch.zeros(n_clusters))
        self.register_buffer("uniform", torch.zeros(n_clusters), persistent=False)
        self.register_buffer("code_scale", torch.tensor([precision**-0.5]), persistent=False)

    def model(self, x: Tensor) -> None:
        """p(cluster) p(z | cluster) p(x | z)."""
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", dist.Categorical(logits=self.uniform), infer={"enumerate": "parallel"})
            z = pyro.sample("z", DiagonalNormal(self.centroids[cluster], self.code_scale))
            pyro.sample("x", self.codec.decode(z), obs=x)

    def guide(self, x: Tensor) -> None:
        """The code, a point."""
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.codec.encode(x))

    def recipe(self, fit_epochs: int | None = None, epochs: int = 10, **start: Any) -> list[Step]:
        """Pre-train, start the centroids from clusters of the codes, fit to that start, then train in turn.

        Unlike the paper, the default pre-trains with neighbours, which shapes the codes' directions; a short fit to
        their clusters then brings the codes to their centroids. Codes are scaled to a standard deviation of 1 first, so
        that lambda means the same whatever the start. The paper's is pretraining="autoencoder".

        Args:
            fit_epochs: epochs with the starting clusters and their centroids held; None for 5, but none where the
                clusters are those of k-means on the codes.
            epochs: of the training in turn.
            start: see `probclust.starts.Start`.
        """
        begin = Start(**start)
        networks = [self.codec.encoder, self.codec.decoder, self.codec.likelihood]
        steps = begin.steps(self, self.codec)
        if fit_epochs is None:
            fit_epochs = 0 if begin.is_kmeans(self) else 5
        return [
            *steps,
            Compute(name="centroids", run=self._set_centroids),
            *decoder_start(self.codec),
            *([SVI.to_labels(fit_epochs, modules=networks)] if fit_epochs else []),
            InTurn(epochs=epochs, learning_rate=5e-4, batch_size=64, modules=networks),
            *self.fit_codes_steps(),
        ]

    @torch.no_grad()
    def _set_centroids(self, run: Run) -> None:
        """Centroids and their counts from the codes of each starting cluster; codes to unit scale first."""
        codes, labels = self.codec.unit_codes(run.x), run.memory.labels
        self.centroids.copy_(cluster_moments(codes, labels, self.n_clusters)[1])
        self.counts.copy_(labels.bincount(minlength=self.n_clusters))
