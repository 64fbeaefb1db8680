"""A step's loss as a tensor graph: what it reads, by name, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Rows = tuple[Tensor, Tensor, Tensor | None]
"""x, index and y of a batch."""


class NotStaged(Exception):
    """The loss cannot be staged; the message says why and where."""


@dataclass
class Outcome:
    """What a batch gives: its loss, the parameters' gradients, and the monitor's sums."""

    loss: Tensor
    gradients: Sequence[Tensor | None]
    sums: Sequence[Tensor]


@dataclass
class Recorded:
    """The loss of batches of one shape, as a graph."""

    run: Callable[..., Sequence[Any]]
    inputs: list[str]
    n_gradients: int
    sums: tuple[str, ...]
    rows: int
    memory: dict[str, tuple[torch.Size, torch.dtype]]
    to_copy: tuple[int, ...] = ()
    calls: int = 1
    checked: int = 1
    epoch: int = -1

    def outcome(self, inputs: dict[str, Tensor]) -> Outcome:
        """Run the graph."""
        with torch.no_grad():
            loss, *rest = self.run(*[inputs[name] for name in self.inputs])
        return Outcome(loss, rest[: self.n_gradients], rest[self.n_gradients :])

    def fits(self, inputs: dict[str, Tensor]) -> bool:
        """Whether what it reads from memory is there, in the shapes that it was recorded with."""
        return all(
            name in inputs and (inputs[name].shape, inputs[name].dtype) == then for name, then in self.memory.items()
        )


class Structure:
    """Which modules and parameters a module has, which of these learn, and the shapes of its buffers."""

    def __init__(self, module: nn.Module) -> None:
        parts = list(module.modules())
        self.members = [(store, tuple(store.items())) for part in parts for store in (part._parameters, part._modules)]
        self.learns = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
        self.buffers = [(part._buffers, _shapes(part._buffers)) for part in parts if part._buffers]

    def changed(self) -> str | None:
        """What has changed, in words; None where nothing has."""
        for store, then in self.members:
            if len(store) != len(then) or any(store.get(name) is not old for name, old in then):
                return "puts other modules or parameters in place of its own"
        if any(parameter.requires_grad is not then for parameter, then in self.learns):
            return "freezes parameters, or lets frozen ones learn, while it is trained"
        if any(_shapes(store) != then for store, then in self.buffers):
            return "changes the shape of a buffer"
        return None


def _shapes(buffers: Mapping[str, Tensor | None]) -> list[Any]:
    return [None if buffer is None else (buffer.shape, buffer.dtype) for buffer in buffers.values()]


class Whole(nn.Module):
    """All modules of a fit, with the loss for a forward pass: what `functional_call` gives other tensors to."""

    def __init__(self, parts: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.parts, self.call = parts, call

    def forward(self, x: Tensor, index: Tensor, y: Tensor | None) -> Tensor:
        """The loss of a batch."""
        return self.call(x, index, y)
