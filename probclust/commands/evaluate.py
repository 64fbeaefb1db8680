"""`probclust evaluate`: score one run on rows."""

from __future__ import annotations

import json
from typing import Any

import typer

from probclust.commands.options import Data, Json, Label, Particles, RunPath, Stories, console, open_runs


def evaluate(
    run: RunPath, data: Data, label: Label = None, particles: Particles = 100, story: Stories = None, out: Json = None
) -> None:
    """Score a run on rows. ACC, NMI and ARI are there where the data have labels."""
    from rich.table import Table

    from probclust.findings import scores
    from probclust.run_folder import replace_text
    from probclust.source import read_source

    source = read_source(data, label)
    [(name, (_, fitted))] = open_runs([run], story).items()
    found = scores(fitted, source.x, source.y, particles=particles)
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, value in found.items():
        table.add_row(*_line(key, value, found))
    console().print(table)
    if out is not None:
        replace_text(out, json.dumps({"run": name, "data": source.source, **found}, indent=1))
        typer.echo(f"wrote {out}")


def _line(key: str, value: Any, found: dict[str, Any]) -> tuple[str, str]:
    if key == "log_likelihood":
        if value is None:
            return "log p(x)", "none: the story's log joint is no density of x"
        return "log p(x) at least", f"{value:.3f} ± {found['se']:.3f} nats per row"
    if key == "se":
        return "", "(± is the standard error of the mean over rows)" if value is not None else ""
    if key == "sizes":
        return "rows in each cluster", " ".join(map(str, value))
    if key == "entropy":
        return "entropy of p(cluster | x)", f"{value:.4f} nats per row"
    return {"accuracy": "ACC", "nmi": "NMI", "ari": "ARI"}.get(key, key), f"{value:.4f}" if isinstance(
        value, float
    ) else str(value)
