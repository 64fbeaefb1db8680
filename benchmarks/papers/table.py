"""The tables of the records: mean and standard deviation over seeds, beside the papers' own numbers.

Where a method is a density of x, the run with the largest ELBO is reported too: the one that a user would keep.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from benchmarks.papers.data import SETS
from benchmarks.papers.methods import METHODS, STORIES
from benchmarks.papers.published import PUBLISHED

HEADER = (
    "method",
    "seeds",
    "ACC",
    "NMI",
    "ARI",
    "ACC of the largest ELBO",
    "ACC of its start",
    "ELBO",
    "held-out bound",
    "published ACC",
)
STARTS = ("paper's", "brief neighbours", "neighbours", "embedding", "brief")
"""Starts that stories have records of beside their own, as the names of methods have them."""


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation; the value alone where there is but one."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def table(records: Sequence[dict[str, Any]], data: str) -> str:
    """The Markdown table of one data set, methods in the order of `METHODS`."""
    runs: dict[tuple[str, bool], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        if record["data"] == data:
            runs[record["method"], record["held_out"] > 0].append(record)
    lines = [HEADER, ("---",) * len(HEADER)]
    for method in METHODS:
        own, held_out = runs[method, False], runs[method, True]
        if not own:
            continue
        starts = [r["start"].get("start") for r in own]
        is_density = all(r["elbo"] is not None for r in own)
        bounds = [r["held_out_bound"] for r in held_out if r["held_out_bound"] is not None]
        lines.append(
            (
                method,
                str(len(own)),
                *(spread([r[name] for r in own]) for name in ("accuracy", "nmi", "ari")),
                f"{max(own, key=lambda r: r['elbo'])['accuracy']:.3f}" if is_density else "",
                spread(starts) if None not in starts else "",
                spread([r["elbo"] for r in own], 1) if is_density else "",
                spread(bounds, 1) if bounds else "",
                PUBLISHED.get((data, method), ""),
            )
        )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def overview(records: Sequence[dict[str, Any]]) -> str:
    """The Markdown table of the methods' accuracies, a column for each data set, the published ones in brackets."""
    runs = _accuracies(records)
    sets = [data for data in SETS if any(key[1] == data for key in runs)]
    lines = [("ACC", *sets), ("---",) * (len(sets) + 1)]
    for method in METHODS:
        cells = [spread(runs[method, data]) if (method, data) in runs else "" for data in sets]
        published = [PUBLISHED.get((data, method), "").split(" ")[0] for data in sets]
        papers = [f" [{paper}]" if paper else "" for paper in published]
        if any(cells) and not method.endswith(" start"):
            lines.append((method, *(cell + paper for cell, paper in zip(cells, papers, strict=True))))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def starts(records: Sequence[dict[str, Any]]) -> str:
    """The Markdown table of what other starts of the stories come to, a line for each story and start."""
    runs = _accuracies(records)
    sets = [data for data in SETS if any(key[1] == data for key in runs)]
    lines = [("ACC", "start", *sets), ("---",) * (len(sets) + 2)]
    for story in STORIES:
        for start in (*STARTS, "default"):
            method = story if start == "default" else f"{story}, {start} start"
            cells = [spread(runs[method, data]) if (method, data) in runs else "" for data in sets]
            if any(cells):
                lines.append((story, start, *cells))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _accuracies(records: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """By method and data set, of the fits to all rows."""
    runs: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if not record["held_out"]:
            runs.setdefault((record["method"], record["data"]), []).append(record["accuracy"])
    return runs


def page(records: Sequence[dict[str, Any]]) -> str:
    """The tables of all data sets that have records; the documentation shows the one of starts on a page of its own."""
    found = {record["data"] for record in records}
    tables = [f"### {data}\n\n{table(records, data)}" for data in SETS if data in found]
    marked = "<!-- --8<-- [start:starts] -->", starts(records), "<!-- --8<-- [end:starts] -->"
    return "\n\n".join(["### All", overview(records), *tables, "### Starts", *marked])
