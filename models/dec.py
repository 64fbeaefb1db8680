"""DEC, deep embedded clustering: codes and centres trained towards their own sharpened assignments.

Story, for each row; it conditions on x, and z is a function of it:

    z = encoder(x)
    cluster | z ~ Categorical(q(z)),    q_k(z) proportional to (1 + |z - mu_k|^2)^-1    (equation 1)

so the log joint of a row and cluster k is log q_k(z), and `pc.responsibilities` gives q. It is no density of x. A
factor adds the row's share of the objective, the same for every cluster:

    - KL(p || q),    p_k proportional to q_k^2 / f_k,    f_k = sum over all rows of q_k.    (equations 2, 3)

So `pc.elbo` gives minus the objective of the paper. In training p is fixed, renewed every T batches on all rows, until
fewer than a share delta of the rows change cluster in between. The decoder is pre-trained and then left behind.

Source: J. Xie, R. Girshick, A. Farhadi, "Unsupervised deep embedding for clustering analysis", ICML 2016 (arXiv
1511.06335), equations 1-5; also equations 2-5 of the IDEC paper.
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

from probclust.networks import Codec, encode_all
from probclust.starts import SelfTraining, Start, divergence, student_t, target_distribution
from probclust.story import SVI, Batch, Compute, Run, Step, Story


class DEC(Story):
    """Deep embedded clustering.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim, hidden: of the code z, see `probclust.networks.Codec`.

    Examples:
        >>> import torch, probclust as pc
        >>> pc.responsibilities(DEC(16, n_clusters=3, latent_dim=2, hidden=(8,)), torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    conditional = True
    is_density = False
    renamed_state = Codec.earlier

    spread = 1.0  # standard deviation of the codes at the start, in units of the kernel, whose scale is 1
    gamma = 1.0  # weight of KL(p || q)
    reconstruction = 0.0  # weight of the mean squared error

    log_frequency: Tensor

    def __init__(
        self, n_features: int, n_clusters: int, latent_dim: int = 10, hidden: Sequence[int] = (500, 500, 2000)
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.codec = Codec(n_features, latent_dim, hidden, likelihood=None, posterior="point")
        self.centres = nn.Parameter(torch.randn(n_clusters, latent_dim))
        self.register_buffer("log_frequency", torch.zeros(n_clusters))

    def model(self, x: Tensor) -> None:
        """p(cluster | z), the clustering objective, and the reconstruction where it counts."""
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", self.codec.encode(x))
            log_q = student_t(z, self.centres)
            pyro.sample("cluster", dist.Categorical(logits=log_q), infer={"enumerate": "parallel"})
            target = target_distribution(log_q.detach(), self.log_frequency)
            pyro.factor("target", -self.gamma * divergence(target, log_q))
            # a Gaussian whose log density is minus the weighted mean squared error, and a constant
            scale = math.sqrt(self.n_features / (2 * (self.reconstruction or 1)))
            with poutine.mask(mask=self.reconstruction > 0):
                pyro.sample("x", dist.Normal(self.codec.rebuilt(z), scale).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """The code, a point."""
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.codec.encode(x))

    def recipe(
        self,
        fit_epochs: int = 3,
        epochs: int = 100,
        interval: int | None = None,
        delta: float = 1e-3,
        learning_rate: float = 1e-3,
        **start: Any,
    ) -> list[Step]:
        """Pre-train, start the centres from clusters of the codes, fit to that start, then train towards the target.

        Unlike the paper, whose pre-training is a stacked denoising autoencoder (pretraining="autoencoder", some hundred
        pretrain_epochs and layerwise_epochs, and fit_epochs=0), the codes are pre-trained with neighbours, which shapes
        their directions; a short fit to their clusters then makes them those of the kernel, which measures distances.

        Args:
            fit_epochs: epochs in which each row is trained towards its starting cluster; 0 for none.
            epochs: at most, of the clustering.
            interval: T, batches of 256 from one target to the next; None for half an epoch's, but at least 30.
            delta: share of rows; fewer changes of cluster from one target to the next end the clustering.
            learning_rate: of Adam in the clustering.
            start: see `probclust.starts.Start`; noise is 0.2, and batches of an autoencoder are `fit`'s.
        """
        if start.get("pretraining") == "autoencoder":
            start = {"noise": 0.2, "batch_size": None} | start
        training: dict[str, Any] = {"interval": interval, "delta": delta, "learning_rate": learning_rate}
        return [
            *Start(**start).steps(self, self.codec),
            Compute(name="centres", run=self._set_centres),
            *([SVI.to_labels(fit_epochs, batch_size=None)] if fit_epochs else []),
            SelfTraining(
                name="clustering", assign=self.assign, loss=self.loss, epochs=epochs, separable=True, **training
            ),
            Compute(name="frequencies", run=self._set_frequencies),
        ]

    def assign(self, x: Tensor) -> Tensor:
        """(rows, K) log q, from (rows, D)."""
        return student_t(self.codec.mean(x), self.centres)

    def loss(self, batch: Batch) -> Tensor:
        """The clustering loss gamma KL(p || q), p fixed, plus the weighted squared error: means (IDEC, equation 6)."""
        z = self.codec.mean(batch.x)
        clustering = divergence(batch.run.memory.target[batch.index], student_t(z, self.centres)).mean()
        if self.reconstruction == 0:
            return self.gamma * clustering
        return self.gamma * clustering + self.reconstruction * functional.mse_loss(self.codec.rebuilt(z), batch.x)

    @torch.no_grad()
    def _set_centres(self, run: Run) -> None:
        """Centres from the codes of each starting cluster, after the codes are scaled to `spread`."""
        self.codec.unit_codes(run.x, self.spread)
        codes = self.codec.codes(run.x)
        belongs = functional.one_hot(run.memory.labels, self.n_clusters).to(codes)
        self.centres.copy_(belongs.T @ codes / belongs.sum(0)[:, None].clamp(min=1))

    def _set_frequencies(self, run: Run) -> None:
        """Frequencies f of equation 3 from all rows, so that the target of any row is known hereafter."""
        self.log_frequency.copy_(encode_all(self.assign, run.x).logsumexp(0))
