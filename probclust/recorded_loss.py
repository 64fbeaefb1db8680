"""A step's loss as a tensor graph: what it reads, by name, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


class Whole(nn.Module):
    """All modules of a fit, with the loss for a forward pass: what `functional_call` gives other tensors to."""

    def __init__(self, parts: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.parts, self.call = parts, call

    def forward(self, x: Tensor, index: Tensor, y: Tensor | None) -> Tensor:
        """The loss of a batch."""
        return self.call(x, index, y)


def places_of(module: nn.Module) -> list[tuple[str, dict[str, Any], str]]:
    """Each parameter and buffer of a module: its name, and the dictionary and key where it stands."""
    names = [*dict(module.named_parameters()), *dict(module.named_buffers())]
    places = []
    for name in names:
        path, _, key = name.rpartition(".")
        owner = module.get_submodule(path)
        places.append((name, owner._parameters if key in owner._parameters else owner._buffers, key))
    return places
