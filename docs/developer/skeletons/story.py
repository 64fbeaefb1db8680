"""MyStory: say in one line what it tells.

Generative story, for each row:

    cluster ~ Categorical(a)
    x | cluster = k ~ Normal(m_k, diag(s_k^2))

Guide: nothing to say, the cluster is summed out exactly. With a local latent z, write q(z | x) here and in `guide`.

Unlike the paper, ... (one sentence for each departure, and why).

Source: authors, "Title", year, equations.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.priors import Weights, weights_named
from probclust.starts import complete_rows, kmeans_start
from probclust.story import SVI, Compute, Run, Step, Story


class MyStory(Story):
    """A mixture of Gaussians with axes of their own: say what the story is.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        weights: p(cluster), a name or part of `probclust.priors`.
        floor: lower bound of the scales, in units of x.

    Examples:
        >>> import torch, probclust as pc
        >>> story = MyStory(4, n_clusters=3)
        >>> pc.log_joint(story, torch.randn(5, 4)).shape
        torch.Size([5, 3])
    """

    any_scale = True

    def __init__(
        self, n_features: int, n_clusters: int, weights: str | Weights = "learned", floor: float = 0.01
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.floor = floor
        self.weights = weights_named(weights, n_clusters)
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))
        self.raw_scale = nn.Parameter(torch.zeros(n_clusters, n_features))

    @property
    def scale(self) -> Tensor:
        """(K, D) standard deviations."""
        return self.floor + functional.softplus(self.raw_scale)

    def model(self, x: Tensor) -> None:
        """p(cluster) p(x | cluster)."""
        weights = self.weights()
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", weights)
            pyro.sample("x", dist.Normal(self.loc[cluster], self.scale[cluster]).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """Nothing: the cluster is summed out, global latents get an automatic guide."""

    def recipe(self, epochs: int = 20) -> Sequence[Step]:
        """Means and scales of clusters by k-means, then SVI."""
        return [
            kmeans_start(),
            Compute(name="components", run=self._set_components),
            SVI(epochs=epochs, learning_rate=0.01),
        ]

    @torch.no_grad()
    def _set_components(self, run: Run) -> None:
        """The mean and standard deviation of each starting cluster's rows."""
        rows, labels = complete_rows(run), run.memory.labels
        for k in range(self.n_clusters):
            own = rows[labels == k]
            if len(own) > 1:
                self.loc[k] = own.mean(0)
                self.raw_scale[k] = (own.std(0) - self.floor).clamp(min=1e-3).expm1().log()
