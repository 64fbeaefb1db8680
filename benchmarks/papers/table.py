"""The tables of the records: mean and standard deviation over seeds, beside the papers' own numbers."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from benchmarks.papers.data import SETS
from benchmarks.papers.methods import METHODS
from benchmarks.papers.published import PUBLISHED

HEADER = ("method", "seeds", "ACC", "NMI", "ARI", "ACC of its start", "ELBO", "held-out bound", "published ACC")


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
        starts = [r["start"].get("k-means", r["start"].get("start")) for r in own]
        bounds = [r["held_out_bound"] for r in held_out if r["held_out_bound"] is not None]
        lines.append(
            (
                method,
                str(len(own)),
                *(spread([r[name] for r in own]) for name in ("accuracy", "nmi", "ari")),
                spread(starts) if None not in starts else "",
                spread([r["elbo"] for r in own], 1) if all(r["elbo"] is not None for r in own) else "",
                spread(bounds, 1) if bounds else "",
                PUBLISHED.get((data, method), ""),
            )
        )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def overview(records: Sequence[dict[str, Any]], sets: Sequence[str] = ("digits", "usps", "har", "mnist-10k")) -> str:
    """The Markdown table of accuracies, a column for each data set, with the published ones in brackets."""
    runs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in records:
        if not record["held_out"]:
            runs[record["method"], record["data"]].append(record["accuracy"])
    lines = [("ACC", *sets), ("---",) * (len(sets) + 1)]
    for method in METHODS:
        cells = [spread(runs[method, data]) if runs[method, data] else "" for data in sets]
        published = [PUBLISHED.get((data, method), "").split(" ")[0] for data in sets]
        papers = [f" [{paper}]" if paper else "" for paper in published]
        if any(cells):
            lines.append((method, *(cell + paper for cell, paper in zip(cells, papers, strict=True))))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def page(records: Sequence[dict[str, Any]]) -> str:
    """The tables of all data sets that have records."""
    found = {record["data"] for record in records}
    tables = [f"### {data}\n\n{table(records, data)}" for data in SETS if data in found]
    return "\n\n".join(["### All", overview(records), *tables])
