"""Codes of all rows, and their scale."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from probclust.data.stored import Rows


@torch.no_grad()
def rescale_codes(codes: Tensor, last: nn.Module, decoder: nn.Module, spread: float = 1.0) -> Tensor:
    """Scale an encoder's codes to the standard deviation `spread`, and the decoder to what it was to them.

    Args:
        codes: (rows, latent_dim) codes of all rows.
        last: the encoder's last layer, linear, whose outputs are the codes; changed in place.
        decoder: its first parameter is a weight that multiplies the codes; changed in place.
        spread: standard deviation over all rows and columns that the codes shall have.

    Returns:
        (rows, latent_dim) scaled codes.
    """
    scale = codes.std() / spread
    for parameter in last.parameters():
        parameter.div_(scale)
    next(decoder.parameters()).mul_(scale)
    return codes / scale


@torch.no_grad()
def encode_all(encode: Callable[[Tensor], Tensor], x: Rows, chunk: int = 1024) -> Tensor:
    """(rows, latent_dim) codes of all rows, without a gradient, some rows at a time."""
    return torch.cat([encode(part) for part in x.split(chunk)])
