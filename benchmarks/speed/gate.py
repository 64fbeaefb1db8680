"""What a contender runs behind: one epoch at the referee's word, its clocks around it.

Contenders are processes of their own, which may belong to other Python environments: this file needs nothing but the
standard library.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any


class Gate:
    """Speaks with the referee in JSON lines, on what was standard output.

    Args:
        epochs: times that the gate opens.

    Attributes:
        passes: over the rows, each time; their mean is reported.
    """

    passes = 1

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._channel = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what a library prints goes to standard error
        self._started: tuple[float, float] | None = None

    def say(self, **facts: Any) -> None:
        self._channel.write(json.dumps(facts) + "\n")

    def open(self) -> None:
        """Wait for the referee's word, then start the clocks."""
        if not sys.stdin.readline():
            sys.exit(1)
        self._started = time.process_time(), time.perf_counter()

    def close(self) -> None:
        """Stop the clocks and report."""
        cpu, wall = time.process_time(), time.perf_counter()
        assert self._started is not None
        self.say(cpu=(cpu - self._started[0]) / self.passes, wall=(wall - self._started[1]) / self.passes)
        self._started = None

    def range(self, *numbers: int) -> Iterator[int]:
        """`range`, each pass of the loop behind the gate."""
        for number in range(*numbers):
            self.open()
            yield number
            self.close()


def peak_memory() -> float:
    """Largest resident memory of this process so far, in MB."""
    try:
        with open("/proc/self/status") as status:  # unlike getrusage, this forgets the process that started this one
            [kilobytes] = [line.split()[1] for line in status if line.startswith("VmHWM")]
        return int(kilobytes) / 1024
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
