"""`probclust compare`: several runs side by side on the same rows."""

from __future__ import annotations

import json

import typer

from probclust.cli.commands.options import (
    Data,
    Json,
    Label,
    Particles,
    Reading,
    RunPaths,
    Stories,
    open_runs,
    reads_tables,
)


@reads_tables
def compare(
    runs: RunPaths,
    data: Data,
    reading: Reading,
    label: Label = None,
    particles: Particles = 100,
    story: Stories = None,
    out: Json = None,
) -> None:
    """Compare runs on the same rows. The best bound on log p(x) comes first."""
    import probclust as pc
    from probclust.cli.page.table import rich_table
    from probclust.cli.source import read_source
    from probclust.cli.terminal import show
    from probclust.data.writing import check_writable, replace_text

    if out is not None:
        check_writable(out, "--json")
    stories = {name: fitted for name, (_, fitted) in open_runs(runs, story).items()}
    source = read_source(data, label, reading=reading, missing=any(fitted.missing for fitted in stories.values()))
    frame = pc.compare(stories, source.x, source.y, particles=particles)
    show(rich_table(frame))
    if out is not None:
        rows = json.loads(frame.reset_index(names="run").to_json(orient="records"))
        replace_text(out, json.dumps({"data": source.source, "stories": rows}, indent=1))
        typer.echo(f"wrote {out}")
