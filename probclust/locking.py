"""One thread at a time in the state that a process has once: `with alone:`.

Pyro keeps its effect handlers in one list, torch draws from one generator; validation flags, a story's training mode
and the precision of matrix products belong to the whole process too. Two threads that run a story at once would get
into each other's handlers and draws. So whatever runs a story, builds one or draws from torch's generator does so
within `alone`: a scoring call, a check of the contract, the construction of a part, an epoch and a computed step of a
fit. Each of them leaves the process as it found it, and between them another thread may have its turn.
"""

from __future__ import annotations

import os
import threading
from contextlib import ContextDecorator
from types import TracebackType

from pyro.poutine.runtime import _PYRO_STACK


class Alone(ContextDecorator):
    """A re-entrant lock of the process, and Pyro's handlers as they were, whatever becomes of what runs within.

    Who waits is next: a fit that ends an epoch and begins another lets the scores of other threads in between.
    """

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self.door, self.room = threading.Lock(), threading.RLock()
        self.owner: int | None = None
        self.handlers: list[tuple[object, ...]] = []

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self.owner != me:
            with self.door:  # held while waiting, so that who leaves the room cannot come back first
                self.room.acquire()
            self.owner, self.handlers = me, []
        self.handlers.append(tuple(_PYRO_STACK))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop_others(self.handlers.pop())
        if not self.handlers:
            self.owner = None
            self.room.release()

    @staticmethod
    def _drop_others(handlers: tuple[object, ...]) -> None:
        """Take from Pyro's stack what a program left there: a handler entered by hand, an abandoned generator's."""
        if len(_PYRO_STACK) > len(handlers):
            _PYRO_STACK[:] = [handler for handler in _PYRO_STACK if any(handler is other for other in handlers)]

    def __reduce__(self) -> str:
        """Pickled by its name, as where a function that uses it is sent to another process, which has its own."""
        return "alone"

    def after_fork(self) -> None:
        """In a process just forked, whose one thread may not be the one that was within."""
        if self.owner == threading.get_ident():
            self.door = threading.Lock()
            return
        if self.handlers:
            self._drop_others(self.handlers[0])
        self._renew()


alone = Alone()
"""Held by whoever runs a story; also a decorator."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=alone.after_fork)
