"""VaDE, variational deep embedding: a VAE whose latent space is a mixture of Gaussians.

Generative story, for each row:

    cluster ~ Categorical(a)
    z | cluster = k ~ Normal(m_k, diag(s_k^2))
    x | z ~ likelihood(decoder(z))

Guide: q(z | x) = Normal(loc(x), diag(scale(x)^2)), one z shared by all clusters; the cluster is summed out exactly,
so that the log joint of row x and cluster k is

    log p(x | z) + log p(z | k) - log q(z | x) + log a_k,    z ~ q(z | x).

With another `prior`, p(z | cluster = k) = exp(-alpha V(z, theta_k)) / beta_k with V any of `probclust.dissimilarities`
(Unlike the paper, which has the Gaussian alone). Where that lives on the sphere (cosine), so does q(z | x), a power
spherical distribution.

Source: Z. Jiang, Y. Zheng, H. Tan, B. Tang, H. Zhou, "Variational deep embedding: an unsupervised and generative
approach to clustering", IJCAI 2017 (arXiv 1611.05148), equations 1-6 and 16; architecture in its section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import pyro
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.diagonal_normal import DiagonalNormal
from probclust.dissimilarities import Dissimilarity, dissimilarity_named
from probclust.global_guide import Kind
from probclust.likelihoods import Likelihood, encoder_inputs, likelihood_named, n_inputs, n_outputs, view
from probclust.networks import DirectionEncoder, GaussianEncoder, mlp
from probclust.recipe import START, SVI, Compute, Run, Step
from probclust.story import Story
from probclust.warm_start import (
    cluster_moments,
    complete_rows,
    directions,
    encode_all,
    gmm_start,
    inverse_softplus,
    neighbour_pretraining,
    reconstruction_pretraining,
    rescale_codes,
)
from probclust.weights import WeightsOption, start_weights, weights_named


class VaDE(Story):
    """Variational deep embedding.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim: L, size of z.
        hidden: sizes of the encoder's hidden layers; the decoder mirrors them.
        likelihood: p(x | z): "gaussian", "bernoulli", or an object like those in `probclust.likelihoods`.
        prior: p(z | cluster): "gaussian" (diagonal), "mahalanobis" (a full Gaussian), "manhattan", "cosine" or another
            of the names that `DissimilarityMixture` takes, with an alpha for each cluster; or a part of
            `probclust.dissimilarities`, built for n_features=latent_dim.
        missing: take NaN entries of x as unobserved: the likelihood is that of the others, the encoder sees zeros and
            the mask.
        weights: p(cluster): "learned", "uniform", "dirichlet", "stick-breaking" (K an upper bound), or a part of
            `probclust.weights`.
        global_guide: posterior of weights that have a prior, see `Story`.

    Example:
        >>> import torch, probclust as pc
        >>> story = VaDE(16, n_clusters=3, latent_dim=2, hidden=(8,))
        >>> pc.log_joint(story, torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    floor = 0.05  # of the prior's standard deviations, in units of the code

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        latent_dim: int = 10,
        hidden: Sequence[int] = (500, 500, 2000),
        likelihood: str | Likelihood = "gaussian",
        prior: str | Dissimilarity = "gaussian",
        missing: bool = False,
        weights: WeightsOption = "learned",
        global_guide: Kind = "conjugate",
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters, global_guide=global_guide)
        self.weights = weights_named(weights, n_clusters)
        self.may_empty = self.weights.may_empty
        self.dissimilarity: Dissimilarity | None = None
        if prior != "gaussian":
            self.dissimilarity = dissimilarity_named(prior, latent_dim, n_clusters, learn_alpha="cluster")
            self.is_density = self.dissimilarity.is_density
        self.on_sphere = self.dissimilarity is not None and self.dissimilarity.on_sphere
        self.likelihood = likelihood_named(likelihood, n_features, missing)
        self.missing = missing
        n_seen = n_inputs(self.likelihood, n_features)
        self.encoder = (DirectionEncoder if self.on_sphere else GaussianEncoder)(n_seen, hidden, latent_dim)
        self.decoder = mlp([latent_dim, *reversed(hidden), n_outputs(self.likelihood, n_features)])
        if self.dissimilarity is None:
            self.prior_loc = nn.Parameter(torch.randn(n_clusters, latent_dim))
            self.raw_prior_scale = nn.Parameter(torch.full((n_clusters, latent_dim), 0.5))

    def prior(self, cluster: Tensor) -> Any:
        """p(z | cluster)."""
        if self.dissimilarity is not None:
            return self.dissimilarity.density(cluster)
        scale = self.floor + functional.softplus(self.raw_prior_scale)
        return DiagonalNormal(self.prior_loc[cluster], scale[cluster])

    def model(self, x: Tensor) -> None:
        """p(cluster) p(z | cluster) p(x | z)."""
        weights = self.weights()
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", weights)
            z = pyro.sample("z", self.prior(cluster))
            pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)

    def guide(self, x: Tensor) -> None:
        """q(z | x)."""
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.encoder(encoder_inputs(self.likelihood, x)))

    def recipe(
        self,
        pretraining: Literal["neighbours", "autoencoder"] = "neighbours",
        pretrain_epochs: int | None = None,
        fit_epochs: int = 20,
        epochs: int = 5,
    ) -> list[Step]:
        """Pre-train, start the prior from clusters of the codes, fit to them, then SVI.

        Unlike the paper, the default pre-trains with neighbours and starts from k-means on the codes' directions.

        Args:
            pretraining: "neighbours", or "autoencoder" for the paper's: a plain autoencoder (there stacked, layer by
                layer) and a Gaussian mixture on its codes.
            pretrain_epochs: epochs of either; None for 15 and 50.
            fit_epochs: epochs with the starting clusters held.
            epochs: epochs of SVI.
        """
        if pretraining not in ("neighbours", "autoencoder"):
            raise ValueError(f"pretraining must be 'neighbours' or 'autoencoder', got {pretraining!r}")
        encode, modules = self.encode, [self.encoder.trunk, self.encoder.loc, self.decoder]
        seen = partial(view, self.likelihood)
        start: list[Step]
        if pretraining == "neighbours":
            start = neighbour_pretraining(
                encode,
                lambda z: seen(self.decode(z)),
                modules,
                epochs=15 if pretrain_epochs is None else pretrain_epochs,
                view=seen,
            )
            start.append(self.weights.starting_clusters(directions(encode)))
        else:
            start = reconstruction_pretraining(
                encode,
                lambda z: seen(self.decode(z)),
                modules,
                epochs=50 if pretrain_epochs is None else pretrain_epochs,
                view=seen,
            )
            start.append(gmm_start(encode))
        return [
            Compute(name="weights", run=lambda run: run.story.redraw()),
            *start,
            Compute(name="prior", run=self._set_prior),
            SVI(
                name="fit to start",
                epochs=fit_epochs,
                learning_rate=1e-3,
                batch_size=64,
                schedule="constant",
                to_start=True,
            ),
            SVI(epochs=epochs, learning_rate=2e-4, batch_size=64),
        ]

    def encode(self, x: Tensor) -> Tensor:
        """(rows, latent_dim) mean of q(z | x), from (rows, n_features)."""
        return self.encoder.mean(encoder_inputs(self.likelihood, x))

    def decode(self, z: Tensor) -> Tensor:
        """(rows, n_features) mean of x given (rows, latent_dim) codes."""
        return self.likelihood(self.decoder(z)).mean

    @torch.no_grad()
    def _set_prior(self, run: Run) -> None:
        """The prior's parameters and weights from the codes of each starting cluster; codes to unit scale first."""
        codes = encode_all(self.encode, complete_rows(run))
        if not self.on_sphere:
            codes = rescale_codes(codes, self.encoder.loc, self.decoder)
        shares, loc, variance = cluster_moments(codes, run.memory[START], self.n_clusters)
        start_weights(self, shares, len(codes))
        if self.dissimilarity is None:
            self.prior_loc.copy_(loc)
            self.raw_prior_scale.copy_(inverse_softplus(variance.sqrt() - self.floor))
        else:
            self.dissimilarity.start(codes, run.memory[START])
        self.encoder.log_variance.weight.zero_()
        self.encoder.log_variance.bias.copy_(variance.mean(0).log() - 2)
