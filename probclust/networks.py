"""Networks of the deep stories: a multilayer perceptron, and K of them side by side as one stacked network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.arguments import positive
from probclust.diagonal_normal import DiagonalNormal
from probclust.distributions import PowerSpherical
from probclust.experts import Grouping, run_experts
from probclust.perceptrons import Layers, perceptrons, perceptrons_by_block

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "swish": nn.SiLU,
}


def check_sizes(latent_dim: Any, **hidden: Any) -> None:
    """Raise where the size of a code, or of a hidden layer, is no positive integer.

    Args:
        latent_dim: L.
        hidden: sizes of hidden layers, by the name of the argument.
    """
    positive("latent_dim", latent_dim)
    for name, sizes in hidden.items():
        if isinstance(sizes, str) or not isinstance(sizes, Iterable):
            raise TypeError(f"{name} must be the sizes of hidden layers, such as (500, 500), got {sizes!r}")
        for size in sizes:
            positive(f"each size in {name}", size)


def checked_network(network: Any) -> Any:
    """`network` where it is an architecture (see `probclust.architectures`), or a TypeError."""
    if isinstance(network, type) or not (hasattr(network, "trunk") and hasattr(network, "n_hidden")):
        raise TypeError(f"network must be an architecture, such as one of probclust.architectures, got {network!r}")
    return network


def mlp(sizes: Sequence[int], activation: str = "relu") -> nn.Sequential:
    """A perceptron without an activation after its last layer.

    Args:
        sizes: from input to output.
        activation: between the layers, one of `ACTIVATIONS`.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}")
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


class StackedLinear(nn.Module):
    """K linear layers side by side, as one batched product.

    Args:
        n_experts: K.
        n_in: inputs of each.
        n_out: outputs of each.
    """

    def __init__(self, n_experts: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.n_experts = n_experts
        self.weight = nn.Parameter(torch.empty(n_experts, n_in, n_out))
        self.bias = nn.Parameter(torch.empty(n_experts, 1, n_out))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases as `torch.nn.Linear` draws its own."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of every expert.

        Args:
            x: (rows, n_in), the same input for every expert, or (K, rows, n_in), its own for each.

        Returns:
            (K, rows, n_out).
        """
        if x.dim() == 2:
            x = x.expand(self.weight.shape[0], *x.shape)
        return torch.baddbmm(self.bias, x, self.weight)

    def blocks(self, pairs: Tensor, grouping: Grouping) -> Tensor:
        """(pairs, n_out) outputs, from the (pairs, n_in) inputs of pairs sorted by expert."""
        return perceptrons_by_block(pairs, [(self.weight, self.bias)], grouping.expert, grouping.ends)


class StackedMLP(nn.Module):
    """K multilayer perceptrons side by side: `mlp` with every layer a `StackedLinear`.

    Args:
        n_experts: K.
        sizes: from input to output, of each.
    """

    def __init__(self, n_experts: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.n_experts = n_experts
        self.layers = nn.ModuleList(StackedLinear(n_experts, n_in, n_out) for n_in, n_out in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """(K, rows, n_out) from (rows, n_in) or (K, rows, n_in)."""
        return perceptrons(x.expand(self.n_experts, *x.shape) if x.dim() == 2 else x, self._parameters_by_layer())

    def blocks(self, pairs: Tensor, grouping: Grouping) -> Tensor:
        """(pairs, n_out) outputs, from the (pairs, n_in) inputs of pairs sorted by expert."""
        return perceptrons_by_block(pairs, self._parameters_by_layer(), grouping.expert, grouping.ends)

    def _parameters_by_layer(self) -> Layers:
        layers: list[Any] = list(self.layers)
        return [(layer.weight, layer.bias) for layer in layers]


def of_cluster(outputs: Tensor, cluster: Tensor) -> Tensor:
    """The outputs that belong to the clusters of a pass, once every expert's are there; see `run_experts` first.

    Args:
        outputs: (K, rows, ...), every expert's.
        cluster: the site's value: (K, 1) where the clusters are enumerated, else (rows,) or (candidates, rows).

    Returns:
        (K, rows, ...) unchanged where enumerated, else (rows, ...) or (candidates, rows, ...): each row's own.
    """
    if cluster.dim() > 1 and cluster.shape[-1] == 1:
        return outputs
    return outputs[cluster, torch.arange(outputs.shape[1], device=outputs.device)]


class GaussianEncoder(nn.Module):
    """q(z | x) = Normal(loc(x), diag(scale(x)^2)): a perceptron, or another trunk, with two heads.

    Args:
        n_features: D.
        hidden: sizes of the hidden layers.
        latent_dim: L.
        network: an architecture (see `probclust.architectures`) that builds the trunk, instead of `hidden`.
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


class Autoencoder(nn.Module):
    """A deterministic autoencoder, for starts that need codes a story does not have.

    Args:
        n_features: D.
        hidden: sizes of the encoder's hidden layers; the decoder mirrors them.
        latent_dim: L.
        n_out: columns that the decoder gives; None for D.
    """

    def __init__(self, n_features: int, hidden: Sequence[int], latent_dim: int, n_out: int | None = None) -> None:
        super().__init__()
        self.encoder = mlp([n_features, *hidden, latent_dim])
        self.decoder = mlp([latent_dim, *reversed(hidden), n_features if n_out is None else n_out])


def redraw(network: nn.Module) -> None:
    """Draw a network's weights anew, in place, layer by layer, as its layers' constructors do."""
    for layer in network.modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
