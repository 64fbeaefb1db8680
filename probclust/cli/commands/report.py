"""`probclust report`: a page about several runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from probclust.cli.commands.options import (
    DATA_HELP,
    ImageShape,
    Label,
    Particles,
    Reading,
    RunPaths,
    Seed,
    Stories,
    open_runs,
    reads_tables,
)


@reads_tables
def report(
    runs: RunPaths,
    reading: Reading,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.html", help="The page, one file that needs no other.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME|PATH", help=f"{DATA_HELP} Without it, the data of the fits.")
    ] = None,
    label: Label = None,
    image_shape: ImageShape = None,
    particles: Particles = 100,
    seed: Seed = 0,
    story: Stories = None,
) -> None:
    """Write an HTML page about runs. It compares them, and shows clusters, images and losses."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out must end in .html, got {out}")
    from probclust.cli.page.reports import report_runs
    from probclust.cli.source import read_source
    from probclust.data.writing import check_writable, replace_text
    from probclust.generate.image_grid import need_matplotlib

    check_writable(out, "--out")
    need_matplotlib()
    opened = open_runs(runs, story)
    facts = {name: folder.record()["data"] for name, (folder, _) in opened.items()}
    if data is None:
        sources = {(fact["source"], fact["label"], json.dumps(fact.get("reading", {}))) for fact in facts.values()}
        if len(sources) > 1:
            raise ValueError(
                f"the runs were fitted to different data ({', '.join(sorted(s for s, *_ in sources))}); "
                "choose the rows of the report with --data"
            )
        [(data, fitted_label, fitted_reading)] = sources
        label, reading = label or fitted_label, {**json.loads(fitted_reading), **reading}
    if image_shape is None:
        shapes = {tuple(fact["image_shape"]) for fact in facts.values() if fact["image_shape"]}
        image_shape = "x".join(map(str, shapes.pop())) if len(shapes) == 1 else None
    takes_missing = any(fitted.missing for _, fitted in opened.values())
    source = read_source(data, label, image_shape, reading, missing=takes_missing)
    replace_text(out, report_runs(opened, source, particles=particles, seed=seed))
    typer.echo(f"wrote {out}")
