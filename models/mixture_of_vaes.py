"""The mixture of VAEs (k-DVAE): one small VAE for each cluster.

Generative story, for each row:

    cluster ~ Categorical(a)
    z ~ Normal(0, I), or another prior
    x | z, cluster = k ~ likelihood(decoder_k(z))

Guide: q(z | x, cluster = k) = Normal(loc_k(x), diag(scale_k(x)^2)), an encoder for each cluster. The log joint of row
x and cluster k is the ELBO of the k-th VAE plus its log weight,

    log a_k + log p(x | z_k, k) + log p(z_k) - log q(z_k | x, k),    z_k ~ q(z | x, k).

Its maximum over k is the paper's objective, equation 6 (up to log a_k, a constant where the weights are uniform):
`objective="hard"`. At the mean of q it is the paper's clustering rule, equation 8: `pc.predict`. The exact objective,
the default here, sums over k instead and bounds log p(x) more tightly.

Source: "A mixture of variational autoencoders for deep clustering", equations 1-8, algorithms 1 and 2; architecture
in its section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from torch import Tensor

from probclust.fitting import fit
from probclust.likelihoods import Likelihood
from probclust.models.vade import VaDE
from probclust.networks import ExpertCodecs, Network, every_cluster
from probclust.part import fresh
from probclust.priors import Prior, Weights, prior_named, weights_named
from probclust.starts import Start, kmeans_start, own_rows
from probclust.story import SVI, Batch, Compute, GuideKind, Run, Step, Story, Train


class MixtureOfVAEs(Story):
    """A mixture of variational autoencoders, its experts run as one stacked network.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim, hidden, likelihood, missing, network: of the experts, see `probclust.networks.ExpertCodecs`.
        prior, weights: p(z | cluster) and p(cluster), names or parts of `probclust.priors`; the paper's are "standard"
            and "uniform".
        global_guide: posterior of weights that have a prior, see `Story`.

    Examples:
        >>> import torch, probclust as pc
        >>> pc.log_joint(MixtureOfVAEs(16, n_clusters=3, latent_dim=2, hidden=(8,)), torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    renamed_state = ExpertCodecs.earlier

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        latent_dim: int = 10,
        hidden: Sequence[int] = (500, 100),
        likelihood: str | Likelihood = "gaussian",
        prior: str | Prior = "standard",
        weights: str | Weights = "learned",
        missing: bool = False,
        network: Network | None = None,
        global_guide: GuideKind = "conjugate",
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters, global_guide=global_guide)
        self.weights = weights_named(weights, n_clusters)
        self.experts = ExpertCodecs(n_clusters, n_features, latent_dim, hidden, likelihood, missing, network)
        self.prior = prior_named(prior, latent_dim, n_clusters)
        if self.prior.on_sphere:
            raise ValueError(
                f"the encoders of MixtureOfVAEs are Gaussian, and codes of {type(self.prior).__name__} must have "
                "length 1; take another prior, or VaDE"
            )

    def model(self, x: Tensor) -> None:
        """p(cluster) p(z) p(x | z, cluster)."""
        weights = self.weights()
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", weights, infer={"enumerate": "parallel"})
            z = pyro.sample("z", self.prior.density(cluster))
            pyro.sample("x", self.experts.decode(z, cluster), obs=x)

    def guide(self, x: Tensor) -> None:
        """q(z | x, cluster) of every cluster; the objectives find the optimal q(cluster | x)."""
        cluster = every_cluster(self.n_clusters)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.experts.encode(x, cluster))

    def recipe(self, fit_epochs: int = 20, epochs: int = 5, **start: Any) -> list[Step]:
        """Cluster the codes of a pre-trained network, fit each expert to its cluster, then SVI.

        The paper's start is pretraining="vade": k-means on the embedding of a VaDE, fitted by its own paper's recipe.

        Args:
            fit_epochs: epochs of each expert on its own cluster.
            epochs: epochs of SVI.
            start: see `probclust.starts.Start`.
        """
        begin, size = Start(**start), self.experts.latent_dim

        def cluster_vade(run: Run) -> None:
            part = fresh(self.experts.likelihood)
            vade = VaDE(self.n_features, self.n_clusters, size, likelihood=part, missing=self.missing)
            recipe = vade.recipe(pretraining="autoencoder", pretrain_epochs=begin.pretrain_epochs)
            fit(vade, run.x.cpu(), seed=run.seed, recipe=recipe, device=str(run.x.device), progress=False)
            kmeans_start(vade.codec.mean).run(run)

        vade = {"vade": [Compute(name="start", run=cluster_vade)]}
        steps = begin.steps(self, own=vade, without=["autoencoder", "none"], latent_dim=size)
        if self.weights.has_prior:  # its posterior then follows from the start; learned weights begin uniform
            steps.append(Compute(name="mixture weights", run=self._start_weights))
        return [
            *steps,
            Train(name="experts", loss=self._experts_loss, epochs=fit_epochs, learning_rate=2e-3, batch_size=64),
            SVI(epochs=epochs, learning_rate=5e-4, batch_size=64),
        ]

    def _start_weights(self, run: Run) -> None:
        counts = run.memory.labels.bincount(minlength=self.n_clusters) + 1e-3
        self.start_weights(counts / counts.sum(), len(run.x))

    def _experts_loss(self, batch: Batch) -> Tensor:
        """Minus the ELBO of each VAE on rows of its own starting cluster, mean over rows: no other pair is computed."""
        x = own_rows(batch)
        cluster = torch.arange(self.n_clusters, device=x.device)[:, None]
        q = self.experts.encode(x, cluster)
        z = q.rsample()
        bound = self.experts.decode(z, cluster).log_prob(x) + self.prior.density(cluster).log_prob(z) - q.log_prob(z)
        return -bound.mean()
