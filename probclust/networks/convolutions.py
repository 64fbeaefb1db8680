"""Convolutional encoders and decoders of images, K of them side by side by grouped convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.networks.stacked import StackedLinear


class StackedConv2d(nn.Module):
    """K convolutions side by side, 3 x 3, as one grouped convolution.

    Args:
        n_experts: K.
        n_in: input channels of each.
        n_out: output channels of each.
        stride: 2 halves the image, rounding up.
    """

    def __init__(self, n_experts: int, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.n_experts, self.n_in, self.stride = n_experts, n_in, stride
        self.weight = nn.Parameter(torch.empty(n_experts * n_out, n_in, 3, 3))
        self.bias = nn.Parameter(torch.empty(n_experts * n_out))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases as `torch.nn.Conv2d` draws its own."""
        bound = 1 / math.sqrt(self.n_in * 9)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, K * n_out, H, W) from (rows, n_in, H, W), which all experts share, or (rows, K * n_in, H, W)."""
        groups = 1 if x.shape[1] == self.n_in else self.n_experts
        return functional.conv2d(x, self.weight, self.bias, self.stride, padding=1, groups=groups)


def channel_norm(kind: str | None, n_experts: int, n_channels: int) -> nn.Module:
    """Normalises (rows, K * n_channels, H, W): "batch" each channel, "layer" each row and expert; None nothing."""
    if kind == "batch":
        return nn.BatchNorm2d(n_experts * n_channels)
    return nn.GroupNorm(n_experts, n_experts * n_channels) if kind == "layer" else nn.Identity()


def halvings(height: int, width: int, times: int) -> list[tuple[int, int]]:
    """The sizes of an image that is halved so many times, rounding up, the first one its own."""
    sizes = [(height, width)]
    for _ in range(times):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


class StackedConvEncoder(nn.Module):
    """K encoders: convolutions that halve the image, then a linear layer; ReLU after each.

    Args:
        n_experts: K.
        n_in: inputs, channels * height * width.
        size: (height, width).
        channels: of each convolution.
        n_hidden: outputs.
        norm: "batch", "layer" or None, after each convolution.
    """

    def __init__(
        self, n_experts: int, n_in: int, size: tuple[int, int], channels: Sequence[int], n_hidden: int, norm: str | None
    ) -> None:
        super().__init__()
        self.n_experts, self.size = n_experts, size
        self.n_channels = _channels(n_in, size)
        layers: list[nn.Module] = []
        for before, after in pairwise([self.n_channels, *channels]):
            layers += [
                StackedConv2d(n_experts, before, after, stride=2),
                channel_norm(norm, n_experts, after),
                nn.ReLU(),
            ]
        self.convolutions = nn.Sequential(*layers)
        height, width = halvings(*size, len(channels))[-1]
        self.last = StackedLinear(n_experts, channels[-1] * height * width, n_hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(K, rows, n_hidden) from (rows, n_in), or (K, rows, n_in)."""
        if x.dim() == 3:
            x = x.transpose(0, 1)
        images = x.reshape(len(x), -1, *self.size)
        h = self.convolutions(images)
        return functional.relu(self.last(h.reshape(len(h), self.n_experts, -1).transpose(0, 1)))


class StackedConvDecoder(nn.Module):
    """K decoders: a linear layer to a small image, then convolutions, the image doubled before each.

    Args:
        n_experts: K.
        n_in: size of the code.
        n_out: outputs, a number for each channel and pixel.
        size: (height, width).
        channels: of the encoder's convolutions; the decoder mirrors them.
        norm: "batch", "layer" or None, after each convolution but the last.
    """

    def __init__(
        self, n_experts: int, n_in: int, n_out: int, size: tuple[int, int], channels: Sequence[int], norm: str | None
    ) -> None:
        super().__init__()
        self.n_experts = n_experts
        self.sizes = halvings(*size, len(channels))[::-1]
        wide = [*reversed(channels), _channels(n_out, size)]
        self.first = StackedLinear(n_experts, n_in, wide[0] * math.prod(self.sizes[0]))
        self.convolutions = nn.ModuleList(StackedConv2d(n_experts, a, b) for a, b in pairwise(wide))
        self.norms = nn.ModuleList(channel_norm(norm, n_experts, b) for b in wide[1:-1])

    def forward(self, z: Tensor) -> Tensor:
        """(K, rows, n_out) from (rows, n_in), or (K, rows, n_in)."""
        h = self.first(z).transpose(0, 1)
        h = h.reshape(len(h), -1, *self.sizes[0])
        for number, (convolution, size) in enumerate(zip(self.convolutions, self.sizes[1:], strict=True)):
            h = convolution(functional.interpolate(functional.relu(h), size=size))
            if number < len(self.norms):
                h = self.norms[number](h)
        return h.reshape(len(h), self.n_experts, -1).transpose(0, 1)


def _channels(n_numbers: int, size: tuple[int, int]) -> int:
    n_pixels = math.prod(size)
    if n_numbers % n_pixels:
        raise ValueError(
            f"{n_numbers} numbers for each row are no images of {size[0]} x {size[1]} pixels: the likelihood must have "
            "as many outputs for each, and what encoders see of x must be columns of x"
        )
    return n_numbers // n_pixels
