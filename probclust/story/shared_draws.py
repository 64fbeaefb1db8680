"""Draws of a batch that several devices share: each draws the numbers of the whole batch, and takes those of its rows.

So the sum of the devices' gradients is what one device would have found on the whole batch, for latents that are drawn
by normal or uniform numbers. Others are drawn by each device for itself, which changes no expectation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Share:
    """A device's rows of a batch.

    Attributes:
        start: number of the first.
        n_rows: how many.
        n_total: rows of the whole batch.
        generators: for each type of device the generator of the whole batch's numbers, in the same state on all.
    """

    start: int
    n_rows: int
    n_total: int
    generators: dict[str, torch.Generator]

    def fill(self, fill: Callable[..., Any], out: Tensor, dim: int | None) -> Tensor:
        """Fill `out` with its part of the whole batch's numbers.

        Args:
            fill: `Tensor.normal_` or `Tensor.uniform_`, with its parameters.
            out: what a distribution draws, in place.
            dim: where its rows are, as often as there are particles; None for a global latent, which all draw alike.
        """
        generator = self.generators[out.device.type]
        if dim is None:
            fill(out, generator=generator)
            return out
        if out.dim() <= dim or out.shape[dim] % self.n_rows:
            fill(out, generator=None)  # no numbers of these rows: this device's own
            return out
        shape = list(out.shape)
        shape[dim : dim + 1] = [shape[dim] // self.n_rows, self.n_total]
        whole = out.new_empty(shape)
        fill(whole, generator=generator)
        return out.copy_(whole.narrow(dim + 1, self.start, self.n_rows).reshape(out.shape))


_share: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def sharing(share: Share | None) -> Iterator[None]:
    """Within, the batch is a device's share of a larger one; None where it is all of it."""
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


def current_share() -> Share | None:
    """The device's part of the batch, where it is shared."""
    return _share.get()


def shared_draw(fn: Any, local: bool) -> Tensor | None:
    """A draw from a latent's distribution for this device's rows; None where no batch is shared.

    Args:
        fn: of batch shape (..., rows) where it is local.
        local: whether each row has its own.
    """
    share = _share.get()
    if share is None:
        return None
    with _Parts(share, len(fn.batch_shape) - 1 if local else None):
        value: Tensor = fn.rsample() if fn.has_rsample else fn.sample()
    return value


class _Parts(TorchFunctionMode):
    """Numbers drawn in place, and those of `torch.rand` and `torch.randn`, are parts of the whole batch's."""

    def __init__(self, share: Share, dim: int | None) -> None:
        super().__init__()
        self.share, self.dim = share, dim

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.normal_, Tensor.uniform_, Tensor.exponential_):
            return self.share.fill(
                lambda out, generator: func(out, *args[1:], **kwargs, generator=generator), args[0], self.dim
            )
        if func in (torch.rand, torch.randn):
            fill = Tensor.uniform_ if func is torch.rand else Tensor.normal_
            return self.share.fill(fill, torch.empty(*args, **kwargs), self.dim)
        return func(*args, **kwargs)
