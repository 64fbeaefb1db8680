"""What rounding to float32 costs columns that lie far from zero for their spread: map metres, seconds since 1970."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from probclust.data.checks import as_array
from probclust.data.named import Named
from probclust.data.stored import StoredRows
from probclust.data.tables import MappedTable, Table, memory_map

FAR = 1e4
"""Distance from zero, in standard deviations of a column, beyond which float32 is off by 0.0006 of them or more."""

NEAR = 17.0
"""Distance up to which it is off by less than a millionth of a standard deviation, which is no matter."""

MERGED = 0.05
"""Share of a column's different neighbouring values that float32 makes one from which on it loses clusters."""

NOISE = 1e-12
"""Difference, as a share of a column's largest value, that rounding in float64 may make."""

ELEMENTS = 2**20
"""Numbers of a sample of the rows."""

EXACT = "float16", "float32", "bfloat16", "int8", "uint8", "int16", "uint16", "bool"
"""Types whose values float32 holds."""


def far_columns(table: Named, n_rows: int = 1000) -> list[int]:
    """Columns in which a story in float32 would lose digits that tell rows apart.

    Args:
        table: (rows, features) finite numbers, or NaN.
        n_rows: rows that are looked at, evenly spaced.
    """
    rows = _sample(table, n_rows)
    top, spread = _top_and_spread(rows)
    varies = spread > NOISE * top
    return [
        int(column)
        for column in np.flatnonzero(varies & (top > NEAR * spread))
        if top[column] > FAR * spread[column] or _merged(rows[:, column], top[column]) > MERGED
    ]


def merging_columns(table: Named, n_rows: int = 500) -> list[int]:
    """Columns of which float32 makes different values one, so that it no longer tells rows apart; see `far_columns`.

    Rows that are few say nothing of it.
    """
    if _is_exact(table.values) or len(table) < 50:
        return []
    rows = _sample(table, n_rows)
    low, high = np.fmin.reduce(rows), np.fmax.reduce(rows)  # past NaN
    top = np.maximum(np.abs(low), np.abs(high))
    near = np.flatnonzero((high > low) & (2 * top > NEAR * (high - low)))
    return [int(column) for column in near if _merged(rows[:, column], top[column]) > MERGED]


def named_columns(columns: Sequence[int], names: Sequence[str] | None, most: int = 5) -> str:
    """Columns as a message tells them: by name, or by number where they have none."""
    said = [str(c) if names is None else f"{c} ({names[c]!r})" for c in columns[:most]]
    more = f" and {len(columns) - most} more" if len(columns) > most else ""
    return ("column " if len(columns) == 1 else "columns ") + ", ".join(said) + more


def _top_and_spread(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(features,) largest absolute value, and standard deviation."""
    seen = np.isfinite(rows)
    n = np.maximum(seen.sum(0), 1)
    known = np.where(seen, rows, 0.0)
    centred = np.where(seen, rows - known.sum(0) / n, 0.0)
    return np.abs(known).max(0, initial=0.0), np.sqrt(np.square(centred).sum(0) / n)


def _merged(column: NDArray[np.float64], top: float) -> float:
    """Share of the neighbouring values, of those that differ, that are the same in float32."""
    values = np.sort(column[np.isfinite(column)])
    differs = np.diff(values) > NOISE * top
    with np.errstate(over="ignore"):
        same = np.diff(values.astype(np.float32)) == 0
    return float((differs & same).sum() / max(1, differs.sum()))


def _is_exact(values: Any) -> bool:
    if isinstance(values, StoredRows):
        values = values.table
    if isinstance(values, pd.DataFrame):
        return all(str(dtype).lower() in EXACT for dtype in values.dtypes)
    if not hasattr(values, "dtype") and isinstance(values, Table):
        values = values.read(0, 1)
    return str(getattr(values, "dtype", "")).removeprefix("torch.") in EXACT


def _sample(table: Named, n_rows: int) -> NDArray[np.float64]:
    """Some rows, evenly spaced; of a table that is read in parts, from four places."""
    total, width = table.shape
    n = min(total, n_rows, max(50, ELEMENTS // max(1, width)))
    values = table.values.table if isinstance(table.values, StoredRows) else table.values
    index = np.unique(np.linspace(0, total - 1, n).astype(np.int64))
    if isinstance(values, Tensor):
        values = values[torch.as_tensor(index)]
    elif isinstance(values, pd.DataFrame):
        values = values.iloc[index]
    elif isinstance(values, np.ndarray):  # a mapped one would keep the pages of its file in memory
        values = values[index] if memory_map(values) is None else MappedTable(values).pick(index)
    elif isinstance(values, Table):
        starts = np.linspace(0, max(0, total - n // 4), 4).astype(int)
        values = np.concatenate([values.read(start, min(total, start + max(1, n // 4))) for start in starts.tolist()])
    elif hasattr(values, "tocsr"):
        values = values.tocsr()[index]
    else:
        values = [values[row] for row in index]
    return as_array(Named(values, None), "x").astype(np.float64)
