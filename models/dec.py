"""DEC, deep embedded clustering: codes and centres trained towards their own sharpened assignments.

Story, for each row; it conditions on x, and z is a function of it:

    z = encoder(x)
    cluster | z ~ Categorical(q(z)),    q_k(z) proportional to (1 + |z - mu_k|^2)^-1    (equation 1)

so the log joint of a row and cluster k is log q_k(z), and `pc.responsibilities` gives q. It is no density of x. A
factor adds the row's share of the objective, the same for every cluster:

    - KL(p || q),    p_k proportional to q_k^2 / f_k,    f_k = sum over all rows of q_k.    (equations 2, 3)

So `pc.elbo` gives minus the objective of the paper, and restarts are chosen by it. In training p is fixed, renewed
every T batches on all rows, until fewer than a share delta of the rows change cluster in between. The decoder is
pre-trained and then left behind; `pc.reconstruct` shows what it still makes of the codes.

Source: J. Xie, R. Girshick, A. Farhadi, "Unsupervised deep embedding for clustering analysis", ICML 2016 (arXiv
1511.06335), equations 1-5; also equations 2-5 of the IDEC paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.nn import functional

from probclust.data.kinds import ImageShape
from probclust.networks.codes import encode_all, rescale_codes
from probclust.networks.stacked import check_sizes, mlp
from probclust.starts.self_training import TARGET, SelfTraining, divergence, student_t, target_distribution
from probclust.starts.start import chosen_pretraining, pretrained_start
from probclust.story.recipe import START, SVI, Batch, Compute, Run, Step
from probclust.story.story import Story


class DEC(Story):
    """Deep embedded clustering.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim: L, size of the code z.
        hidden: sizes of the encoder's hidden layers; the decoder mirrors them.

    Examples:
        >>> import torch, probclust as pc
        >>> story = DEC(16, n_clusters=3, latent_dim=2, hidden=(8,))
        >>> pc.responsibilities(story, torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    conditional = True
    is_density = False

    spread = 1.0
    """Standard deviation of the codes at the start, in units of the kernel, whose scale is 1."""
    gamma = 1.0
    """Weight of KL(p || q)."""
    reconstruction = 0.0
    """Weight of the mean squared error."""

    log_frequency: Tensor

    def __init__(
        self, n_features: int, n_clusters: int, latent_dim: int = 10, hidden: Sequence[int] = (500, 500, 2000)
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        check_sizes(latent_dim, hidden=hidden)
        self.encoder = mlp([n_features, *hidden, latent_dim])
        self.decoder = mlp([latent_dim, *reversed(hidden), n_features])
        self.centres = nn.Parameter(torch.randn(n_clusters, latent_dim))
        self.register_buffer("log_frequency", torch.zeros(n_clusters))

    def model(self, x: Tensor) -> None:
        """p(cluster | z), the clustering objective, and the reconstruction where it counts."""
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Delta(self.encoder(x), event_dim=1))
            log_q = student_t(z, self.centres)
            pyro.sample("cluster", dist.Categorical(logits=log_q), infer={"enumerate": "parallel"})
            target = target_distribution(log_q.detach(), self.log_frequency)
            pyro.factor("target", -self.gamma * divergence(target, log_q))
            # a Gaussian whose log density is minus the weighted mean squared error, and a constant
            scale = math.sqrt(self.n_features / (2 * (self.reconstruction or 1)))
            with poutine.mask(mask=self.reconstruction > 0):
                pyro.sample("x", dist.Normal(self.decoder(z), scale).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """The code, a point."""
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Delta(self.encoder(x), event_dim=1))

    def recipe(
        self,
        pretraining: Literal["neighbours", "embedding", "words", "sequence", "autoencoder"] | None = None,
        pretrain_epochs: int | None = None,
        fit_epochs: int = 3,
        epochs: int = 100,
        interval: int | None = None,
        delta: float = 1e-3,
        learning_rate: float = 1e-3,
        layerwise_epochs: int = 0,
        noise: float = 0.2,
        image_shape: ImageShape | None = None,
        lengths: Sequence[int] | None = None,
        documents: bool = False,
    ) -> list[Step]:
        """Pre-train, start the centres by k-means on the codes, fit to that start, then train towards the target.

        Unlike the paper, whose pre-training is a stacked denoising autoencoder, the codes are pre-trained with
        neighbours, which shapes their directions; a short fit to the clusters of the directions then makes them those
        of the kernel, which measures distances. With pretraining="autoencoder", fit_epochs=0 and some hundred
        pretrain_epochs and layerwise_epochs it is the paper's way.

        Args:
            pretraining: "neighbours"; "embedding" for clusters of a neighbour embedding, which the codes then follow;
                "words" for those of bags of words by their words' vectors, or "sequence" for those of rows in order
                that last, which the codes follow too; or "autoencoder". None for "embedding" where `image_shape` is
                given, "words" of `documents`, "sequence" where `lengths` are, else "neighbours".
            pretrain_epochs: epochs of any; None for 50 of an autoencoder, else 15 but at least 4,000 batches, or
                1,500 with neighbours.
            fit_epochs: epochs in which each row is trained towards its starting cluster; 0 for none.
            epochs: at most, of the clustering.
            interval: T, batches of 256 from one target to the next; None for half an epoch's, but at least 30.
            delta: share of rows; fewer changes of cluster from one target to the next end the clustering.
            learning_rate: of Adam in the clustering.
            layerwise_epochs: epochs for each layer of the autoencoder on its own, before it is trained whole, with
                pretraining="autoencoder" only; 0 for none.
            noise: share of a layer's inputs dropped in those epochs.
            image_shape: height and width where rows are images, whose neighbours the image distortion model then finds.
            lengths: rows of each recording where rows are in order of time, recording after recording.
            documents: whether rows are documents, and columns their words' weights.
        """
        start = pretrained_start(
            chosen_pretraining(self, pretraining, image_shape, lengths, documents),
            self.encoder,
            self.decoder,
            [self.encoder, self.decoder],
            pretrain_epochs,
            image_shape=image_shape,
            lengths=lengths,
            batch_size=None,
            layerwise_epochs=layerwise_epochs,
            noise=noise,
        )
        fit: list[Step] = []
        if fit_epochs:
            svi = SVI(name="fit to start", epochs=fit_epochs, learning_rate=1e-3, schedule="constant", to_start=True)
            fit.append(svi)
        return [
            Compute(name="weights", run=lambda run: run.story.redraw()),
            *start,
            Compute(name="centres", run=self._set_centres),
            *fit,
            SelfTraining(
                name="clustering",
                assign=self.assign,
                loss=self.loss,
                epochs=epochs,
                interval=interval,
                delta=delta,
                learning_rate=learning_rate,
                separable=True,
            ),
            Compute(name="frequencies", run=self._set_frequencies),
        ]

    def assign(self, x: Tensor) -> Tensor:
        """(rows, K) log q, from (rows, D)."""
        return student_t(self.encoder(x), self.centres)

    def loss(self, batch: Batch) -> Tensor:
        """The clustering loss gamma KL(p || q), p fixed, plus the weighted squared error: means (IDEC, equation 6)."""
        z = self.encoder(batch.x)
        clustering = divergence(batch.run.memory[TARGET][batch.index], student_t(z, self.centres)).mean()
        if self.reconstruction == 0:
            return self.gamma * clustering
        missed = functional.mse_loss(self.decoder(z), batch.x)
        return self.gamma * clustering + self.reconstruction * missed

    @torch.no_grad()
    def _set_centres(self, run: Run) -> None:
        """Centres from the codes of each starting cluster, after the codes are scaled to `spread`."""
        rescale_codes(encode_all(self.encoder, run.x), self.encoder[-1], self.decoder, self.spread)
        codes = encode_all(self.encoder, run.x)
        belongs = functional.one_hot(run.memory[START], self.n_clusters).to(codes)
        self.centres.copy_(belongs.T @ codes / belongs.sum(0)[:, None].clamp(min=1))

    def _set_frequencies(self, run: Run) -> None:
        """Frequencies f of equation 3 from all rows, so that the target of any row is known hereafter."""
        self.log_frequency.copy_(encode_all(self.assign, run.x).logsumexp(0))
