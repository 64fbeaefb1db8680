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

at one draw; the paper takes the second and third in closed form, the second as though r did not depend on z. Its remedy
against clusters that merge, to let the z prior cost nothing below a threshold, is the objective `MinimumInformation`.

Source: N. Dilokthanakul, P. Mediano, M. Garnelo, M. Lee, H. Salimbeni, K. Arulkumaran, M. Shanahan, "Deep unsupervised
clustering with Gaussian mixture variational autoencoders", 2016 (arXiv 1611.02648), section 3. Unlike the paper,
the weights a are learned (there 1/K), and q(w | x) and each cluster's m_k, s_k are networks of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.distributions import DiagonalNormal
from probclust.distributions.softplus import inverse_softplus
from probclust.likelihoods import Likelihood, likelihood_named, n_inputs
from probclust.networks import Codec, GaussianEncoder, StackedMLP, check_sizes, run_experts
from probclust.objectives import MinimumInformation
from probclust.priors import cluster_moments
from probclust.starts import Start, decoder_start
from probclust.story import SVI, Compute, Run, Step, Story


class GMVAE(Story):
    """The Gaussian mixture VAE of Dilokthanakul and others.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim, hidden, likelihood: of z, its encoder and decoder, see `probclust.networks.Codec`.
        w_dim, w_hidden: size of w, and of the hidden layers of q(w | x).
        prior_hidden: sizes of the hidden layers of each cluster's network m_k, s_k.

    Examples:
        >>> import torch, probclust as pc
        >>> story = GMVAE(16, n_clusters=3, latent_dim=2, w_dim=2, hidden=(8,), w_hidden=(8,), prior_hidden=(8,))
        >>> pc.log_joint(story, torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    renamed_state: ClassVar = {  # in the order of earlier checkpoints
        name: Codec.earlier.get(name, name)
        for name in ("encoder", "w_encoder", "prior_networks", "likelihood", "decoder")
    }
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
        encoder = GaussianEncoder(n_seen, hidden, latent_dim)
        self.w_encoder = GaussianEncoder(n_seen, w_hidden, w_dim)
        self.prior_networks = StackedMLP(n_clusters, [w_dim, *prior_hidden, 2 * latent_dim])
        self.codec = Codec(n_features, latent_dim, hidden, part, encoder=encoder)
        self.logits = nn.Parameter(torch.zeros(n_clusters))
        self.w_dim = w_dim

    def model(self, x: Tensor) -> None:
        """p(w) p(cluster) p(z | w, cluster) p(x | z)."""
        with pyro.plate("data", x.shape[0]):
            w = pyro.sample("w", DiagonalNormal(x.new_zeros(x.shape[0], self.w_dim), x.new_ones(1)))
            cluster = pyro.sample("cluster", dist.Categorical(logits=self.logits), infer={"enumerate": "parallel"})
            z = pyro.sample("z", self.prior(w, cluster))
            pyro.sample("x", self.codec.decode(z), obs=x)

    def guide(self, x: Tensor) -> None:
        """q(z | x) q(w | x)."""
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", self.codec.encode(x))
            pyro.sample("w", self.w_encoder(self.codec.inputs(x)))

    def prior(self, w: Tensor, cluster: Tensor) -> Any:
        """p(z | w, cluster)."""
        loc, raw_scale = run_experts(self.prior_networks, w, cluster).chunk(2, -1)
        return DiagonalNormal(loc, self.floor + functional.softplus(raw_scale))

    def recipe(
        self, fit_epochs: int = 20, epochs: int | None = None, minimum_information: float = 0.0, **start: Any
    ) -> list[Step]:
        """Pre-train, start the prior from clusters of the codes, fit to them, then SVI: VaDE's recipe.

        Unlike the paper, which trains from random weights (pretraining="none"), the default has a warm start.

        Args:
            fit_epochs: epochs with the starting clusters held.
            epochs: epochs of SVI; None for 5 after a warm start, else 100.
            minimum_information: nats per row below which the divergence of p(cluster | z, w) from the weights costs
                nothing, see `MinimumInformation`; 0 for none.
            start: see `probclust.starts.Start`.
        """
        objective = MinimumInformation(minimum_information) if minimum_information else "exact"
        alone = SVI(epochs=epochs or 100, learning_rate=1e-3, batch_size=64, objective=objective)
        steps = Start(**start).steps(self, self.codec, own={"none": [alone]}, without=["none"])
        if steps[-1] is not alone:
            steps += [
                Compute(name="prior", run=self._set_prior),
                *decoder_start(self.codec, epochs=fit_epochs),
                SVI.to_labels(fit_epochs),
                SVI(epochs=epochs or 5, learning_rate=2e-4, batch_size=64, objective=objective),
            ]
        return steps

    @torch.no_grad()
    def _set_prior(self, run: Run) -> None:
        """Start as a VaDE: components of each starting cluster's codes, whatever w; codes to unit scale first."""
        codes = self.codec.unit_codes(run.x)
        weights, loc, variance = cluster_moments(codes, run.memory.labels, self.n_clusters)
        self.logits.copy_(weights.log())
        last: Any = self.prior_networks.layers[-1]
        last.weight.zero_()
        last.bias.copy_(torch.cat([loc, inverse_softplus(variance.sqrt() - self.floor)], 1)[:, None])
        self.codec.start_scale(variance)
