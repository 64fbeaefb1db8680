"""Encoders: q(z | x) as Gaussian or as direction, of one code or of one for each cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from probclust.distributions.diagonal_normal import DiagonalNormal
from probclust.distributions.directions import PowerSpherical
from probclust.networks.experts import run_experts
from probclust.networks.stacked import StackedLinear, StackedMLP, checked_network, mlp


class GaussianEncoder(nn.Module):
    """q(z | x) = Normal(loc(x), diag(scale(x)^2)): a perceptron, or another trunk, with two heads.

    Args:
        n_features: D.
        hidden: sizes of the hidden layers.
        latent_dim: L.
        network: an architecture (see `probclust.networks.architectures`) that builds the trunk, instead of `hidden`.
    """

    def __init__(self, n_features: int, hidden: Sequence[int], latent_dim: int, network: Any = None) -> None:
        super().__init__()
        if network is not None:
            self.trunk: nn.Module = checked_network(network).trunk(n_features)
            n_hidden = network.n_hidden
        else:
            self.trunk = nn.Sequential(mlp([n_features, *hidden]), nn.ReLU()) if hidden else nn.Identity()
            n_hidden = [n_features, *hidden][-1]
        self.loc = nn.Linear(n_hidden, latent_dim)
        self.log_variance = nn.Linear(n_hidden, latent_dim)

    def mean(self, x: Tensor) -> Tensor:
        """(rows, L) mean of q(z | x), from (rows, D)."""
        return self.loc(self.trunk(x))

    def forward(self, x: Tensor) -> Any:
        """Distribution of z, batch (rows,) and event (L,), from (rows, D)."""
        h = self.trunk(x)
        return DiagonalNormal(self.loc(h), bounded_scale(self.log_variance(h)))


class DirectionEncoder(GaussianEncoder):
    """q(z | x) = PowerSpherical(loc(x), concentration(x)): a `GaussianEncoder` of codes of length 1."""

    def mean(self, x: Tensor) -> Tensor:
        """(rows, L) mean direction of q(z | x), from (rows, D)."""
        return functional.normalize(super().mean(x), dim=-1)

    def forward(self, x: Tensor) -> Any:
        """Distribution of z, batch (rows,) and event (L,), from (rows, D)."""
        h = self.trunk(x)
        log_variance = self.log_variance(h).mean(-1).clamp(-10, 10)  # of z about its mean direction, where it is small
        return PowerSpherical(functional.normalize(self.loc(h), dim=-1), 2 * (-log_variance).exp())


class StackedGaussianEncoder(nn.Module):
    """q(z | x, cluster): a `GaussianEncoder` for each cluster, side by side.

    Args:
        n_experts: K.
        n_features: D.
        hidden: sizes of the hidden layers.
        latent_dim: L.
        trunk: (rows, D) or (K, rows, D) to (K, rows, n_hidden), instead of the perceptrons' hidden layers.
        n_hidden: of `trunk`.
    """

    def __init__(
        self,
        n_experts: int,
        n_features: int,
        hidden: Sequence[int],
        latent_dim: int,
        trunk: nn.Module | None = None,
        n_hidden: int = 0,
    ) -> None:
        super().__init__()
        if trunk is None:
            self.network: nn.Module = StackedMLP(n_experts, [n_features, *hidden, 2 * latent_dim])
        else:
            self.network = nn.Sequential(trunk, StackedLinear(n_experts, n_hidden, 2 * latent_dim))

    def forward(self, x: Tensor, cluster: Tensor) -> Any:
        """Distribution of z, batch (K, rows), (rows,) or (candidates, rows) as `cluster` has it, from (rows, D)."""
        loc, log_variance = run_experts(self.network, x, cluster).chunk(2, -1)
        return DiagonalNormal(loc, bounded_scale(log_variance))


def bounded_scale(log_variance: Tensor) -> Tensor:
    """Standard deviation from a log-variance, which is kept within -10 and 10."""
    return (0.5 * log_variance.clamp(-10, 10)).exp()
