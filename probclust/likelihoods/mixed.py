"""The likelihood of tables whose columns differ in type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from probclust.distributions.blocks import Blocks
from probclust.likelihoods.base import Likelihood, n_outputs, n_view, view
from probclust.likelihoods.named import likelihood_named
from probclust.part import Part


class Mixed(Part):
    """Blocks of columns, each with a likelihood of its own, independent given the decoder's outputs.

    Args:
        blocks: pairs of columns of x and their likelihood: a name, or an object built for as many features. Every
            column stands in one block.

    Examples:
        >>> from probclust.likelihoods import Categorical, Mixed
        >>> table = Mixed([([0, 1], "gaussian"), ([3], "poisson"), ([2], Categorical(1, 5))])
        >>> table(torch.zeros(7, table.n_outputs)).sample().shape
        torch.Size([7, 4])
    """

    n_heads = 1

    def __init__(self, blocks: Sequence[tuple[Sequence[int], str | Likelihood]]) -> None:
        super().__init__()
        self.columns = [[int(c) for c in columns] for columns, _ in blocks]
        found = sorted(column for columns in self.columns for column in columns)
        if not found or found != list(range(len(found))):
            raise ValueError(f"blocks must hold each column 0..D-1 once, got columns {found}")
        self.n_features = len(found)
        self.parts = [likelihood_named(part, len(c)) for c, (_, part) in zip(self.columns, blocks, strict=True)]
        self.modules_of_parts = nn.ModuleList(part for part in self.parts if isinstance(part, nn.Module))
        self.widths = [n_outputs(part, len(c)) for c, part in zip(self.columns, self.parts, strict=True)]
        self.n_outputs = sum(self.widths)
        self.decoder_first = any(getattr(part, "decoder_first", False) for part in self.parts)
        self.n_view = sum(n_view(part, len(c)) for c, part in zip(self.columns, self.parts, strict=True))

    def view(self, x: Tensor) -> Tensor:
        """(rows, n_view) what networks see of rows, block by block."""
        return torch.cat([view(part, x[..., c]) for c, part in zip(self.columns, self.parts, strict=True)], -1)

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_outputs) to a distribution over rows."""
        parts = zip(self.parts, outputs.split(self.widths, -1), strict=True)
        return Blocks(self.columns, [part(own) for part, own in parts])
