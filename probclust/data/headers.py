"""Whether the first line of a table of text holds the names of its columns, or is a row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ENOUGH = 8
"""Rows from which the range of a column, and how its numbers are written, say something of a further row."""

SEVERAL = 5
"""Evenly spaced numbers, such as years or wavelengths, that a row does not hold by chance."""

WHOLE = r"[+-]?\d+"
MISSING = {"", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "NULL", "null", "None", "<NA>", "#N/A"}
TRUTH = {"true", "false"}


def holds_names(first: Sequence[str], below: pd.Series[str]) -> bool | None:
    """Whether the first line of a table holds the names of its columns; None where that cannot be told.

    - Text is a name. Text beside numbers may also be a label, or stand for a missing value: then the numbers decide.
    - A cell that is missing is no name, but for an empty first one, which stands above the numbers of the rows.
    - Numbers are names where they differ and none looks like its column: each lies further from the column's range
      than this is wide, or is written without decimals where all below have some. So are `SEVERAL` and more whole
      numbers at even steps (years, wavelengths) above rows that are not so.
    - 0, 1, 2, ..., whole numbers at even steps, and numbers half of which do not look like their columns, may be
      either: None.
    - All else is a row, but where it would put text into a column of numbers: None.

    Args:
        first: cells of the first line, decimals with a point.
        below: cells of as many lines below it, line by line, as text, decimals with a point.
    """
    numeric = [is_number(cell) for cell in first]
    text = [not (is_number(cell) or cell in MISSING or cell.lower() in TRUTH) for cell in first]
    if not any(numeric):
        return any(text)
    if not len(below):
        return False
    if any(cell in MISSING for cell in first[1:]) or any(cell.lower() in TRUTH for cell in first):
        return False
    numbers = pd.to_numeric(below, errors="coerce").to_numpy(np.float64).reshape(-1, len(first))
    if first[0] in MISSING:
        if first[0] == "" and counts_rows(pd.Series(numbers[:, 0])):
            return True
        if first[0] != "":
            return False
    places = np.flatnonzero(numeric)
    cells = [first[place] for place in places.tolist()]
    found = _are_names(
        np.array(cells, dtype=np.float64),
        np.array([re.fullmatch(WHOLE, cell) is not None for cell in cells]),
        numbers[:, places],
        below.str.fullmatch(WHOLE).to_numpy(bool).reshape(-1, len(first))[:, places],
    )
    above_numbers = bool((~np.isnan(numbers[:, np.flatnonzero(text)])).all(0).any())
    return None if found is False and above_numbers else found


def counts_rows(column: pd.Series[Any]) -> bool:
    """Whether the numbers of a column are those of its rows, from 0 or from 1."""
    found = column.to_numpy()
    if not pd.api.types.is_numeric_dtype(column) or not len(found) or pd.isna(found).any():
        return False
    return bool(found[0] in (0, 1) and (found == found[0] + np.arange(len(found))).all())


def _are_names(
    first: NDArray[np.float64], whole: NDArray[np.bool_], below: NDArray[np.float64], below_whole: NDArray[np.bool_]
) -> bool | None:
    """The part of `holds_names` for numbers: (cells,) of the first line, (rows, cells) below it."""
    n = len(first)
    if len(np.unique(first)) < n:
        return False
    steps = np.diff(first)
    in_order = n > 2 and bool((steps > 0).all() or (steps < 0).all())
    if not (whole.all() or in_order):
        return False
    enough = (~np.isnan(below)).sum(0) >= ENOUGH
    filled = np.where(np.isnan(below), first, below)
    low, high = filled.min(0), filled.max(0)
    width = high - low
    strange = enough & ((first < low - width) | (first > high + width) | (whole & ~below_whole.any(0)))
    if strange.all():
        return True
    count = whole.all() and bool((np.sort(first) == np.arange(n)).all())
    even = whole.all() and n > 2 and bool((steps == steps[0]).all())
    if even:
        across = np.diff(below, axis=1)
        if (across == steps[0]).all(1).mean() > 0.5:  # so are the rows
            even = count = False
    if (even and n >= SEVERAL and enough.all() and not count) or (count and n >= ENOUGH and enough.all()):
        return True
    return None if count or even or strange.mean() >= 0.5 else False


def is_number(cell: str) -> bool:
    """Whether a cell holds a number, with a decimal point."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell not in MISSING and "_" not in cell
