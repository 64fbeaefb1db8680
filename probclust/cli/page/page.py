"""A page about stories: one HTML file that needs no other, in light and dark, for desk and phone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from probclust.cli.page import figures
from probclust.cli.page.table import caption, cells
from probclust.evaluation.findings import Confusion, Findings
from probclust.fitting.record import versions
from probclust.generate.image_grid import image_grid, png_bytes

Shape = tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Told:
    """A story on the page.

    Attributes:
        found: what it says of the rows.
        intro: a sentence below the heading.
        fit: the record of its fit, as JSON has it; None where it is not known.
    """

    found: Findings
    intro: str
    fit: Mapping[str, Any] | None = None


def page(
    title: str,
    lead: str,
    frame: pd.DataFrame,
    stories: Sequence[Told],
    commands: Sequence[str],
    *,
    shape: Shape = None,
    notes: Sequence[str] = (),
    remarks: Sequence[str] = (),
) -> str:
    """The whole page, HTML; whatever users named is escaped.

    Args:
        title: of the page.
        lead: one or two sentences below it.
        frame: the table of `pc.compare`.
        stories: the stories in the order of the page.
        commands: from which the page can be made again.
        shape: height and width where rows are images.
        notes: remarks below the table.
        remarks: remarks below the commands; the versions are added.
    """
    loader = PackageLoader("probclust.cli.page", "")
    pages = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    return pages.get_template("page.html.j2").render(
        title=title,
        lead=lead,
        comparison=_comparison(frame, notes),
        stories=[_story(told, shape) for told in stories],
        commands=commands,
        remarks=[*remarks, f"Versions: {packages}."],
    )


def _comparison(frame: pd.DataFrame, notes: Sequence[str]) -> dict[str, Any]:
    """The table of the comparison, and what its columns mean."""
    headings, rows = cells(frame)
    explained = []
    if "log p(x) ≥" in headings:
        explained.append(caption(frame) + ".")
    if "ACC" in headings:
        explained.append(
            "ACC: accuracy under the best one-to-one matching of clusters and labels; NMI: normalised mutual "
            "information; ARI: adjusted Rand index. Labels only score: no fit has seen them."
        )
    return {"headings": headings, "rows": rows, "notes": [*explained, *notes]}


def _story(told: Told, shape: Shape) -> dict[str, Any]:
    """What the template shows of a story; None where there is nothing to show."""
    found, table = told.found, told.found.confusion
    sizes = found.evaluation.sizes
    order = range(len(sizes)) if table is None else table.clusters  # that of the labels that they are matched with
    matched = {} if table is None else table.matched
    named = {k: f"{k} → {matched[k]}" if k in matched else str(k) for k in order}
    shown = found.samples if shape is not None else None
    return {
        "name": found.name,
        "intro": told.intro,
        "why_no_samples": found.why_no_samples,
        "samples": None
        if shown is None
        else [{"cluster": named[k], "n": len(shown[k]), "image": _image(shown[k], shape)} for k in order],
        "n_originals": len(found.originals),
        "originals": _image(found.originals, shape),
        "reconstructions": _image(found.reconstructions, shape),
        "sizes": [{"cluster": named[k], "rows": sizes[k], "percent": 100 * sizes[k] / max(sizes)} for k in order],
        "entropy": found.evaluation.entropy,
        "most_entropy": math.log(len(sizes)),
        "embedding": _embedding(found),
        "confusion": None if table is None else _confusion(table),
        "fit": None if told.fit is None else _fit(found.name, told.fit),
    }


def _image(rows: Any, shape: Shape) -> dict[str, Any] | None:
    """Images in a line, enlarged to about 48 pixels each before the browser scales them."""
    if rows is None or shape is None:
        return None
    grid = image_grid(rows, shape, columns=len(rows), scale=max(1, round(48 / max(shape))))
    height, width = grid.shape[:2]
    return {"source": figures.data_uri(png_bytes(grid)), "width": width, "height": height}


def _embedding(found: Findings) -> Markup | None:
    if found.points is None:
        return None
    title = f"{found.name}: {len(found.points)} rows in two dimensions, coloured by cluster"
    clusters = found.evaluation.clusters.numpy()[found.shown]
    return Markup(figures.scatter(found.points, clusters, found.evaluation.n_clusters, title))


def _confusion(table: Confusion) -> dict[str, Any]:
    lines = [
        {"label": label, "counts": counts.tolist(), "total": max(1, int(counts.sum()))}
        for label, counts in zip(table.labels, table.counts, strict=True)
    ]
    return {"clusters": table.clusters, "lines": lines, "matched": [table.matched.get(k, "–") for k in table.clusters]}


def _fit(name: str, fit: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds of the restarts, and a chart of the losses of each training step."""
    seeds = fit["settings"].get("seeds")
    labels = [f"restart {n + 1}" if seeds is None else f"seed {seeds[n]}" for n in range(len(fit["bounds"]))]
    losses: dict[str, dict[str, list[float]]] = {}
    for entry in fit["history"]:
        losses.setdefault(entry["step"], {}).setdefault(labels[entry["restart"]], []).append(entry["loss"])
    bounded = {entry["step"] for entry in fit["history"] if "occupancy" in entry}
    bounds = [
        [label, f"{bound:.3f}".replace("-", "−"), "kept" if number == fit["restart"] else ""]
        for number, (label, bound) in enumerate(zip(labels, fit["bounds"], strict=True))
    ]
    steps = []
    for step, lines in losses.items():
        chart = figures.curves(lines, f"{name}, step {step}: loss per epoch", labels[fit["restart"]])
        steps.append({"name": step, "is_bound": step in bounded, "chart": Markup(chart)})
    return {"bounds": bounds, "steps": steps}
