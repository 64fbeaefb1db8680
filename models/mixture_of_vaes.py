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
from functools import partial
from typing import Literal

import pyro
import torch
from torch import Tensor, nn

from probclust.data.kinds import ImageShape
from probclust.fitting.fitting import fit
from probclust.likelihoods import Likelihood, encoder_inputs, likelihood_named, n_inputs, n_outputs, n_view, view
from probclust.models.vade import VaDE
from probclust.networks.architectures import Network, stacked_decoder, stacked_trunk
from probclust.networks.encoders import StackedGaussianEncoder
from probclust.networks.experts import every_cluster, run_experts
from probclust.networks.stacked import Autoencoder, StackedMLP, check_sizes, redraw
from probclust.part import fresh
from probclust.priors import Prior, prior_named
from probclust.priors.weights import WeightsOption, start_weights, weights_named
from probclust.starts.clusters import directions, kmeans_start
from probclust.starts.experts import own_rows
from probclust.starts.mixture import mixture_start
from probclust.starts.pretraining import neighbour_pretraining
from probclust.starts.start import FROM_ROWS, chosen_pretraining, start_from_rows
from probclust.story.global_guide import Kind
from probclust.story.recipe import START, SVI, Batch, Compute, Run, Step, Train
from probclust.story.story import Story


