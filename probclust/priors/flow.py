"""The flow prior: clusters of any shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import AffineCoupling, Permute
from pyro.nn import DenseNN
from torch import Tensor, nn

from probclust.priors.gaussian import DiagonalGaussian


class Flow(DiagonalGaussian):
    """z = T(u), u | cluster = k ~ Normal(m_k, diag(s_k^2)): clusters bent by a normalising flow T that they share.

    log p(z | k) = log Normal(u; m_k, s_k) - log |det dT/du| with u = T^-1(z), which is found once for all clusters. T
    is a chain of affine couplings (RealNVP), each of which shifts and scales half of the columns by a network of the
    others, so that densities and draws take one pass. At the start T is the identity. `ZukoFlow` has other maps.

    Args:
        n_features: L, columns of the code, at least 2.
        n_clusters: K.
        n_couplings: couplings, even, so that each column is moved as often as any other.
        hidden: sizes of each coupling's hidden layers.
        floor: lower bound of the standard deviations s, in units of u.

    Source: L. Dinh, J. Sohl-Dickstein, S. Bengio, "Density estimation using Real NVP", 2017; on a Gaussian mixture:
    P. Izmailov and others, "Semi-supervised learning with normalizing flows", 2020.
    """

    name = "flow"
    backwards: Tensor

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        n_couplings: int = 4,
        hidden: Sequence[int] = (64,),
        floor: float = 0.05,
    ) -> None:
        super().__init__(n_features, n_clusters, floor)
        if n_features < 2:
            raise ValueError(f"a flow of couplings needs at least 2 columns, got n_features={n_features}")
        if n_couplings < 2 or n_couplings % 2:
            raise ValueError(f"n_couplings must be even and at least 2, got {n_couplings!r}")
        self.split = n_features // 2
        moved = n_features - self.split
        self.networks = nn.ModuleList()
        for _ in range(n_couplings):
            network = DenseNN(self.split, list(hidden), [moved, moved])
            for parameter in list(network.parameters())[-2:]:  # of the last layer: a shift of 0 and a scale of 1
                nn.init.zeros_(parameter)
            self.networks.append(network)
        self.register_buffer("backwards", torch.arange(n_features).flip(0), persistent=False)

    def transforms(self) -> list[Any]:
        """T, built anew: Pyro's couplings keep what they last computed, and a story keeps parameters only."""
        steps = []
        for network in self.networks:
            steps += [AffineCoupling(self.split, network), Permute(self.backwards)]
        return steps

    def density(self, cluster: Tensor) -> Any:
        """A transformed normal distribution."""
        return dist.TransformedDistribution(super().density(cluster), self.transforms())
