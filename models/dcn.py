"""DCN, deep clustering network: an autoencoder and k-means on its codes, trained in turn.

Generative story, for each row, with the precision lambda given:

    cluster ~ Categorical(1/K)
    z | cluster = k ~ Normal(m_k, I / lambda)
    x | z ~ Normal(decoder(z), I / 2)

Guide: z = encoder(x), a point, so that the log joint of row x and cluster k is, up to a constant,

    - (|x - decoder(encoder(x))|^2 + lambda / 2 |encoder(x) - m_k|^2).

Minus the hard objective, its maximum over k, is the paper's loss, equation 6, plus the constant D/2 log(pi) - L/2
log(lambda / (2 pi)) + log K. A point z has no entropy, so none of it is a bound on log p(x): `is_density` is False.

Training goes in turn, batch by batch: a gradient step of encoder and decoder with each row in its nearest cluster; then
the batch's rows are assigned anew, and each moves its centroid by the learning rate 1 / c_k, with c_k the rows that
centroid k has had so far, itself among them: a running mean, as in mini-batch k-means.

Samples: lambda says how much clusters count, not how far codes spread. `fit_codes`, the recipe's last step, fits a
Gaussian to each cluster's codes; `pc.sample` draws from those (Unlike the paper, which draws no samples).

Source: B. Yang, X. Fu, N. Sidiropoulos, M. Hong, "Towards k-means-friendly spaces: simultaneous deep learning and
clustering", ICML 2017 (arXiv 1610.04794), sections 3 and 4. Unlike the paper, the gradient step finds each row's
nearest centroid itself, where the paper keeps the one from the row's last visit; and the c_k start from the sizes of
the starting clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ELBO
from torch import Tensor, nn
from torch.nn import functional

from probclust.data.kinds import ImageShape
from probclust.distributions.diagonal_normal import DiagonalNormal
from probclust.likelihoods import Gaussian, Likelihood, encoder_inputs, likelihood_named, n_inputs, n_outputs, view
from probclust.networks.codes import encode_all, rescale_codes
from probclust.networks.stacked import check_sizes, mlp
from probclust.priors.codes import CodeDensity, cluster_moments
from probclust.starts.pretraining import decoder_start
from probclust.starts.start import FROM_ROWS, chosen_pretraining, pretrained_start
from probclust.story.recipe import START, SVI, Batch, Compute, Run, Step
from probclust.story.rows import admit
from probclust.story.scoring import predict
from probclust.story.story import Story


class DCN(Story):
    """An autoencoder whose codes lie close to K centroids.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim: L, size of the code z.
        hidden: sizes of the encoder's hidden layers; the decoder mirrors them.
        precision: lambda, the weight of the distance to the centroid; the recipe starts from codes of unit scale.
        likelihood: p(x | z): None for the paper's squared error, "gaussian" for one learned scale, "bernoulli", or an
            object like those in `probclust.likelihoods`.

    Examples:
        >>> import torch, probclust as pc
        >>> story = DCN(16, n_clusters=3, latent_dim=2, hidden=(8,))
        >>> pc.log_joint(story, torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    is_density = False
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
        check_sizes(latent_dim, hidden=hidden)
        self.likelihood = likelihood_named(likelihood or Gaussian(n_features, scale=math.sqrt(0.5)), n_features)
        self.encoder = mlp([n_inputs(self.likelihood, n_features), *hidden, latent_dim])
        self.decoder = mlp([latent_dim, *reversed(hidden), n_outputs(self.likelihood, n_features)])
        self.centroids = nn.Parameter(torch.randn(n_clusters, latent_dim))
        self.codes = CodeDensity(n_clusters, latent_dim)
        self.register_buffer("counts", torch.zeros(n_clusters))
        self.register_buffer("uniform", torch.zeros(n_clusters), persistent=False)
        self.register_buffer("code_scale", torch.tensor([precision**-0.5]), persistent=False)

    def model(self, x: Tensor) -> None:
        """p(cluster) p(z | cluster) p(x | z)."""
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", dist.Categorical(logits=self.uniform), infer={"enumerate": "parallel"})
            z = pyro.sample("z", DiagonalNormal(self.centroids[cluster], self.code_scale))
            pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)

    def guide(self, x: Tensor) -> None:
        """The code, a point."""
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Delta(self.encode(x), event_dim=1))

    def generative(self, x: Tensor) -> None:
        """The model with the fitted density of codes in place of the centroids' own: what `pc.sample` draws from.

        Raises:
            ValueError: `fit_codes` has not run.
        """
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", self.codes.clusters())
            z = pyro.sample("z", self.codes(cluster))
            pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)

    def recipe(
        self,
        pretraining: Literal["neighbours", "embedding", "words", "sequence", "autoencoder", "none"] | None = None,
        pretrain_epochs: int | None = None,
        fit_epochs: int | None = None,
        epochs: int = 10,
        image_shape: ImageShape | None = None,
        lengths: Sequence[int] | None = None,
        documents: bool = False,
    ) -> list[Step]:
        """Pre-train, start the centroids by k-means on the codes, fit to that start, then train in turn.

        Unlike the paper, the default pre-trains with neighbours, which shapes the codes' directions; a short fit to
        the clusters of the directions then brings the codes to their centroids. The codes are scaled to a standard
        deviation of 1 first, so that lambda means the same whatever the pre-training.

        Args:
            pretraining: "neighbours"; "embedding" for clusters of a neighbour embedding; "words" for those of documents
                by their words' vectors; "sequence" for those of rows in order that last; "autoencoder" for the paper's,
                with k-means on the codes; or "none" for k-means on x. None for "embedding" where `image_shape` is
                given, "words" of `documents`, "sequence" where `lengths` are, else "neighbours".
            pretrain_epochs: of any; None for 50 of a plain autoencoder, else 15 but at least 4,000 batches, or
                1,500 with neighbours.
            fit_epochs: epochs with the starting clusters and their centroids held; None for 5 with neighbours,
                an embedding, words or a sequence, whose clusters are not those of k-means on the codes, else none.
            epochs: of the training in turn.
            image_shape: height and width where rows are images, whose neighbours the image distortion model then finds.
            lengths: rows of each recording where rows are in order of time, recording after recording.
            documents: whether rows are documents, and columns their words' weights.
        """
        chosen = chosen_pretraining(self, pretraining, image_shape, lengths, documents)
        if fit_epochs is None:
            fit_epochs = 5 if chosen in ("neighbours", *FROM_ROWS) else 0
        networks = [self.encoder, self.decoder, self.likelihood]
        seen = partial(view, self.likelihood)
        fit = SVI(
            name="fit to start",
            epochs=fit_epochs or 1,
            learning_rate=1e-3,
            batch_size=64,
            schedule="constant",
            to_start=True,
            modules=networks,
        )
        return [
            Compute(name="weights", run=lambda run: run.story.redraw()),
            *pretrained_start(
                chosen,
                self.encode,
                lambda z: seen(self.decode(z)),
                [self.encoder, self.decoder],
                pretrain_epochs,
                view=seen,
                image_shape=image_shape,
                lengths=lengths,
            ),
            Compute(name="centroids", run=self._set_centroids),
            *decoder_start(self.encode, self.decoder, self.likelihood),
            *([fit] if fit_epochs else []),
            InTurn(epochs=epochs, learning_rate=5e-4, batch_size=64, modules=networks, objective="hard"),
            Compute(name="codes", run=lambda run: self.fit_codes(run.x)),
        ]

    def encode(self, x: Tensor) -> Tensor:
        """(rows, latent_dim) codes of (rows, n_features)."""
        return self.encoder(encoder_inputs(self.likelihood, x))

    def decode(self, z: Tensor) -> Tensor:
        """(rows, n_features) mean of x given (rows, latent_dim) codes."""
        return self.likelihood(self.decoder(z)).mean

    @torch.no_grad()
    def move_centroids(self, x: Tensor, known: Tensor | None = None) -> None:
        """Assign rows to their nearest centroids, then make each centroid the mean of all the rows it has had.

        One row at a time, m_k <- m_k - (m_k - z) / c_k with c_k raised by one before, gives the same.

        Args:
            x: (rows, n_features), a batch.
            known: (rows,) known clusters, -1 where unknown.
        """
        z = self.encode(x)
        labels = torch.cdist(z, self.centroids).argmin(1)
        if known is not None:
            labels = torch.where(known >= 0, known, labels)
        belongs = functional.one_hot(labels, self.n_clusters).to(z)
        new = belongs.sum(0)
        self.counts.add_(new)
        self.centroids.add_((belongs.T @ z - new[:, None] * self.centroids) / self.counts.clamp(min=1)[:, None])

    @torch.no_grad()
    def fit_codes(self, x: Any) -> None:
        """Fit a Gaussian to the codes of each cluster's rows, and the clusters' weights, for `pc.sample`.

        Args:
            x: (rows, n_features).
        """
        rows = admit(self, x).to(self.device)
        self.codes.fit(encode_all(self.encode, rows), predict(self, rows).to(self.device))

    @torch.no_grad()
    def _set_centroids(self, run: Run) -> None:
        """Centroids and their counts from the codes of each starting cluster; codes to unit scale first."""
        codes = rescale_codes(encode_all(self.encode, run.x), self.encoder[-1], self.decoder)
        self.centroids.copy_(cluster_moments(codes, run.memory[START], self.n_clusters)[1])
        self.counts.copy_(run.memory[START].bincount(minlength=self.n_clusters))


@dataclass(frozen=True, kw_only=True)
class InTurn(SVI):
    """A gradient step of the networks, then one of mini-batch k-means, for each batch."""

    objective: str | ELBO = "hard"

    def after(self, batch: Batch) -> None:
        """Assign the batch's rows and move their centroids."""
        story: Any = batch.run.story
        story.move_centroids(batch.x, None if batch.run.y is None else batch.run.y[batch.index])
