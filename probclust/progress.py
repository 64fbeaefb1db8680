"""A progress bar over the steps and epochs of a fit, or over the rows of a long scoring."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Progress:
    """Shows nothing; the bar derives from it, and so may the caller's own display, given as `progress=...`."""

    def start(self, step: str, epochs: int | None) -> None:
        """A step of a fit, or a pass over rows, begins, of so many epochs or chunks; None where that is not known."""

    def advance(self, loss: float | None = None) -> None:
        """An epoch ended with that loss, or a chunk of rows, which has none, is scored."""


class _Bar(Progress):
    def __init__(self, bar: Any, after: float) -> None:
        self.bar, self.task = bar, bar.add_task("start", total=None, loss="")
        self.due: float | None = time.monotonic() + after
        self._show()

    def _show(self) -> None:
        if self.due is not None and time.monotonic() >= self.due:
            self.bar.start()
            self.due = None

    def start(self, step: str, epochs: int | None) -> None:
        self.bar.reset(self.task, description=step, total=epochs)

    def advance(self, loss: float | None = None) -> None:
        self._show()
        self.bar.update(self.task, advance=1, loss="" if loss is None else f"loss {loss:.3f}")


_shown: list[Progress] = []


@contextmanager
def progress_bar(show: bool | Progress | None, after: float = 0.0) -> Iterator[Progress]:
    """A progress bar on standard error.

    Args:
        show: whether to; None for where standard error is a terminal and no other bar is there, such as that of the fit
            that a scoring belongs to; a `Progress` is passed through.
        after: seconds that pass before it shows.
    """
    if isinstance(show, Progress):
        yield show
        return
    if show is not None and not isinstance(show, bool):
        raise TypeError(f"progress must be True, False, None or a probclust.progress.Progress, got {show!r}")
    if show is None:
        show = sys.stderr.isatty() and not _shown
    if not show:
        yield Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
    )
    display = RichProgress(*columns, console=Console(stderr=True), transient=True)
    bar = _Bar(display, after)
    _shown.append(bar)
    try:
        yield bar
    finally:
        _shown.remove(bar)
        display.stop()
