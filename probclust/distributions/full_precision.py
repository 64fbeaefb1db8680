"""Full precision where a distribution needs it, inside a step of mixed precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

_HALVES = (torch.bfloat16, torch.float16)


def is_mixed() -> bool:
    """Whether matrix products are being computed in half precision, under `torch.autocast`."""
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


def widen(fn: Any) -> None:
    """Put a distribution's parameters into float32, in place, where a network gave them in half precision."""
    for name, value in vars(fn).items():
        if isinstance(value, Tensor) and value.dtype in _HALVES:
            vars(fn)[name] = value.float()
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, Distribution):
                widen(part)


def in_full(device: torch.device) -> AbstractContextManager[Any]:
    """Computes as its inputs are, inside `torch.autocast` too."""
    return torch.autocast(device.type, enabled=False) if is_mixed() else nullcontext()
