"""VaDE, variational deep embedding: a VAE whose latent space is a mixture of Gaussians.

Generative story, for each row:

    cluster ~ Categorical(a)
    z | cluster = k ~ Normal(m_k, diag(s_k^2))
    x | z ~ likelihood(decoder(z))

Guide: q(z | x) = Normal(loc(x), diag(scale(x)^2)), one z shared by all clusters; the cluster is summed out exactly,
so that the log joint of row x and cluster k is

    log p(x | z) + log p(z | k) - log q(z | x) + log a_k,    z ~ q(z | x).

Unlike the paper, p(z | cluster = k) may be any of `probclust.priors` or `probclust.dissimilarities`; where that lives
on the sphere (cosine), so does q(z | x), a power spherical distribution. The paper's start is
pretraining="autoencoder".

Source: Z. Jiang, Y. Zheng, H. Tan, B. Tang, H. Zhou, "Variational deep embedding: an unsupervised and generative
approach to clustering", IJCAI 2017 (arXiv 1611.05148), equations 1-6 and 16; architecture in its section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from torch import Tensor

from probclust.likelihoods import Likelihood
from probclust.networks import Codec, Network
from probclust.priors import Prior, Weights, cluster_moments, on_sphere, prior_named, weights_named
from probclust.starts import Start, complete_rows, decoder_start, gmm_start
from probclust.story import SVI, Compute, GuideKind, Run, Step, Story


class VaDE(Story):
    """Variational deep embedding.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim: L, size of z.
        hidden, likelihood, missing, network: of encoder and decoder, see `probclust.networks.Codec`.
        prior, weights: p(z | cluster) and p(cluster), names or parts of `probclust.priors`.
        global_guide: posterior of weights that have a prior, see `Story`.

    Examples:
        >>> import torch, probclust as pc
        >>> pc.log_joint(VaDE(16, n_clusters=3, latent_dim=2, hidden=(8,)), torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    renamed_state = Codec.earlier

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        latent_dim: int = 10,
        hidden: Sequence[int] = (500, 500, 2000),
        likelihood: str | Likelihood = "gaussian",
        prior: str | Prior = "gaussian",
        missing: bool = False,
        network: Network | None = None,
        weights: str | Weights = "learned",
        global_guide: GuideKind = "conjugate",
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters, global_guide=global_guide)
        self.weights = weights_named(weights, n_clusters)
        self.codec = Codec(n_features, latent_dim, hidden, likelihood, missing, network, on_sphere=on_sphere(prior))
        self.prior = prior_named(prior, latent_dim, n_clusters, alone_in="VaDE")

    def model(self, x: Tensor) -> None:
        """p(cluster) p(z | cluster) p(x | z)."""
        weights = self.weights()
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", weights, infer={"enumerate": "parallel"})
            z = pyro.sample("z", self.prior.density(cluster))
            pyro.sample("x", self.codec.decode(z), obs=x)

    def guide(self, x: Tensor) -> None:
        """q(z | x)."""
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.codec.encode(x))

    def recipe(self, fit_epochs: int = 20, epochs: int = 5, **start: Any) -> list[Step]:
        """Find clusters and pre-train the codec, start the prior from its codes, fit to the clusters, then SVI.

        Args:
            fit_epochs: epochs of SVI with the starting clusters held.
            epochs: of SVI.
            start: see `probclust.starts.Start`.
        """
        return [
            *Start(**start).steps(self, self.codec, clusters=gmm_start, without=["none"]),
            Compute(name="prior", run=self._set_prior),
            *decoder_start(self.codec, epochs=fit_epochs),
            SVI.to_labels(fit_epochs),
            SVI(epochs=epochs, learning_rate=2e-4, batch_size=64),
        ]

    @torch.no_grad()
    def _set_prior(self, run: Run) -> None:
        """The prior's parameters and weights from the codes of each starting cluster; codes to unit scale first."""
        codes, labels = self.codec.unit_codes(complete_rows(run)), run.memory.labels
        shares, _, variance = cluster_moments(codes, labels, self.n_clusters)
        self.start_weights(shares, len(codes))
        self.prior.start(codes, labels)
        self.codec.start_scale(variance)
