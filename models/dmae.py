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
mixture on h, whose own p(h) the paper leaves out of its loss (equation 7). Mahalanobis' theta is the centre and the
Cholesky factor of S: a mixture of factors is a factor again. Unlike the paper, whose S multiplies h - m, S is inverted,
as in a Gaussian. Nothing in equation 13 keeps S from growing, or codes from shrinking, but that training is short.

`pc.sample` decodes draws from the density exp(-alpha_k V(h, theta_k)) / beta_k of the same dissimilarity, fitted to
each cluster's codes (`CodeSampler`; the paper names that way in its section 3.2, and takes none).

Source: J. S. Lara, F. A. Gonzalez, "Dissimilarity mixture autoencoder for deep clustering", 2020, equations 7-13;
architecture and recipe in its section 4.2 and supplement 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.nn import functional

from probclust.distributions.full_precision import in_full
from probclust.generate.code_sampler import CodeSampler
from probclust.networks import Codec
from probclust.part import fresh
from probclust.priors import CodeDensity, Dissimilarity, cluster_moments, dissimilarity_named, on_sphere
from probclust.starts import Start, fourier_start, kmeans_start, kmedoids_start
from probclust.story import SVI, Compute, Run, Step, admit, evaluating
from probclust.story.chunks import chunks


class DMAE(CodeSampler):
    """The dissimilarity mixture autoencoder.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim: L, size of the code h; None for the shallow variant, which has no networks: h = x.
        hidden, activation: of the networks, see `probclust.networks.Codec`.
        dissimilarity: V: a name that `DissimilarityMixture` takes, or a part of `probclust.dissimilarities` built for
            n_features=latent_dim, whose own alpha counts in the density that samples come from, not in s.
        alpha: inverse temperature of s; the larger, the sparser. Codes are scaled to standard deviation 1 at the start.
        lambda_r, lambda_c: weights of the reconstruction's squared error, 0 to leave it out, and of V(h, theta~).

    Examples:
        >>> import torch, probclust as pc
        >>> pc.responsibilities(DMAE(16, n_clusters=3, latent_dim=2, hidden=(8,)), torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    conditional = True
    is_density = False
    renamed_state = Codec.earlier | CodeDensity.earlier
    code_site = "h"
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
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be a positive number, got {alpha!r}")
        for name, value in (("lambda_r", lambda_r), ("lambda_c", lambda_c)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
        self.alpha, self.lambda_r, self.lambda_c = alpha, lambda_r, lambda_c
        self.deep = latent_dim is not None
        size = n_features if latent_dim is None else latent_dim
        point: Any = {"posterior": "point", "on_sphere": on_sphere(dissimilarity), "shallow": not self.deep}
        self.codec = Codec(n_features, size, hidden or (), likelihood=None, activation=activation, **point)
        self.dissimilarity = dissimilarity_named(dissimilarity, size, n_clusters, learn_alpha="cluster")
        self.bias = nn.Parameter(torch.zeros(n_clusters))
        self.code_density = CodeDensity(n_clusters, fresh(self.dissimilarity))  # which training leaves alone
        self.register_buffer("noise", torch.ones(()))

    def model(self, x: Tensor) -> None:
        """p(cluster | h), the clustering term, and the reconstruction."""
        with pyro.plate("data", x.shape[0]):
            h = pyro.sample("h", self.codec.encode(x))
            log_s = self.log_assignments(h)
            pyro.sample("cluster", dist.Categorical(logits=log_s), infer={"enumerate": "parallel"})
            theta = self.soft_parameters(log_s.exp())
            pyro.factor("clustering", -self.lambda_c * self.dissimilarity.between(h, *theta))
            scale = math.sqrt(1 / (2 * (self.lambda_r or 1)))
            with poutine.mask(mask=self.lambda_r > 0):
                pyro.sample("x", dist.Normal(self.codec.rebuilt(theta[0]), scale).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """The code, a point."""
        with pyro.plate("data", x.shape[0]):
            pyro.sample("h", self.codec.encode(x))

    def log_assignments(self, h: Tensor) -> Tensor:
        """(rows, K) log s, equations 9 and 10."""
        with in_full(h.device):
            return functional.log_softmax(-self.alpha * self.dissimilarity(h) + self.bias, dim=-1)

    def soft_parameters(self, s: Tensor) -> tuple[Tensor, ...]:
        """Theta~, equation 11: each parameter of the dissimilarity, (rows, ...), from (rows, K) assignments."""
        with in_full(s.device):
            return tuple(torch.tensordot(s, theta, 1) for theta in self.dissimilarity.theta)

    def row_of(self, code: Tensor, cluster: Tensor) -> Any:
        """p(x | h), with the noise that `fit_codes` found."""
        return dist.Normal(self.codec.rebuilt(code), self.noise).to_event(1)

    def recipe(self, epochs: int = 30, learning_rate: float = 1e-5, gamma: float = 10.0, **start: Any) -> list[Step]:
        """Pre-train, start theta from clusters of the codes, then train all by equation 13.

        Unlike the paper, the default pre-trains with neighbours, and codes are scaled to standard deviation 1. Most of
        what it gains on k-means is there before the training. The paper's starts are pretraining="autoencoder" (500
        epochs of SGD there), with k-medoids where it takes them, and "fourier", from random Fourier features
        (supplement 7.1); its augmentation of images is `probclust.starts.RotateAndShift`.

        Args:
            epochs: of the training; the paper has 300, and 30 on digits.
            learning_rate: of Adam in the training.
            gamma: of the kernel whose Fourier features are learned.
            start: see `probclust.starts.Start`.
        """
        if not self.deep and start.get("pretraining") is None:
            start["pretraining"] = "none"
        begin = Start(**start)
        if not self.deep and begin.pretraining != "none":
            raise ValueError(f"latent_dim=None leaves nothing to pre-train; got pretraining={begin.pretraining!r}")
        networks = self.codec.mean, self.codec.rebuilt, self.codec.encoder, self.codec.decoder, self.codec.latent_dim
        own = {"fourier": fourier_start(*networks, gamma=gamma, epochs=begin.pretrain_epochs)}

        def clusters(encode: Any) -> Compute:
            if self.dissimilarity.start_by == "k-medoids":
                return kmedoids_start(self.dissimilarity.between, encode=encode)
            return kmeans_start(encode)

        return [
            *begin.steps(self, self.codec, clusters=clusters, own=own),
            Compute(name="parameters", run=self._set_parameters),
            SVI(epochs=epochs, learning_rate=learning_rate, schedule="constant"),
            *self.fit_codes_steps(),
        ]

    @torch.no_grad()
    def fit_codes(self, x: Any) -> None:
        """Fit the dissimilarity's density to the codes of (rows, n_features), and the noise, for `pc.sample`."""
        super().fit_codes(x)
        with evaluating(self, 0):
            missed = [self.codec.rebuilt(self.codec.mean(part)) - part for _, part in chunks(self, admit(self, x))]
        self.noise.copy_(torch.cat([part.square().mean(1) for part in missed]).mean().sqrt().clamp(min=1e-6))

    @torch.no_grad()
    def _set_parameters(self, run: Run) -> None:
        """Theta and the biases from the codes of each starting cluster; codes to unit scale first."""
        codes, labels = self.codec.unit_codes(run.x), run.memory.labels
        self.dissimilarity.start(codes, labels)
        self.bias.copy_(cluster_moments(codes, labels, self.n_clusters)[0].log())
