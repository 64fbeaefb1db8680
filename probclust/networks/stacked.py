"""Networks of the deep stories: a multilayer perceptron, and K of them side by side as one stacked network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from probclust.arguments import positive
from probclust.networks.experts import Grouping
from probclust.networks.fused import Layers, perceptrons, perceptrons_by_block

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
    """`network` where it is an architecture (see `probclust.networks.architectures`), or a TypeError."""
    if isinstance(network, type) or not (hasattr(network, "trunk") and hasattr(network, "n_hidden")):
        raise TypeError(
            f"network must be an architecture, such as one of probclust.networks.architectures, got {network!r}"
        )
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


def redraw(network: nn.Module) -> None:
    """Draw a network's weights anew, in place, layer by layer, as its layers' constructors do."""
    for layer in network.modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
