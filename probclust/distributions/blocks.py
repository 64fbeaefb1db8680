"""A distribution of rows whose columns have different kinds, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

from probclust.distributions.base import base_of, typical
from probclust.distributions.observed import observed
from probclust.distributions.tempered import tempered


class Blocks(TorchDistribution):
    """Independent blocks of columns, each with a distribution of its own.

    Args:
        columns: of each block.
        blocks: a distribution for each, event shape (number of its columns,).
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's interface)

    def __init__(self, columns: Sequence[Sequence[int]], blocks: Sequence[Any]) -> None:
        self.columns, self.blocks = columns, list(blocks)
        shape = torch.broadcast_shapes(*(fn.batch_shape for fn in self.blocks))
        super().__init__(shape, Size([sum(map(len, columns))]))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Blocks:
        """The same distribution with a larger batch."""
        return Blocks(self.columns, [fn.expand(batch_shape) for fn in self.blocks])

    def observed(self) -> Blocks:
        """The same distribution, for rows whose NaN entries are unobserved."""
        return Blocks(self.columns, [observed(fn) for fn in self.blocks])

    def incomplete(self) -> Blocks:
        """As `observed`, for rows whose NaN entries are to be drawn: of counts given their total, too."""
        parts = [fn.incomplete() if hasattr(fn, "incomplete") else observed(fn) for fn in self.blocks]
        return Blocks(self.columns, parts)

    def tempered(self, temperature: float) -> Blocks:
        """Each block at the temperature."""
        return Blocks(self.columns, [tempered(fn, temperature) for fn in self.blocks])

    @property
    def support(self) -> Any:
        """Of each entry, by its block."""
        return _Columnwise(self, "support")

    @property
    def accepts(self) -> Any:
        """What the contract check lets in, of each entry."""
        return _Columnwise(self, "accepts")

    def log_prob(self, value: Tensor) -> Tensor:
        """(...) log probability of (..., D) rows, in nats: the sum over the blocks."""
        return torch.stack(
            torch.broadcast_tensors(
                *(fn.log_prob(value[..., c]) for c, fn in zip(self.columns, self.blocks, strict=True))
            )
        ).sum(0)

    def _put(self, parts: Sequence[Tensor]) -> Tensor:
        """(..., D) from the blocks' values."""
        order = torch.tensor([c for columns in self.columns for c in columns], device=parts[0].device)
        dtype = next((p.dtype for p in parts if p.is_floating_point()), torch.get_default_dtype())
        shape = torch.broadcast_shapes(*(p.shape[:-1] for p in parts))
        return torch.cat([p.to(dtype).expand(*shape, -1) for p in parts], -1)[..., order.argsort()]

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """(*sample_shape, *batch, D)."""
        return self._put([fn.expand(self.batch_shape).sample(sample_shape) for fn in self.blocks])

    def impute(self, value: Tensor, draw: bool = True) -> Tensor:
        """`value` (..., D), its NaN entries drawn, or set to their mean (a category to the most probable)."""
        return self._put([fn.impute(value[..., c], draw) for c, fn in zip(self.columns, self.blocks, strict=True)])

    @property
    def mean(self) -> Tensor:
        """(*batch, D)."""
        return self._put([fn.mean for fn in self.blocks])

    @property
    def typical(self) -> Tensor:
        """(*batch, D): the mean; of categories, the most probable."""
        return self._put([typical(fn) for fn in self.blocks])


class _Columnwise(constraints.Constraint):
    """The constraint of each entry of a row, by its block's "support" or "accepts"."""

    def __init__(self, fn: Blocks, name: str) -> None:
        self.fn, self.name = fn, name
        super().__init__()

    def of_block(self, block: Any) -> Any:
        """The block's constraint."""
        base = base_of(block)
        return getattr(base, self.name, None) or base.support

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        """Whether all columns are."""
        return all(self.of_block(block).is_discrete for block in self.fn.blocks)

    def check(self, value: Tensor) -> Tensor:
        """Elementwise."""
        out = torch.ones_like(value, dtype=torch.bool)
        for columns, block in zip(self.fn.columns, self.fn.blocks, strict=True):
            inside = self.of_block(block).check(value[..., columns])
            out[..., columns] = inside if inside.dim() == value.dim() else inside[..., None]
        return out
