"""Stories of waiting times, written from probclust's story contract alone."""

import pyro
import pyro.distributions as dist
import torch

import probclust as pc


class WaitingTimes(pc.Story):
    """A mixture of Gamma-distributed waiting times.

    Args:
        n_features: columns of x, positive times.
        n_clusters: K.
        shape: concentration of all the Gamma distributions.
    """

    def __init__(self, n_features, n_clusters, shape=2.0):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.shape = shape
        self.logits = torch.nn.Parameter(torch.zeros(n_clusters))
        self.log_rate = torch.nn.Parameter(torch.randn(n_clusters, n_features))

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", dist.Categorical(logits=self.logits))
            times = dist.Gamma(self.shape, self.log_rate[cluster].exp())
            pyro.sample("times", times.to_event(1), obs=x)

    def guide(self, x):
        pass
