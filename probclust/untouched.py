"""Passes that look at a story and leave nothing changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch
from torch import nn

from probclust.locking import alone


@contextmanager
def untouched(story: nn.Module) -> Iterator[None]:
    """Within, modules are in `eval` and nothing has a gradient; modes, buffers and random states are as before then.

    Other threads wait. What the story writes to Pyro's parameter store is gone afterwards.
    """
    with alone, torch.random.fork_rng(), torch.no_grad(), pyro.get_param_store().scope():
        training = [module for module in story.modules() if module.training]
        buffers = {name: buffer.clone() for name, buffer in story.named_buffers()}
        try:
            story.eval()
            yield
        finally:
            for name, buffer in story.named_buffers():
                if name in buffers and not torch.equal(buffer, buffers[name]):
                    buffer.copy_(buffers[name])
            for module in training:  # one by one: parts of a story may be frozen in eval mode
                module.training = True
