"""A progress bar over the steps and epochs of a fit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Progress:
    """Shows nothing; the bar derives from it, and so may the caller's own display, given to `pc.fit(progress=...)`."""

    def start(self, step: str, epochs: int | None) -> None:
        """A step begins; `epochs` None where its length is not known."""

    def advance(self, loss: float) -> None:
        """An epoch ended with that loss."""


class _Bar(Progress):
    def __init__(self, bar: Any) -> None:
        self.bar, self.task = bar, bar.add_task("start", total=None, loss="")

    def start(self, step: str, epochs: int | None) -> None:
        self.bar.reset(self.task, description=step, total=epochs)

    def advance(self, loss: float) -> None:
        self.bar.update(self.task, advance=1, loss=f"loss {loss:.3f}")


@contextmanager
def progress_bar(show: bool | Progress | None) -> Iterator[Progress]:
    """A progress bar on standard error; None shows it where that is a terminal; a `Progress` is passed through."""
    if isinstance(show, Progress):
        yield show
        return
    if show is None:
        show = sys.stderr.isatty()
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
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar)
