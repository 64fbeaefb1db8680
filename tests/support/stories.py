"""Stories as a stranger writes them, from the contract alone; the tests treat them as they treat ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.nn.functional import softplus

import probclust as pc


class Poissons(pc.Story):
    def __init__(self, n_features, n_clusters):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.logits = nn.Parameter(torch.randn(n_clusters))
        self.log_rate = nn.Parameter(torch.randn(n_clusters, n_features))

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(logits=self.logits))
            pyro.sample("x", dist.Poisson(self.log_rate[k].exp()).to_event(1), obs=x)

    def guide(self, x):
        pass


class VonMises(pc.Story):
    """Angles."""

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.logits = nn.Parameter(torch.zeros(n_clusters))
        self.loc = nn.Parameter(math.pi * (2 * torch.rand(n_clusters, n_features) - 1))
        self.raw_concentration = nn.Parameter(torch.full((n_clusters, n_features), 3.0))

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(logits=self.logits))
            angle = dist.VonMises(self.loc[k], softplus(self.raw_concentration)[k])
            pyro.sample("angle", angle.to_event(1), obs=x)

    def guide(self, x):
        pass


class FactorAnalysers(pc.Story):
    """z given the cluster: an encoder for each."""

    def __init__(self, n_features, n_clusters, latent_dim=2):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.latent_dim = latent_dim
        self.logits = nn.Parameter(torch.randn(n_clusters))
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))
        self.loading = nn.Parameter(torch.randn(n_clusters, n_features, latent_dim))
        self.log_noise = nn.Parameter(torch.full((n_features,), -1.0))
        self.encoder = nn.Parameter(0.1 * torch.randn(n_clusters, latent_dim, n_features))
        self.log_scale = nn.Parameter(torch.full((n_clusters, latent_dim), -0.5))

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(logits=self.logits))
            z = pyro.sample("z", dist.Normal(torch.zeros(self.latent_dim), 1.0).to_event(1))
            loc = self.loc[k] + (self.loading[k] @ z[..., None]).squeeze(-1)
            pyro.sample("x", dist.Normal(loc, self.log_noise.exp()).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            loc = (self.encoder[k] @ (x - self.loc[k])[..., None]).squeeze(-1)
            pyro.sample("z", dist.Normal(loc, self.log_scale[k].exp()).to_event(1))


class SharedFactors(FactorAnalysers):
    """One z for all clusters, as VaDE has it: the guide knows no cluster."""

    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(x @ self.encoder[0].T, self.log_scale[0].exp()).to_event(1))


class Mixed(pc.Story):
    """Binary columns first, then real ones: two observed sites."""

    def __init__(self, n_binary, n_real, n_clusters):
        super().__init__(n_features=n_binary + n_real, n_clusters=n_clusters)
        self.n_binary = n_binary
        self.logits = nn.Parameter(torch.zeros(n_clusters))
        self.binary_logits = nn.Parameter(torch.randn(n_clusters, n_binary))
        self.loc = nn.Parameter(torch.randn(n_clusters, n_real))
        self.log_scale = nn.Parameter(torch.zeros(n_clusters, n_real))

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(logits=self.logits))
            binary = dist.Bernoulli(logits=self.binary_logits[k]).to_event(1)
            pyro.sample("answers", binary, obs=x[:, : self.n_binary])
            real = dist.Normal(self.loc[k], self.log_scale[k].exp()).to_event(1)
            pyro.sample("measures", real, obs=x[:, self.n_binary :])

    def guide(self, x):
        pass


class Bayesian(pc.Story):
    """Priors over the weights and the components; the guide leaves them to the automatic one."""

    def __init__(self, n_features, n_clusters, concentration=2.0, global_guide="map"):
        super().__init__(n_features=n_features, n_clusters=n_clusters, global_guide=global_guide)
        self.concentration = concentration

    def model(self, x):
        shape = [self.n_clusters, self.n_features]
        weights = pyro.sample("weights", dist.Dirichlet(torch.full(shape[:1], self.concentration)))
        loc = pyro.sample("loc", dist.Normal(0.0, 3.0).expand(shape).to_event(2))
        precision = pyro.sample("precision", dist.Gamma(4.0, 2.0).expand(shape).to_event(2))
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(loc[k], precision[k].rsqrt()).to_event(1), obs=x)

    def guide(self, x):
        pass


class Amortised(FactorAnalysers):
    """q(cluster | x) of its own: a gate, which the amortised objective trains."""

    def __init__(self, n_features, n_clusters, latent_dim=2):
        super().__init__(n_features, n_clusters, latent_dim)
        self.gate = nn.Linear(n_features, n_clusters)

    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(logits=self.gate(x)))
            loc = (self.encoder[k] @ (x - self.loc[k])[..., None]).squeeze(-1)
            pyro.sample("z", dist.Normal(loc, self.log_scale[k].exp()).to_event(1))


@dataclass(frozen=True)
class Case:
    """A story, and rows that it could have told."""

    name: str
    build: Callable[[], pc.Story]
    draw: Callable[[int], torch.Tensor]
    observed: tuple[str, ...] = ("x",)
    objective: str = "exact"

    def rows(self, n: int = 11) -> torch.Tensor:
        """(n, features) in torch's default dtype, the same ones at every call."""
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return self.draw(n)


def _normal(n):
    return 2 * torch.randn(n, 4)


def _mixed(n):
    return torch.cat([torch.bernoulli(torch.full((n, 3), 0.5)), torch.randn(n, 2)], 1)


CASES = [
    Case("poissons", lambda: Poissons(4, 3), lambda n: torch.poisson(torch.full((n, 4), 2.0))),
    Case("von-mises", lambda: VonMises(2, 3), lambda n: math.pi * (2 * torch.rand(n, 2) - 1), ("angle",)),
    Case("factor-analysers", lambda: FactorAnalysers(4, 3), _normal),
    Case("shared-factors", lambda: SharedFactors(4, 3), _normal),
    Case("mixed", lambda: Mixed(3, 2, n_clusters=3), _mixed, ("answers", "measures")),
    Case("bayesian-map", lambda: Bayesian(4, 3), _normal),
    Case("bayesian-normal", lambda: Bayesian(4, 3, global_guide="normal"), _normal),
    Case("amortised", lambda: Amortised(4, 3), _normal, objective="amortised"),
]
CASE_NAMES = [case.name for case in CASES]
LATENT = {"factor-analysers", "shared-factors", "amortised"}
"""Cases with local latents beside the cluster."""
GUIDED = {"factor-analysers", "amortised"}
"""Cases whose guide has the cluster."""
