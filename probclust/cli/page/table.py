"""A comparison as a table to read: headings, numbers rounded, errors beside them, dashes where there is none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = {
    "log_likelihood": ("log p(x) ≥", 2, "se"),
    "difference": ("difference", 2, "difference_se"),
    "accuracy": ("ACC", 3, None),
    "nmi": ("NMI", 3, None),
    "ari": ("ARI", 3, None),
    "parameters": ("params", 0, None),
    "seconds": ("seconds", 1, None),
}
"""Column of `pc.compare`: its heading, its decimals, and the column of its standard error."""

CAPTION = "log p(x), a lower bound, and its paired difference to the best: nats per row, ± standard error over the rows"


def caption(frame: pd.DataFrame) -> str:
    """What the numbers are, and how many particles stand behind the bounds."""
    particles = frame.get("particles", pd.Series(dtype=float)).dropna()
    return CAPTION if particles.empty or particles.max() < 2 else f"{CAPTION}; {particles.max()} particles"


def cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings, and the texts of each row, its name first; columns without any number are left out."""
    shown = [name for name in COLUMNS if name in frame.columns and frame[name].notna().any()]
    rows = [
        [str(name), *(_cell(facts, column) for column in shown)]
        for name, facts in zip(frame.index, frame.to_dict("records"), strict=True)
    ]
    return ["story", *(COLUMNS[name][0] for name in shown)], rows


def _cell(facts: dict[Any, Any], column: str) -> str:
    _, decimals, error = COLUMNS[column]
    text = _number(facts[column], decimals)
    if text == "–" or error is None or _number(facts.get(error), decimals) == "–":
        return text
    if column == "difference" and facts[column] == 0:
        return "best"
    return f"{text} ± {_number(facts[error], decimals)}"


def _number(value: Any, decimals: int) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.{decimals}f}".replace("-", "−")


def rich_table(frame: pd.DataFrame, title: str | None = None) -> Table:
    """The table for a terminal."""
    from rich import box
    from rich.table import Table

    headings, rows = cells(frame)
    bounded = "log_likelihood" in frame.columns and bool(frame["log_likelihood"].notna().any())
    table = Table(
        title=title,
        caption=caption(frame) if bounded else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
    )
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
