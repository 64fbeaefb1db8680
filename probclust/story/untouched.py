"""Passes that look at a story and leave nothing changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch
from torch import nn

from probclust.locking import alone

_MOVES = "_moves_buffers"


@contextmanager
def untouched(story: nn.Module) -> Iterator[None]:
    """Within, modules are in `eval` and nothing has a gradient; modes, buffers and random states are as before then.

    Other threads wait. What the story writes to Pyro's parameter store is gone afterwards.
    """
    with alone, torch.random.fork_rng(), torch.no_grad(), pyro.get_param_store().scope(), buffers_kept(story):
        training = [module for module in story.modules() if module.training]
        try:
            story.eval()
            yield
        finally:
            for module in training:  # one by one: parts of a story may be frozen in eval mode
                module.training = True


@contextmanager
def buffers_kept(story: nn.Module) -> Iterator[None]:
    """Within, a story may change its buffers; they are as before afterwards.

    That it did so although in `eval` is noted in the story, for those who run it often (`moves_buffers`).
    """
    buffers = {name: (buffer, buffer.clone()) for name, buffer in story.named_buffers()}
    try:
        yield
    finally:
        for name, (buffer, before) in buffers.items():
            path, _, last = name.rpartition(".")
            owner = story.get_submodule(path)
            if owner._buffers.get(last) is buffer and torch.equal(buffer, before):
                continue
            story.__dict__[_MOVES] = True
            owner._buffers[last] = buffer
            with torch.no_grad():
                buffer.copy_(before)


def moves_buffers(story: nn.Module) -> bool:
    """Whether the story has changed a buffer in a pass that was to leave all as it is."""
    return _MOVES in story.__dict__
