"""`probclust evaluate`: score one run on rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import typer

from probclust.cli.commands.options import (
    Data,
    Json,
    Label,
    Particles,
    Reading,
    RunPath,
    Stories,
    open_runs,
    reads_tables,
)


@reads_tables
def evaluate(
    run: RunPath,
    data: Data,
    reading: Reading,
    label: Label = None,
    particles: Particles = 100,
    story: Stories = None,
    out: Json = None,
) -> None:
    """Score a run on rows. ACC, NMI and ARI are there where the data have labels."""
    from rich.table import Table

    from probclust.cli.source import read_source
    from probclust.cli.terminal import show
    from probclust.data.writing import check_writable, replace_text
    from probclust.evaluation.evaluation import evaluate as evaluation_of

    if out is not None:
        check_writable(out, "--json")
    [(name, (folder, fitted))] = open_runs([run], story).items()
    source = read_source(data, label, reading=reading, missing=fitted.missing)
    found = evaluation_of(fitted, source.x, source.y, particles=particles).facts()
    found["rows_of_the_fit"] = folder.was_fitted_to(fitted, source.x)
    table = Table(box=None, show_header=False, pad_edge=False)
    for heading, text in _lines(found):
        table.add_row(heading, text)
    show(table)
    if out is not None:
        replace_text(out, json.dumps({"run": name, "data": source.source, **found}, indent=1))
        typer.echo(f"wrote {out}")


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the scores say, for readers."""
    if found["log_likelihood"] is None:
        yield "log p(x)", f"none: {found['why_no_density']}"
    else:
        error = "" if found["se"] is None else f" ± {found['se']:.3f} (standard error over the rows)"
        yield "log p(x), a lower bound", f"{found['log_likelihood']:.3f}{error} nats per row"
    for name, heading in (("accuracy", "ACC"), ("nmi", "NMI"), ("ari", "ARI")):
        if name in found:
            yield heading, f"{found[name]:.4f}"
    whose = {True: ", those it was fitted to", False: ", others than it was fitted to", None: ""}
    yield "rows", f"{found['rows']}{whose[found['rows_of_the_fit']]}"
    yield "rows in each cluster", " ".join(map(str, found["sizes"]))
    yield "entropy of p(cluster | x)", f"{found['entropy']:.4f} nats per row"
