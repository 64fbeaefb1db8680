"""GMVAE, the Gaussian mixture VAE whose components depend on a second latent variable.

Generative story, for each row:

    w ~ Normal(0, I)
    cluster ~ Categorical(a)
    z | w, cluster = k ~ Normal(m_k(w), diag(s_k(w)^2)),    one network of w for each cluster
    x | z ~ likelihood(decoder(z))

so p(z | cluster = k) is no single Gaussian but, over w, a mixture of them without end. Guide: q(z | x) q(w | x), both
diagonal Gaussians; the cluster is summed out exactly, so that the log joint of row x and cluster k is

    log p(x | z) + log p(z | w, k) + log a_k - log q(z | x) + log p(w) - log q(w | x),    z, w ~ q.

Its softmax over k is the paper's posterior p(cluster | z, w). With r_k that posterior at the drawn z and w, the exact
objective, the logsumexp over k, is the sum of the four terms of the paper's ELBO:

    log p(x | z)                                        reconstruction
    - sum_k r_k (log q(z | x) - log p(z | w, k))        conditional prior
    - (log q(w | x) - log p(w))                         w prior
    - KL(r || a)                                        z prior (the paper's z is our cluster, its x our z, its y our x)

at one draw; the paper takes the second and third as divergences in closed form, the second as though r did not depend
on z itself.

Where m_k and s_k do not depend on w it is VaDE's. The paper's remedy against clusters that merge, to let the z prior
cost nothing below a threshold (its minimum information constraint), is the objective `MinimumInformation`.

Source: N. Dilokthanakul, P. Mediano, M. Garnelo, M. Lee, H. Salimbeni, K. Arulkumaran, M. Shanahan, "Deep unsupervised
clustering with Gaussian mixture variational autoencoders", 2016 (arXiv 1611.02648), section 3. Unlike the paper,
the weights a are learned (there 1/K), and q(w | x) and each cluster's m_k, s_k are networks of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.data.kinds import ImageShape
from probclust.distributions.diagonal_normal import DiagonalNormal
from probclust.distributions.softplus import inverse_softplus
from probclust.likelihoods import Likelihood, encoder_inputs, likelihood_named, n_inputs, n_outputs, view
from probclust.networks.codes import encode_all, rescale_codes
from probclust.networks.encoders import GaussianEncoder
from probclust.networks.experts import run_experts
from probclust.networks.stacked import StackedMLP, check_sizes, mlp
from probclust.objectives.bounds import Exact
from probclust.priors.codes import cluster_moments
from probclust.starts.pretraining import decoder_start
from probclust.starts.start import chosen_pretraining, pretrained_start
from probclust.story.joint import Joint
from probclust.story.recipe import START, SVI, Compute, Run, Step
from probclust.story.sites import CLUSTER
from probclust.story.story import Story


class GMVAE(Story):
    """The Gaussian mixture VAE of Dilokthanakul and others.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim: L, size of z.
        w_dim: size of w.
        hidden: sizes of the hidden layers of q(z | x); the decoder mirrors them.
        w_hidden: sizes of the hidden layers of q(w | x).
        prior_hidden: sizes of the hidden layers of each cluster's network m_k, s_k.
        likelihood: p(x | z): "gaussian", "bernoulli", or an object like those in `probclust.likelihoods`.

    Examples:
        >>> import torch, probclust as pc
        >>> story = GMVAE(16, n_clusters=3, latent_dim=2, w_dim=2, hidden=(8,), w_hidden=(8,), prior_hidden=(8,))
        >>> pc.log_joint(story, torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    floor = 0.05  # of the prior's standard deviations, in units of the code

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        latent_dim: int = 10,
        w_dim: int = 10,
        hidden: Sequence[int] = (500, 500, 2000),
        w_hidden: Sequence[int] = (500,),
        prior_hidden: Sequence[int] = (100,),
        likelihood: str | Likelihood = "gaussian",
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        check_sizes(latent_dim, hidden=hidden, w_hidden=w_hidden, prior_hidden=prior_hidden)
        part = likelihood_named(likelihood, n_features)
        n_seen = n_inputs(part, n_features)
        self.encoder = GaussianEncoder(n_seen, hidden, latent_dim)
        self.w_encoder = GaussianEncoder(n_seen, w_hidden, w_dim)
        self.prior_networks = StackedMLP(n_clusters, [w_dim, *prior_hidden, 2 * latent_dim])
        self.likelihood = part
        self.decoder = mlp([latent_dim, *reversed(hidden), n_outputs(self.likelihood, n_features)])
        self.logits = nn.Parameter(torch.zeros(n_clusters))
        self.w_dim = w_dim

    def prior(self, w: Tensor, cluster: Tensor) -> Any:
        """p(z | w, cluster)."""
        loc, raw_scale = run_experts(self.prior_networks, w, cluster).chunk(2, -1)
        return DiagonalNormal(loc, self.floor + functional.softplus(raw_scale))

    def model(self, x: Tensor) -> None:
        """p(w) p(cluster) p(z | w, cluster) p(x | z)."""
        with pyro.plate("data", x.shape[0]):
            w = pyro.sample("w", DiagonalNormal(x.new_zeros(x.shape[0], self.w_dim), x.new_ones(1)))
            cluster = pyro.sample("cluster", dist.Categorical(logits=self.logits), infer={"enumerate": "parallel"})
            z = pyro.sample("z", self.prior(w, cluster))
            pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)

    def guide(self, x: Tensor) -> None:
        """q(z | x) q(w | x)."""
        seen = encoder_inputs(self.likelihood, x)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.encoder(seen))
            pyro.sample("w", self.w_encoder(seen))

    def recipe(
        self,
        pretraining: Literal["neighbours", "embedding", "words", "sequence", "autoencoder", "none"] | None = None,
        pretrain_epochs: int | None = None,
        fit_epochs: int = 20,
        epochs: int | None = None,
        minimum_information: float = 0.0,
        image_shape: ImageShape | None = None,
        lengths: Sequence[int] | None = None,
        documents: bool = False,
    ) -> list[Step]:
        """Pre-train, start the prior from clusters of the codes, fit to them, then SVI: VaDE's recipe.

        Unlike the paper, which trains from random weights, the default has a warm start.

        Args:
            pretraining: "neighbours"; "embedding" for clusters of a neighbour embedding; "words" for those of documents
                by their words' vectors; "sequence" for those of rows in order that last; "autoencoder" for one that
                only reconstructs, with k-means on its codes; or "none" for the paper's: SVI alone. None for "embedding"
                where `image_shape` is given, "words" of `documents`, "sequence" where `lengths` are, else "neighbours".
            pretrain_epochs: epochs of any; None for 50 of a plain autoencoder, else 15 but at least 4,000 batches, or
                1,500 with neighbours.
            fit_epochs: epochs with the starting clusters held.
            epochs: epochs of SVI; None for 5 after a warm start, else 100.
            minimum_information: nats per row below which the divergence of p(cluster | z, w) from the weights costs
                nothing, see `MinimumInformation`; 0 for none.
            image_shape: height and width where rows are images, whose neighbours the image distortion model then finds.
            lengths: rows of each recording where rows are in order of time, recording after recording.
            documents: whether rows are documents, and columns their words' weights.
        """
        chosen = chosen_pretraining(self, pretraining, image_shape, lengths, documents)
        objective = MinimumInformation(minimum_information) if minimum_information else "exact"
        weights = Compute(name="weights", run=lambda run: run.story.redraw())
        if chosen == "none":
            return [weights, SVI(epochs=epochs or 100, learning_rate=1e-3, batch_size=64, objective=objective)]
        modules = [self.encoder.trunk, self.encoder.loc, self.decoder]
        seen = partial(view, self.likelihood)
        fit = SVI(
            name="fit to start",
            epochs=fit_epochs,
            learning_rate=1e-3,
            batch_size=64,
            schedule="constant",
            to_start=True,
        )
        return [
            weights,
            *pretrained_start(
                chosen,
                self.encode,
                lambda z: seen(self.decode(z)),
                modules,
                pretrain_epochs,
                view=seen,
                image_shape=image_shape,
                lengths=lengths,
            ),
            Compute(name="prior", run=self._set_prior),
            *decoder_start(self.draw, self.decoder, self.likelihood, epochs=fit_epochs),
            fit,
            SVI(epochs=epochs or 5, learning_rate=2e-4, batch_size=64, objective=objective),
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
        """Start as a VaDE: components of each starting cluster's codes, whatever w; codes to unit scale first."""
        codes = rescale_codes(encode_all(self.encode, run.x), self.encoder.loc, self.decoder)
        weights, loc, variance = cluster_moments(codes, run.memory[START], self.n_clusters)
        self.logits.copy_(weights.log())
        last: Any = self.prior_networks.layers[-1]
        last.weight.zero_()
        last.bias.copy_(torch.cat([loc, inverse_softplus(variance.sqrt() - self.floor)], 1)[:, None])
        self.encoder.log_variance.weight.zero_()
        self.encoder.log_variance.bias.copy_(variance.mean(0).log() - 2)


class MinimumInformation(Exact):
    """The exact bound with KL(p(cluster | latents) || p(cluster)), mean over the batch, counted as `threshold` if less.

    Below the threshold the divergence has no gradient, so that clusters do not merge for the sake of their prior. It
    stays a lower bound on log p(x).

    Args:
        threshold: the paper's lambda, in nats per row; of use up to the entropy of the weights, at most log K.
        n_rows: rows of the whole data set.

    Source: the paper's minimum information constraint, after D. Kingma and others, "Improved variational inference
    with inverse autoregressive flow", 2016.
    """

    name = "minimum information"

    def __init__(self, threshold: float, n_rows: int | None = None) -> None:
        if not threshold >= 0:
            raise ValueError(f"threshold must be a number of at least 0, in nats per row, got {threshold!r}")
        super().__init__(n_rows)
        self.threshold = threshold

    def bound(self, joint: Joint) -> Tensor:
        """(rows,) exact bound, less what the batch's mean divergence lacks of the threshold."""
        log_posterior = joint.table.log_softmax(1)
        log_prior = joint.model[CLUSTER].log_prob.expand(joint.n_clusters, joint.n_rows).T
        divergence = (log_posterior.exp() * (log_posterior - log_prior)).sum(1).mean()
        return super().bound(joint) - functional.relu(self.threshold - divergence)
