"""Architectures: parts from which a deep story builds its encoders and decoders.

A story that takes `network=` takes any object with this interface, ours or the user's:

    n_hidden                             width of what `trunk` gives
    trunk(n_in)                          a module, (rows, n_in) to (rows, n_hidden)
    decoder(n_in, n_out)                 a module, (rows, n_in) to (rows, n_out), whose first parameter is a weight
                                         that multiplies its input (warm starts rescale codes by it)

and, where K can run side by side faster than one after the other, `stacked_trunk(n_experts, n_in)` and
`stacked_decoder(n_experts, n_in, n_out)`, whose modules take (rows, n_in) or (K, rows, n_in) and give
(K, rows, n_out). Derive it from `pc.Part`, and it is saved with the story.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from probclust.networks.convolutions import StackedConvDecoder, StackedConvEncoder
from probclust.networks.stacked import StackedLinear, checked_network
from probclust.part import Part

Norm = Literal["batch", "layer"] | None


class Network(Protocol):
    """What a deep story asks of `network=`."""

    n_hidden: int

    def trunk(self, n_in: int) -> nn.Module: ...  # noqa: D102
    def decoder(self, n_in: int, n_out: int) -> nn.Module: ...  # noqa: D102


class MLP(Part):
    """Multilayer perceptrons with ReLU, and a normalisation before it if wanted.

    Args:
        hidden: sizes of the encoder's hidden layers; the decoder mirrors them.
        norm: "layer" normalises each row; "batch" each unit over the batch's rows, so that in training a row's bound
            depends on its batch; None for neither.
    """

    def __init__(self, hidden: Sequence[int] = (500, 500, 2000), norm: Norm = None) -> None:
        super().__init__()
        self.hidden, self.norm, self.n_hidden = list(hidden), _checked(norm), hidden[-1]

    def trunk(self, n_in: int) -> nn.Module:
        """(rows, n_in) to (rows, n_hidden)."""
        return nn.Sequential(*self._blocks([n_in, *self.hidden]))

    def decoder(self, n_in: int, n_out: int) -> nn.Module:
        """(rows, n_in) to (rows, n_out)."""
        sizes = [n_in, *reversed(self.hidden)]
        return nn.Sequential(*self._blocks(sizes), nn.Linear(sizes[-1], n_out))

    def stacked_trunk(self, n_experts: int, n_in: int) -> nn.Module:
        """(rows, n_in) or (K, rows, n_in) to (K, rows, n_hidden)."""
        return nn.Sequential(*self._blocks([n_in, *self.hidden], n_experts))

    def stacked_decoder(self, n_experts: int, n_in: int, n_out: int) -> nn.Module:
        """(rows, n_in) or (K, rows, n_in) to (K, rows, n_out)."""
        sizes = [n_in, *reversed(self.hidden)]
        return nn.Sequential(*self._blocks(sizes, n_experts), StackedLinear(n_experts, sizes[-1], n_out))

    def _blocks(self, sizes: Sequence[int], n_experts: int | None = None) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers.append(nn.Linear(n_in, n_out) if n_experts is None else StackedLinear(n_experts, n_in, n_out))
            if self.norm == "batch" and n_experts is None:
                layers.append(nn.BatchNorm1d(n_out))
            elif self.norm == "layer" and n_experts is None:
                layers.append(nn.LayerNorm(n_out))
            elif self.norm is not None and n_experts is not None:
                layers.append(StackedNorm(self.norm, n_experts, n_out))
            layers.append(nn.ReLU())
        return layers


class StackedNorm(nn.Module):
    """K batch or layer normalisations side by side.

    Args:
        kind: "batch" or "layer".
        n_experts: K.
        n_features: of each.
    """

    def __init__(self, kind: str, n_experts: int, n_features: int) -> None:
        super().__init__()
        n = n_experts * n_features
        self.inner = nn.BatchNorm1d(n) if kind == "batch" else nn.GroupNorm(n_experts, n)

    def forward(self, x: Tensor) -> Tensor:
        """(K, rows, n_features) from the same."""
        n_experts, rows, n_features = x.shape
        side_by_side = x.transpose(0, 1).reshape(rows, -1)
        return self.inner(side_by_side).reshape(rows, n_experts, n_features).transpose(0, 1)


class Convolutional(Part):
    """Convolutions of 3 x 3 that halve the image, and decoders that mirror them; for rows that are images.

    A row holds its image channel by channel, row by row of pixels, as `image.reshape(-1)` of (channels, height, width).
    With `missing=True` the mask is a further image beside the row's.

    Args:
        height: pixels.
        width: pixels.
        channels: of each convolution.
        n_hidden: width of the layer between the convolutions and the code.
        norm: as for `MLP`; "layer" normalises all channels of a row.

    Examples:
        >>> import probclust as pc
        >>> story = pc.models.VaDE(64, n_clusters=3, latent_dim=2, network=Convolutional(8, 8, (4, 8), n_hidden=16))
        >>> pc.log_joint(story, torch.rand(5, 64)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self, height: int, width: int, channels: Sequence[int] = (32, 64), n_hidden: int = 256, norm: Norm = None
    ) -> None:
        super().__init__()
        self.size, self.channels, self.n_hidden, self.norm = (height, width), list(channels), n_hidden, _checked(norm)

    def trunk(self, n_in: int) -> nn.Module:
        """(rows, n_in) to (rows, n_hidden)."""
        return nn.Sequential(self.stacked_trunk(1, n_in), First())

    def decoder(self, n_in: int, n_out: int) -> nn.Module:
        """(rows, n_in) to (rows, n_out)."""
        return nn.Sequential(self.stacked_decoder(1, n_in, n_out), First())

    def stacked_trunk(self, n_experts: int, n_in: int) -> nn.Module:
        """(rows, n_in) or (K, rows, n_in) to (K, rows, n_hidden)."""
        return StackedConvEncoder(n_experts, n_in, self.size, self.channels, self.n_hidden, self.norm)

    def stacked_decoder(self, n_experts: int, n_in: int, n_out: int) -> nn.Module:
        """(rows, n_in) or (K, rows, n_in) to (K, rows, n_out)."""
        return StackedConvDecoder(n_experts, n_in, n_out, self.size, self.channels, self.norm)


