"""`probclust demo`: the toolkit's main job on bundled data, from rows to report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Folder for the report, the numbers and the runs.")
    ],
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Starts of each story; the largest bound is kept.")] = 3,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Starts at a time; without it, one for each core.")
    ] = None,
) -> None:
    """Fit three stories to digits and write a report. Takes minutes, and downloads nothing."""
    from probclust.cli.demonstration import run_demo

    try:
        run_demo(out, seeds=seeds, jobs=jobs)
    except KeyboardInterrupt:
        typer.echo("probclust: stopped; the demo starts anew when it is run again", err=True)
        raise typer.Exit(130) from None
