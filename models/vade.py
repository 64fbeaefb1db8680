"""VaDE, variational deep embedding: a VAE whose latent space is a mixture of Gaussians.

Generative story, for each row:

    cluster ~ Categorical(a)
    z | cluster = k ~ Normal(m_k, diag(s_k^2))
    x | z ~ likelihood(decoder(z))

Guide: q(z | x) = Normal(loc(x), diag(scale(x)^2)), one z shared by all clusters; the cluster is summed out exactly,
so that the log joint of row x and cluster k is

    log p(x | z) + log p(z | k) - log q(z | x) + log a_k,    z ~ q(z | x).

With another `prior`, p(z | cluster = k) is any of `probclust.priors`: a Gaussian with correlations, a Student-t, a
normalising flow on a mixture, or exp(-alpha V(z, theta_k)) / beta_k with V any of `probclust.dissimilarities` (Unlike
the paper, which has the diagonal Gaussian alone). Where that lives on the sphere (cosine), so does q(z | x), a power
spherical distribution.

Source: Z. Jiang, Y. Zheng, H. Tan, B. Tang, H. Zhou, "Variational deep embedding: an unsupervised and generative
approach to clustering", IJCAI 2017 (arXiv 1611.05148), equations 1-6 and 16; architecture in its section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import pyro
import torch
from torch import Tensor, nn

from probclust.data.kinds import ImageShape
from probclust.likelihoods import Likelihood, encoder_inputs, likelihood_named, n_inputs, n_outputs, view
from probclust.networks.architectures import ByRow, Network
from probclust.networks.codes import encode_all, rescale_codes
from probclust.networks.encoders import DirectionEncoder, GaussianEncoder
from probclust.networks.stacked import check_sizes, mlp
from probclust.priors import Prior, on_sphere, prior_named
from probclust.priors.codes import cluster_moments
from probclust.priors.weights import WeightsOption, start_weights, weights_named
from probclust.starts.clusters import directions, gmm_start
from probclust.starts.embedding import embedding_pretraining
from probclust.starts.labels import complete_rows
from probclust.starts.mixture import mixture_start
from probclust.starts.pretraining import decoder_start, neighbour_pretraining, reconstruction_pretraining
from probclust.starts.start import FROM_ROWS, chosen_pretraining, start_from_rows
from probclust.story.global_guide import Kind
from probclust.story.recipe import START, SVI, Compute, Run, Step
from probclust.story.story import Story


class VaDE(Story):
    """Variational deep embedding.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim: L, size of z.
        hidden: sizes of the encoder's hidden layers; the decoder mirrors them.
        likelihood: p(x | z): "gaussian", "bernoulli", or an object like those in `probclust.likelihoods`.
        prior: p(z | cluster): "gaussian" (diagonal), "mahalanobis" (a full Gaussian), "low_rank", "student_t",
            "flow", "latent_tree", "cosine" (von Mises-Fisher), "manhattan" or another name that `DissimilarityMixture`
            takes; or a part of `probclust.priors` or `probclust.dissimilarities`, built for n_features=latent_dim.
        missing: take NaN entries of x as unobserved: the likelihood is that of the others, the encoder sees zeros and
            the mask.
        network: another architecture than perceptrons of `hidden` layers: one of `probclust.networks`, such as
            `Convolutional(8, 8)`, or the user's own.
        weights: p(cluster): "learned", "uniform", "dirichlet", "stick-breaking" (K an upper bound), or a part of
            `probclust.priors.weights`.
        global_guide: posterior of weights that have a prior, see `Story`.

    Examples:
        >>> import torch, probclust as pc
        >>> story = VaDE(16, n_clusters=3, latent_dim=2, hidden=(8,))
        >>> pc.log_joint(story, torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

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
        weights: WeightsOption = "learned",
        global_guide: Kind = "conjugate",
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters, global_guide=global_guide)
        check_sizes(latent_dim, hidden=hidden)
        self.weights = weights_named(weights, n_clusters)
        self.may_empty = self.weights.may_empty
        self.on_sphere = on_sphere(prior)
        self.likelihood = likelihood_named(likelihood, n_features, missing)
        self.missing = missing
        n_seen = n_inputs(self.likelihood, n_features)
        n_out = n_outputs(self.likelihood, n_features)
        self.encoder = (DirectionEncoder if self.on_sphere else GaussianEncoder)(n_seen, hidden, latent_dim, network)
        if network is None:
            self.decoder: nn.Module = mlp([latent_dim, *reversed(hidden), n_out])
        else:
            self.decoder = ByRow(network.decoder(latent_dim, n_out))
        self.prior = prior_named(prior, latent_dim, n_clusters)
        if not self.prior.by_cluster:
            raise ValueError(
                f"VaDE tells clusters apart by their priors, and {type(self.prior).__name__} is the same for all; take "
                "another prior, or MixtureOfVAEs, whose clusters have decoders of their own"
            )
        self.is_density = self.prior.is_density

    def model(self, x: Tensor) -> None:
        """p(cluster) p(z | cluster) p(x | z)."""
        weights = self.weights()
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", weights, infer={"enumerate": "parallel"})
            z = pyro.sample("z", self.prior.density(cluster))
            pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)

    def guide(self, x: Tensor) -> None:
        """q(z | x)."""
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.encoder(encoder_inputs(self.likelihood, x)))

    def recipe(
        self,
        pretraining: Literal["neighbours", "embedding", "words", "sequence", "autoencoder"] | None = None,
        pretrain_epochs: int | None = None,
        fit_epochs: int = 20,
        epochs: int = 5,
        image_shape: ImageShape | None = None,
        lengths: Sequence[int] | None = None,
        documents: bool = False,
    ) -> list[Step]:
        """Pre-train, start the prior from clusters of the codes, fit to them, then SVI.

        Unlike the paper, the default pre-trains with neighbours and starts from k-means on the codes' directions; for
        images, it starts from clusters of a neighbour embedding. For counts, the decoder is fitted to the codes before
        both are (`decoder_start`).

        Args:
            pretraining: "neighbours"; "embedding" for clusters of a neighbour embedding, which the codes then follow;
                "words" for those of bags of words by their words' vectors, or "sequence" for those of rows in order
                that last, which the codes follow too; or "autoencoder" for the paper's: a plain autoencoder (there
                stacked, layer by layer) and a Gaussian mixture on its codes. None for the start of the rows' kind:
                "embedding" where `image_shape` is given, "words" of `documents` and "sequence" where `lengths` are,
                unless clusters may be empty; else "neighbours".
            pretrain_epochs: epochs of any; None for 50 of a plain autoencoder, else 15 but at least 4,000 batches, or
                1,500 with neighbours.
            fit_epochs: epochs with the starting clusters held.
            epochs: epochs of SVI.
            image_shape: height and width where rows are images, whose neighbours the image distortion model then finds.
            lengths: rows of each recording where rows are in order of time, recording after recording.
            documents: whether rows are documents, and columns their words' weights.
        """
        chosen = chosen_pretraining(self, pretraining, image_shape, lengths, documents)
        if chosen not in ("neighbours", *FROM_ROWS, "autoencoder"):
            raise ValueError(
                f"pretraining must be 'neighbours', 'embedding', 'words', 'sequence' or 'autoencoder', got {chosen!r}"
            )
        encode, modules = self.encode, [self.encoder.trunk, self.encoder.loc, self.decoder]
        seen = partial(view, self.likelihood)
        networks = encode, lambda z: seen(self.decode(z)), modules
        start: list[Step]
        if chosen == "neighbours":
            start = neighbour_pretraining(*networks, epochs=pretrain_epochs, view=seen, image_shape=image_shape)
            start.append(mixture_start(self.weights, directions(encode)))
        elif chosen in FROM_ROWS:
            start = [
                start_from_rows(chosen, view=seen, image_shape=image_shape, lengths=lengths),
                embedding_pretraining(*networks, epochs=pretrain_epochs, view=seen),
            ]
        else:
            start = reconstruction_pretraining(*networks, epochs=pretrain_epochs, view=seen)
            start.append(gmm_start(encode))
        return [
            Compute(name="weights", run=lambda run: run.story.redraw()),
            *start,
            Compute(name="prior", run=self._set_prior),
            *decoder_start(self.draw, self.decoder, self.likelihood, epochs=fit_epochs),
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

    def draw(self, x: Tensor) -> Tensor:
        """(rows, latent_dim) draw from q(z | x), from (rows, n_features)."""
        z: Tensor = self.encoder(encoder_inputs(self.likelihood, x)).rsample()
        return z

    def decode(self, z: Tensor) -> Tensor:
        """(rows, n_features) mean of x given (rows, latent_dim) codes."""
        return self.likelihood(self.decoder(z)).mean

    @torch.no_grad()
    def _set_prior(self, run: Run) -> None:
        """The prior's parameters and weights from the codes of each starting cluster; codes to unit scale first."""
        codes = encode_all(self.encode, complete_rows(run))
        if not self.on_sphere:
            codes = rescale_codes(codes, self.encoder.loc, self.decoder)
        shares, _, variance = cluster_moments(codes, run.memory[START], self.n_clusters)
        start_weights(self, shares, len(codes))
        self.prior.start(codes, run.memory[START])
        self.encoder.log_variance.weight.zero_()
        self.encoder.log_variance.bias.copy_(variance.mean(0).log() - 2)