class First(nn.Module):
    """The only one of K = 1 networks side by side."""

    def forward(self, outputs: Tensor) -> Tensor:
        """(rows, n) from (1, rows, n)."""
        return outputs[0]


class ByRow(nn.Module):
    """A network of rows, for codes with further dims to the left, such as one code per cluster.

    Args:
        network: (rows, n_in) to (rows, n_out).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> Tensor:
        """(..., n_out) from (..., n_in)."""
        return self.network(z.reshape(-1, z.shape[-1])).reshape(*z.shape[:-1], -1)


class SideBySide(nn.Module):
    """K networks one after the other, for architectures that have no faster way.

    Args:
        build: builds one, drawing its weights.
        n_experts: K.
    """

    def __init__(self, build: Callable[[], nn.Module], n_experts: int) -> None:
        super().__init__()
        self.n_experts = n_experts
        self.experts = nn.ModuleList(build() for _ in range(n_experts))

    def forward(self, x: Tensor) -> Tensor:
        """(K, rows, n_out) from (rows, n_in), or (K, rows, n_in)."""
        inputs = x if x.dim() == 3 else [x] * len(self.experts)
        return torch.stack([expert(own) for expert, own in zip(self.experts, inputs, strict=True)])


def stacked_trunk(network: Any, n_experts: int, n_in: int) -> nn.Module:
    """K trunks of an architecture: stacked where it can, else `SideBySide`."""
    if hasattr(checked_network(network), "stacked_trunk"):
        return network.stacked_trunk(n_experts, n_in)
    return SideBySide(lambda: network.trunk(n_in), n_experts)


def stacked_decoder(network: Any, n_experts: int, n_in: int, n_out: int) -> nn.Module:
    """K decoders of an architecture: stacked where it can, else `SideBySide`."""
    if hasattr(network, "stacked_decoder"):
        return network.stacked_decoder(n_experts, n_in, n_out)
    return SideBySide(lambda: network.decoder(n_in, n_out), n_experts)


def _checked(norm: Any) -> Norm:
    if norm not in ("batch", "layer", None):
        raise ValueError(f"norm must be 'batch', 'layer' or None, got {norm!r}")
    return norm
