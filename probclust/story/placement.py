"""Where the tensors go that a story makes anew, such as `torch.ones(K)` or the 0 of `dist.Normal(0, 1)`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def made_on(device: torch.device) -> AbstractContextManager[Any]:
    """Lets torch's factory functions that name no device put their tensors on this one, as they do on a CPU."""
    return nullcontext() if device.type == "cpu" else device
