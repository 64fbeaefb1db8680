"""What a loss may change besides plain state (`probclust.fitting.engine.reach`): tensors of modules, random states."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Tensors:
    """Copies of the parameters and buffers of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.objects = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self.copies = {name: tensor.detach().clone() for name, tensor in self.objects.items()}

    def replaced(self) -> str | None:
        """Name of the first parameter or buffer that is another object now; None where all are the same."""
        now = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        names = [name for name in (*now, *self.objects) if now.get(name) is not self.objects.get(name)]
        return names[0] if names else None

    @torch.no_grad()
    def restore(self) -> None:
        """Put the objects back where they were, with the values that they had."""
        for name, tensor in self.objects.items():
            store, key = place_of(self.module, name)
            store[key] = tensor
            if not torch.equal(tensor, self.copies[name]):
                tensor.copy_(self.copies[name])


def place_of(module: nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """The dictionary and key where a parameter or buffer of a module stands."""
    path, _, key = name.rpartition(".")
    owner = module.get_submodule(path)
    return owner._parameters if key in owner._parameters else owner._buffers, key


class RandomState:
    """The states of torch's generators (the CPU's and the device's), of numpy's and of Python's."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.torch = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self.mps = torch.mps.get_rng_state() if device.type == "mps" else None
        self.numpy: Any = np.random.get_state()  # noqa: NPY002 (whatever a story draws from it)
        self.python = random.getstate()

    def restore(self) -> None:
        """Set all of them to what they were."""
        torch.set_rng_state(self.torch)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)
        if self.mps is not None:
            torch.mps.set_rng_state(self.mps)
        np.random.set_state(self.numpy)  # noqa: NPY002
        random.setstate(self.python)

    def drawn_outside_torch(self) -> bool:
        """Whether numpy's or Python's generator has moved since."""
        numpy: Any = np.random.get_state()  # noqa: NPY002
        same = numpy[2] == self.numpy[2] and np.array_equal(numpy[1], self.numpy[1]) and numpy[3:] == self.numpy[3:]
        return not same or random.getstate() != self.python


def agree(some: Sequence[Tensor | None], others: Sequence[Tensor | None], tolerance: float) -> bool:
    """Whether two lists of tensors are the same but for rounding, by the norm of their difference over all tensors.

    Entries may be None, and not finite, in the same places.
    """
    if [one is None for one in some] != [other is None for other in others]:
        return False
    pairs = [(a.detach().double(), b.detach().double()) for a, b in zip(some, others, strict=True) if a is not None]  # type: ignore[union-attr]
    if any(not torch.equal(a.isfinite(), b.isfinite()) for a, b in pairs):
        return False
    off = sum(float((a - b).nan_to_num().square().sum()) for a, b in pairs)
    size = sum(max(float(a.nan_to_num().square().sum()), float(b.nan_to_num().square().sum())) for a, b in pairs)
    return off**0.5 <= tolerance * size**0.5 + 1e-6
