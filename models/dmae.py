"""DMAE, the dissimilarity mixture autoencoder: a dissimilarity mixture on codes, rows rebuilt from its parameters.

Story, for each row; it conditions on x, and the code h is a function of it:

    h = encoder(x)                                                                            (equation 8)
    cluster | h ~ Categorical(s),    s_k proportional to exp(-alpha V(h, theta_k) + b_k)      (equations 9, 10)
    theta~ = sum_k s_k theta_k                                                                (equation 11)
    x | theta~ ~ Normal(decoder(m~), I / (2 lambda_r)),    m~ the centre in theta~            (equation 12)

and a factor -lambda_c V(h, theta~), so that the log joint of a row and cluster k is

    log s_k - lambda_r ||x - decoder(m~)||^2 - lambda_c V(h, theta~) - D/2 log(pi / lambda_r).

So `pc.responsibilities` gives s, and `pc.elbo` minus the paper's loss (equation 13) of each row, less the constant
D/2 log(pi / lambda_r), which falls away where lambda_r = 0. It is no density of x: s is that of the dissimilarity
mixture on h, whose own p(h) the paper leaves out of its loss (equation 7).

V is any of `probclust.dissimilarities`, and its theta what that needs. Mahalanobis' are the centre and the Cholesky
factor of S: a mixture of factors is a factor again. Unlike the paper, whose S multiplies h - m, S is inverted, as in a
Gaussian, so that it is in the units of a covariance. Nothing in equation 13 keeps S from growing, or the codes from
shrinking, but that training is short and its steps are small.

Samples: the story has no p(x), but decodes codes. `fit_codes`, the recipe's last step, fits the density
exp(-alpha_k V(h, theta_k)) / beta_k of the same dissimilarity to each cluster's codes; `pc.sample` decodes draws from
it (the paper names that way in its section 3.2, and takes none).

Source: J. S. Lara, F. A. Gonzalez, "Dissimilarity mixture autoencoder for deep clustering", 2020, equations 7-13;
architecture and recipe in its section 4.2 and supplement 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.nn import functional

from probclust.data.kinds import ImageShape
from probclust.distributions.full_precision import in_full
from probclust.networks.codes import encode_all, rescale_codes
from probclust.networks.stacked import check_sizes, mlp
from probclust.part import fresh
from probclust.priors.codes import cluster_moments
from probclust.priors.dissimilarities import Dissimilarity, dissimilarity_named
from probclust.starts.fourier import fourier_start
from probclust.starts.medoids import kmedoids_start
from probclust.starts.pretraining import Augment
from probclust.starts.start import chosen_pretraining, pretrained_start
from probclust.story.chunks import chunks, evaluating
from probclust.story.recipe import START, SVI, Compute, Run, Step
from probclust.story.rows import admit
from probclust.story.scoring import predict
from probclust.story.story import Story


class DMAE(Story):
    """The dissimilarity mixture autoencoder.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim: L, size of the code h; None for the shallow variant, which has no networks: h = x.
        hidden: sizes of the encoder's hidden layers; the decoder mirrors them.
        dissimilarity: V: a name that `DissimilarityMixture` takes, or a part of `probclust.dissimilarities` built for
            n_features=latent_dim, such as `Custom` with a function of yours. The part's own alpha counts in the
            density that samples come from, not in s.
        alpha: inverse temperature of s; the larger, the sparser. Codes are scaled to standard deviation 1 at the start.
        lambda_r: weight of the squared error of the reconstruction; 0 leaves it out.
        lambda_c: weight of the clustering term V(h, theta~).
        activation: between the layers: "relu", "elu", "selu", "sigmoid", "softplus" or "swish".

    Examples:
        >>> import torch, probclust as pc
        >>> story = DMAE(16, n_clusters=3, latent_dim=2, hidden=(8,))
        >>> pc.responsibilities(story, torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    conditional = True
    is_density = False
    code_weights: Tensor
    noise: Tensor

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        latent_dim: int | None = 10,
        hidden: Sequence[int] = (500, 500, 2000),
        dissimilarity: str | Dissimilarity = "mahalanobis",
        alpha: float = 1000.0,
        lambda_r: float = 0.01,
        lambda_c: float = 1.0,
        activation: str = "relu",
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        check_sizes(1 if latent_dim is None else latent_dim, hidden=hidden or ())
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be a positive number, got {alpha!r}")
        for name, value in (("lambda_r", lambda_r), ("lambda_c", lambda_c)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
        self.alpha, self.lambda_r, self.lambda_c = alpha, lambda_r, lambda_c
        self.deep = latent_dim is not None
        self.latent_dim = n_features if latent_dim is None else latent_dim
        self.encoder: nn.Module = nn.Identity()
        self.decoder: nn.Module = nn.Identity()
        if self.deep:
            self.encoder = mlp([n_features, *hidden, self.latent_dim], activation)
            self.decoder = mlp([self.latent_dim, *reversed(hidden), n_features], activation)
        self.dissimilarity = dissimilarity_named(dissimilarity, self.latent_dim, n_clusters, learn_alpha="cluster")
        self.bias = nn.Parameter(torch.zeros(n_clusters))
        self.codes: Dissimilarity = fresh(self.dissimilarity)  # `fit_codes` sets it, training does not
        self.register_buffer("code_weights", torch.zeros(n_clusters))  # all zero until `fit_codes`
        self.register_buffer("noise", torch.ones(()))

    def encode(self, x: Tensor) -> Tensor:
        """(rows, L) codes h, of length 1 where the dissimilarity is one of directions."""
        h = self.encoder(x)
        return functional.normalize(h, dim=-1) if self.dissimilarity.on_sphere else h

    def log_assignments(self, h: Tensor) -> Tensor:
        """(rows, K) log s, equations 9 and 10."""
        with in_full(h.device):
            return functional.log_softmax(-self.alpha * self.dissimilarity(h) + self.bias, dim=-1)

    def soft_parameters(self, s: Tensor) -> tuple[Tensor, ...]:
        """Theta~, equation 11: each parameter of the dissimilarity, (rows, ...), from (rows, K) assignments."""
        with in_full(s.device):
            return tuple(torch.tensordot(s, theta, 1) for theta in self.dissimilarity.theta)

    def model(self, x: Tensor) -> None:
        """p(cluster | h), the clustering term, and the reconstruction."""
        with pyro.plate("data", x.shape[0]):
            h = pyro.sample("h", dist.Delta(self.encode(x), event_dim=1))
            log_s = self.log_assignments(h)
            pyro.sample("cluster", dist.Categorical(logits=log_s), infer={"enumerate": "parallel"})
            theta = self.soft_parameters(log_s.exp())
            pyro.factor("clustering", -self.lambda_c * self.dissimilarity.between(h, *theta))
            scale = math.sqrt(1 / (2 * (self.lambda_r or 1)))
            with poutine.mask(mask=self.lambda_r > 0):
                pyro.sample("x", dist.Normal(self.decoder(theta[0]), scale).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """The code, a point."""
        with pyro.plate("data", x.shape[0]):
            pyro.sample("h", dist.Delta(self.encode(x), event_dim=1))

    def generative(self, x: Tensor) -> None:
        """p(cluster) p(h | cluster) p(x | h), from the density of each cluster's codes: what `pc.sample` draws from.

        Raises:
            ValueError: `fit_codes` has not run, or the dissimilarity has no normaliser.
        """
        self._require_density()
        if not self.code_weights.any():
            raise ValueError(
                "DMAE conditions on x, and draws rows from a density of its codes, which has not been fitted; call "
                "story.fit_codes(x) first (the story's own recipe does)"
            )
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", dist.Categorical(self.code_weights))
            h = pyro.sample("h", self.codes.density(cluster))
            pyro.sample("x", dist.Normal(self.decoder(h), self.noise).to_event(1), obs=x)

    def recipe(
        self,
        pretraining: Literal["neighbours", "embedding", "words", "sequence", "autoencoder", "fourier", "none"]
        | None = None,
        pretrain_epochs: int | None = None,
        epochs: int = 30,
        learning_rate: float = 1e-5,
        augment: Augment | None = None,
        gamma: float = 10.0,
        image_shape: ImageShape | None = None,
        lengths: Sequence[int] | None = None,
        documents: bool = False,
    ) -> list[Step]:
        """Pre-train, start theta from clusters of the codes, then train all by equation 13.

        Unlike the paper, the default pre-trains with neighbours, and codes are scaled to standard deviation 1. Most of
        what it gains on k-means is there before the training: neighbours vote on the labels, and the covariances of
        Mahalanobis keep what they decide.

        Args:
            pretraining: "neighbours"; "embedding" for clusters of a neighbour embedding; "words" for those of documents
                by their words' vectors; "sequence" for those of rows in order that last; "autoencoder" for the paper's
                start: an autoencoder that reconstructs, then k-means on its codes, or k-medoids where the paper takes
                it; "fourier" for its start from random Fourier features (supplement 7.1); "none" for clusters of x.
                None for "none" where there are no networks; without `augment` for "embedding" where `image_shape` is
                given, "words" of `documents`, "sequence" where `lengths` are; else for "neighbours".
            pretrain_epochs: of either; None for 50 of an autoencoder (the paper has 500 of SGD), 100 of each network
                with Fourier features, else 15 but at least 4,000 batches, or 1,500 with neighbours.
            epochs: of the training; the paper has 300, and 30 on digits.
            learning_rate: of Adam in the training.
            augment: changes the rows at every step of pre-training; for images, the paper's is
                `probclust.starts.augmentation.RotateAndShift`.
            gamma: of the kernel whose Fourier features are learned.
            image_shape: height and width where rows are images, whose neighbours the image distortion model then finds.
            lengths: rows of each recording where rows are in order of time, recording after recording.
            documents: whether rows are documents, and columns their words' weights.
        """
        if pretraining is None and not self.deep:
            pretraining = "none"
        elif pretraining is None and augment is not None:  # an embedding is of fixed rows
            pretraining = "neighbours"
        chosen = chosen_pretraining(self, pretraining, image_shape, lengths, documents)
        if not self.deep and chosen != "none":
            raise ValueError(f"latent_dim=None leaves nothing to pre-train; got pretraining={chosen!r}")
        start: list[Step]
        if chosen == "fourier":
            if augment is not None:
                raise ValueError("pretraining='fourier' takes no augment: the features are those of fixed rows")
            start = fourier_start(
                self.encode, self.decoder, self.encoder, self.decoder, self.latent_dim,
                gamma=gamma, epochs=pretrain_epochs,
            )  # fmt: skip
        else:
            networks = self.encode, self.decoder, [self.encoder, self.decoder]
            start = pretrained_start(chosen, *networks, pretrain_epochs, augment, image_shape, lengths)
            if chosen in ("autoencoder", "none") and self.dissimilarity.start_by == "k-medoids":
                codes = self.encode if chosen == "autoencoder" else None
                start[-1] = kmedoids_start(self.dissimilarity.between, encode=codes)
        steps = [
            Compute(name="weights", run=lambda run: run.story.redraw()),
            *start,
            Compute(name="parameters", run=self._set_parameters),
            SVI(epochs=epochs, learning_rate=learning_rate, schedule="constant"),
        ]
        if self.codes.is_density:
            steps.append(Compute(name="codes", run=lambda run: self.fit_codes(run.x)))
        return steps

    @torch.no_grad()
    def fit_codes(self, x: Any) -> None:
        """Fit the dissimilarity's density to the codes of each cluster, the weights and the noise, for `pc.sample`.

        Args:
            x: (rows, n_features).

        Raises:
            ValueError: the dissimilarity has no normaliser.
        """
        self._require_density()
        rows = admit(self, x)
        labels = predict(self, rows).to(self.device)
        with evaluating(self, 0):
            codes = torch.cat([self.encode(batch) for _, batch in chunks(self, rows)])
            missed = [(self.decoder(codes[p]) - batch).square().mean(1) for p, batch in chunks(self, rows)]
        self.codes.start(codes, labels)
        self.code_weights.copy_(labels.bincount(minlength=self.n_clusters) / len(labels))
        self.noise.copy_(torch.cat(missed).mean().sqrt().clamp(min=1e-6))

    def _require_density(self) -> None:
        if not self.codes.is_density:
            raise ValueError(
                f"{type(self.codes).__name__} has no normaliser, so there is no density of codes to draw from; use a "
                "named dissimilarity, or pc.reconstruct"
            )

    @torch.no_grad()
    def _set_parameters(self, run: Run) -> None:
        """Theta and the biases from the codes of each starting cluster; codes to unit scale first."""
        codes, labels = encode_all(self.encode, run.x), run.memory[START]
        if isinstance(self.encoder, nn.Sequential) and not self.dissimilarity.on_sphere:
            codes = rescale_codes(codes, self.encoder[-1], self.decoder)
        self.dissimilarity.start(codes, labels)
        self.bias.copy_(cluster_moments(codes, labels, self.n_clusters)[0].log())
