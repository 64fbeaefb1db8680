"""The MyPrior prior: say in one line what it is for."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.priors.base import Prior


class MyPrior(Prior):
    """z | cluster = k ~ Laplace(m_k, s_k), its columns independent: write the density here.

    Args:
        n_features: L, columns of the code.
        n_clusters: K.
        floor: lower bound of the scales s, in units of the code.

    Source: authors, "Title", year.
    """

    name = "my_prior"  # by which stories take it; nothing else lists it

    def __init__(self, n_features: int, n_clusters: int, floor: float = 0.05) -> None:
        super().__init__(n_features, n_clusters)
        self.floor = floor
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))
        self.raw_scale = nn.Parameter(torch.full((n_clusters, n_features), 0.5))

    @property
    def scale(self) -> Tensor:
        """(K, L) scales, of which the standard deviations are sqrt(2) times."""
        return self.floor + functional.softplus(self.raw_scale)

    def density(self, cluster: Tensor) -> Any:
        """Laplace(m_k, s_k)."""
        return dist.Laplace(self.loc[cluster], self.scale[cluster]).to_event(1)

    @torch.no_grad()
    def start(self, codes: Tensor, labels: Tensor) -> None:
        """The median of each cluster's codes, and their mean distance to it."""
        for k in range(self.n_clusters):
            own = codes[labels == k]
            if len(own):
                self.loc[k] = own.median(0).values
                spread = (own - self.loc[k]).abs().mean(0)
                self.raw_scale[k] = (spread - self.floor).clamp(min=1e-3).expm1().log()
