"""Draws of a batch that several devices share: each draws the numbers of the whole batch, and takes those of its rows.

So the sum of the devices' gradients is what one device would have found on the whole batch, for latents that are drawn
by normal or uniform numbers. Others are drawn by each device for itself, which changes no expectation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.overrides import TorchFunctionMode

from probclust.story.sites import is_local


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


class SharedDraws(Messenger):
    """Draws the latents that a program leaves to Pyro for this device's rows of a batch.

    Args:
        share: the rows.
    """

    def __init__(self, share: Share) -> None:
        super().__init__()
        self.share = share

    def _pyro_sample(self, msg: Any) -> None:
        if msg["done"] or msg["is_observed"] or site_is_subsample(msg):
            return
        fn = msg["fn"]
        with _Parts(self.share, len(fn.batch_shape) - 1 if is_local(msg) else None):
            msg["value"] = fn(*msg["args"], **msg["kwargs"])
        msg["done"] = True


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
