"""Fits that are stopped at an epoch's end, as by Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from probclust.fitting.trainer import Trainer


@contextmanager
def stopped_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The fit inside is stopped after this many epochs of its steps, and must be."""
    done, inner = 0, Trainer.epoch

    def epoch(self: Trainer, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        nonlocal done
        facts = inner(self, *args, **kwargs)  # the weights have moved before it stops
        done += 1
        if done >= epochs:
            raise KeyboardInterrupt
        return facts

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "epoch", epoch)
        with pytest.raises(KeyboardInterrupt):
            yield
