"""Labels of rows as they are passed in: classes of any kind, some perhaps unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from probclust.data.checks import NUMBERS


def label_values(y: Any, name: str = "y", unknown: int | None = None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The labels of rows, and which of them are there.

    Args:
        y: (rows,) whole numbers or strings of any kind (lists, arrays, masked ones, tensors, series of pandas'
            nullable, string and categorical types); NaN, None, NA or masked where a row has none.
        name: what the error messages call it.
        unknown: a number that marks rows without a label too, or its text.

    Returns:
        (rows,) integers or strings, and (rows,) whether they are there; where not, the integer is 0 and the string "".

    Raises:
        TypeError: they are something else, or of both kinds.
        ValueError: they have more than one dimension.
    """
    if isinstance(y, Tensor):
        y = y.detach().cpu().numpy()
    if type(y) is np.ndarray and y.dtype.kind in "biu" and y.ndim == 1:
        return y, np.ones(len(y), dtype=bool) if unknown is None else y != unknown
    there = ~np.ma.getmaskarray(y) if isinstance(y, np.ma.MaskedArray) else None
    entries = np.asarray(y, dtype=object)
    if entries.ndim != 1:
        raise ValueError(f"{name} must have one dimension (rows,), got shape {entries.shape}")
    column = pd.Series(entries)
    marked = column.isin([] if unknown is None else [unknown, str(unknown)]) | column.isna()
    there = ~marked.to_numpy() if there is None else there & ~marked.to_numpy()
    kind = pd.api.types.infer_dtype(column[there], skipna=False)
    if kind in ("string", "empty"):
        return np.array(column.where(there, "").tolist(), dtype=str), there
    if kind in NUMBERS:
        numbers = column.where(there, 0).to_numpy(np.float64)
        if (numbers == np.round(numbers)).all():
            return column.where(there, 0).to_numpy(np.int64), there
    dtype = getattr(y, "dtype", np.asarray(y).dtype)
    odd = {"floating": "numbers that are not whole"}.get(kind, kind)
    raise TypeError(f"{name} must hold integers or strings, got dtype {dtype} ({odd})")