class MixtureOfVAEs(Story):
    """A mixture of variational autoencoders, its experts run as one stacked network.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim: L, size of each expert's z.
        hidden: sizes of each encoder's hidden layers; the decoders mirror them.
        likelihood: p(x | z, cluster): "gaussian", "bernoulli", or an object like those in `probclust.likelihoods`.
        prior: p(z | cluster): "standard" (the paper's Normal(0, I)), "student_t", "flow" or another of
            `probclust.priors`, which then learns beside the decoders; or a part.
        weights: p(cluster): "learned", "uniform" (the paper's equation 6), "dirichlet", "stick-breaking" (K an
            upper bound), or a part of `probclust.priors.weights`.
        missing: take NaN entries of x as unobserved: the likelihood is that of the others, the encoders see zeros and
            the mask.
        network: another architecture than perceptrons of `hidden` layers, for each expert: one of
            `probclust.networks.architectures`, such as `Convolutional(8, 8)`, or the user's own.
        global_guide: posterior of weights that have a prior, see `Story`.

    Examples:
        >>> import torch, probclust as pc
        >>> story = MixtureOfVAEs(16, n_clusters=3, latent_dim=2, hidden=(8,))
        >>> pc.log_joint(story, torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        latent_dim: int = 10,
        hidden: Sequence[int] = (500, 100),
        likelihood: str | Likelihood = "gaussian",
        prior: str | Prior = "standard",
        weights: WeightsOption = "learned",
        missing: bool = False,
        network: Network | None = None,
        global_guide: Kind = "conjugate",
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters, global_guide=global_guide)
        check_sizes(latent_dim, hidden=hidden)
        self.weights = weights_named(weights, n_clusters)
        self.may_empty = self.weights.may_empty
        self.latent_dim = latent_dim
        self.likelihood = likelihood_named(likelihood, n_features, missing)
        self.missing = missing
        n_seen = n_inputs(self.likelihood, n_features)
        n_out = n_outputs(self.likelihood, n_features)
        if network is None:
            self.encoders = StackedGaussianEncoder(n_clusters, n_seen, hidden, latent_dim)
            self.decoders: nn.Module = StackedMLP(n_clusters, [latent_dim, *reversed(hidden), n_out])
        else:
            trunk = stacked_trunk(network, n_clusters, n_seen)
            self.encoders = StackedGaussianEncoder(n_clusters, n_seen, (), latent_dim, trunk, network.n_hidden)
            self.decoders = stacked_decoder(network, n_clusters, latent_dim, n_out)
        self.prior = prior_named(prior, latent_dim, n_clusters)
        if self.prior.on_sphere:
            raise ValueError(
                f"the encoders of MixtureOfVAEs are Gaussian, and codes of {type(self.prior).__name__} must have "
                "length 1; take another prior, or VaDE"
            )
        self.is_density = self.prior.is_density

    def model(self, x: Tensor) -> None:
        """p(cluster) p(z) p(x | z, cluster)."""
        weights = self.weights()
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", weights, infer={"enumerate": "parallel"})
            z = pyro.sample("z", self.prior.density(cluster))
            pyro.sample("x", self.likelihood(run_experts(self.decoders, z, cluster)), obs=x)

    def guide(self, x: Tensor) -> None:
        """q(z | x, cluster) of every cluster; the objectives find the optimal q(cluster | x)."""
        cluster = every_cluster(self.n_clusters)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.encoders(encoder_inputs(self.likelihood, x), cluster))

    def recipe(
        self,
        pretraining: Literal["neighbours", "embedding", "words", "sequence", "vade"] | None = None,
        pretrain_epochs: int | None = None,
        fit_epochs: int = 20,
        epochs: int = 5,
        image_shape: ImageShape | None = None,
        lengths: Sequence[int] | None = None,
        documents: bool = False,
    ) -> list[Step]:
        """Cluster the codes of a pre-trained network, fit each expert to its cluster, then SVI.

        Unlike the paper, the default clusters the codes of an autoencoder pre-trained with neighbours, and images by a
        neighbour embedding.

        Args:
            pretraining: "neighbours"; "embedding" for clusters of a neighbour embedding; "words" for those of documents
                by their words' vectors; "sequence" for those of rows in order that last; or "vade" for the paper's
                start: k-means on the embedding of a VaDE, itself fitted by its own paper's recipe. None for the start
                of the rows' kind: "embedding" where `image_shape` is given, "words" of `documents` and "sequence" where
                `lengths` are, unless clusters may be empty; else "neighbours".
            pretrain_epochs: epochs of the autoencoder, or of VaDE's; None for their defaults.
            fit_epochs: epochs of each expert on its own cluster.
            epochs: epochs of SVI.
            image_shape: height and width where rows are images, whose neighbours the image distortion model then finds.
            lengths: rows of each recording where rows are in order of time, recording after recording.
            documents: whether rows are documents, and columns their words' weights.
        """
        chosen = chosen_pretraining(self, pretraining, image_shape, lengths, documents)
        if chosen not in ("neighbours", *FROM_ROWS, "vade"):
            raise ValueError(
                f"pretraining must be 'neighbours', 'embedding', 'words', 'sequence' or 'vade', got {chosen!r}"
            )
        sizes = n_inputs(self.likelihood, self.n_features), n_view(self.likelihood, self.n_features)
        autoencoder = Autoencoder(sizes[0], (500, 500, 2000), self.latent_dim, sizes[1])

        def draw_weights(run: Run) -> None:
            self.redraw()
            redraw(autoencoder)

        def encode(x: Tensor) -> Tensor:
            return autoencoder.encoder(encoder_inputs(self.likelihood, x))

        def cluster_vade(run: Run) -> None:
            vade = VaDE(
                self.n_features,
                self.n_clusters,
                self.latent_dim,
                likelihood=fresh(self.likelihood),
                missing=self.missing,
            )
            recipe = vade.recipe("autoencoder", pretrain_epochs)
            fit(vade, run.x.cpu(), seed=run.seed, recipe=recipe, device=str(run.x.device), progress=False)
            kmeans_start(vade.encode).run(run)

        start: list[Step] = [Compute(name="start", run=cluster_vade)]
        if chosen == "neighbours":
            start = neighbour_pretraining(
                encode,
                autoencoder.decoder,
                [autoencoder],
                epochs=pretrain_epochs,
                view=partial(view, self.likelihood),
                image_shape=image_shape,
            )
            start.append(mixture_start(self.weights, directions(encode)))
        elif chosen in FROM_ROWS:
            start = [
                start_from_rows(chosen, view=partial(view, self.likelihood), image_shape=image_shape, lengths=lengths)
            ]
        if self.weights.has_prior:  # its posterior then follows from the start; learned weights begin uniform
            start.append(Compute(name="mixture weights", run=self._start_weights))
        return [
            Compute(name="weights", run=draw_weights),
            *start,
            Train(name="experts", loss=self._experts_loss, epochs=fit_epochs, learning_rate=2e-3, batch_size=64),
            SVI(epochs=epochs, learning_rate=5e-4, batch_size=64),
        ]

    def _start_weights(self, run: Run) -> None:
        counts = run.memory[START].bincount(minlength=self.n_clusters) + 1e-3
        start_weights(self, counts / counts.sum(), len(run.x))

    def _experts_loss(self, batch: Batch) -> Tensor:
        """Minus the ELBO of each VAE on rows of its own starting cluster, mean over rows: no other pair is computed."""
        x = own_rows(batch)
        cluster = torch.arange(self.n_clusters, device=x.device)[:, None]
        q = self.encoders(encoder_inputs(self.likelihood, x), cluster)
        z = q.rsample()
        prior = self.prior.density(cluster)
        bound = self.likelihood(self.decoders(z)).log_prob(x) + prior.log_prob(z) - q.log_prob(z)
        return -bound.mean()
