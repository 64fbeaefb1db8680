"""The door: what the user passes in is checked here once, before any work is done."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from probclust.data.named import Named, opened

_NUMPY_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


def as_rows(
    x: Any,
    *,
    n_features: int | None = None,
    min_rows: int = 1,
    name: str = "x",
    dtype: torch.dtype = torch.float32,
    missing: bool = False,
) -> Tensor:
    """Turn a table of numbers into a contiguous tensor on the CPU, or say what is wrong with it and where.

    A tensor or array that is already as wanted is not copied: the result shares its memory.

    Args:
        x: (rows, features), of any real dtype and any kind that `probclust.data.named.opened` takes; sparse ones are
            made dense.
        n_features: The number of features that the story expects, if it is known.
        min_rows: The smallest number of rows that is enough.
        name: What the error messages call it.
        dtype: torch.float32 or torch.float64.
        missing: Let NaN pass, for entries that were not observed.

    Returns:
        A (rows, features) tensor of finite values, or NaN where `missing` lets it pass.

    Raises:
        TypeError: If it holds something other than real numbers.
        ValueError: If its shape is wrong, or a value is NaN, infinite or too large for `dtype`.

    Examples:
        >>> as_rows([[1, 2, 3], [4, 5, 6]]).shape
        torch.Size([2, 3])
    """
    table = opened(x, name, missing=missing)
    array = as_array(table, name)
    check_shape(array.shape, n_features, min_rows, name)
    with np.errstate(over="ignore"):  # an overflow becomes an infinity, which is reported below
        rows = np.require(array, _NUMPY_DTYPES[dtype], requirements=["C", "W"])
    if min(rows.strides) < 0:  # a reversed axis of length 1 counts as contiguous, but torch refuses it
        rows = rows.copy()
    check_finite(rows, array, name=name, missing=missing, columns=table.names)
    return torch.from_numpy(rows)


def as_labels(y: Any, n_rows: int, n_clusters: int | None = None, unknown: int = -1) -> Tensor:
    """Turn known clusters into a tensor, or say what is wrong with them and where.

    Args:
        y: (rows,) whole numbers from 0 to n_clusters - 1, and `unknown` where the cluster is not known.
        n_rows: The number of rows that they belong to.
        n_clusters: The number of clusters, if it is known.
        unknown: The value that marks a row whose cluster is not known.

    Returns:
        A (rows,) int64 tensor on the CPU.

    Raises:
        TypeError: If they are not numbers (`pandas.factorize(y)[0]` numbers classes, and gives -1 where there is none).
        ValueError: If their number or shape is wrong, or one of them names no cluster.

    Examples:
        >>> as_labels([0, -1, 2], n_rows=3, n_clusters=3)
        tensor([ 0, -1,  2])
    """
    try:
        array = as_array(opened(y, "y"), "y")
    except TypeError as error:
        raise TypeError(f"{error}; pandas.factorize(y)[0] numbers classes of any kind") from error
    if array.shape != (n_rows,):
        raise ValueError(f"y must have one entry for each row, shape ({n_rows},), got shape {array.shape}")
    with np.errstate(invalid="ignore"):  # NaN and infinities differ from their cast, and are reported below
        labels = array.astype(np.int64)
    top = np.iinfo(np.int64).max if n_clusters is None else n_clusters - 1
    wrong = (labels != array) | ((labels != unknown) & ((labels < 0) | (labels > top)))
    if wrong.any():
        row = int(wrong.argmax())
        upto = "" if n_clusters is None else f" to {n_clusters - 1}"
        raise ValueError(
            f"y must hold whole numbers from 0{upto}, or {unknown} where the cluster is unknown, "
            f"got {array[row]} in row {row}"
        )
    return torch.from_numpy(labels)


def enough_rows(n_rows: int, n_clusters: int) -> None:
    """Check that there are at least as many rows as clusters.

    Raises:
        TypeError: If `n_clusters` is not a whole number.
        ValueError: If it is below 1 or above `n_rows`.
    """
    if operator.index(n_clusters) < 1:
        raise ValueError(f"n_clusters must be at least 1, got n_clusters={n_clusters}")
    if n_clusters > n_rows:
        raise ValueError(
            f"n_clusters must be at most the number of rows, got n_clusters={n_clusters} with {n_rows} rows"
        )


def check_varied(x: Tensor, name: str = "x", n_rows: int | None = None) -> None:
    """Check that the rows of `x`, (rows, features), are not all the same: such data have no clusters to find.

    Args:
        x: The rows, or their least and largest values.
        name: What the error message calls them.
        n_rows: Their number, if `x` is not all of them.

    Raises:
        ValueError: If they are.
    """
    low, high = torch.aminmax(x, dim=0)
    if torch.equal(low, high):
        raise ValueError(
            f"{name} must vary from row to row, got n_samples={n_rows or len(x)} with all rows the same; "
            "check how the data were read or scaled"
        )


def as_array(table: Named, name: str) -> NDArray[Any]:
    """The values of a table as an array of bool, integer or float dtype, of any shape.

    Raises:
        TypeError: they are no real numbers.
        ValueError: the rows differ in length.
    """
    x = table.values
    if isinstance(x, Tensor):
        x = x.detach().cpu().resolve_conj().resolve_neg()
        x = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    elif isinstance(x, pd.DataFrame):
        x = frame_values(x, name)
    elif isinstance(x, pd.Series | pd.api.extensions.ExtensionArray):
        x = frame_values(pd.DataFrame({name: x}), name)[:, 0]
    elif hasattr(x, "toarray"):  # SciPy's sparse matrices and arrays
        x = x.toarray()
    try:
        array = np.asarray(x)
    except ValueError as error:  # a list whose rows differ in length
        raise ValueError(f"{name} must be a table with rows of one length: {error}") from error
    if array.dtype.kind == "c":
        raise TypeError(f"Complex data not supported: {name} must hold real numbers, got dtype {array.dtype}")
    if array.dtype.kind not in "biuf":
        hint = f" (a path? read the file with pc.data.read({x!r}))" if isinstance(x, str) else ""
        remedy = f"{name}.astype(float)" if array.dtype.kind == "O" and array.ndim else "encode text and categories"
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}{hint}; make it numbers: {remedy}")
    return array


def frame_values(frame: pd.DataFrame, name: str = "x") -> NDArray[Any]:
    """(rows, features) values of a frame; True is 1, and what is not there NaN.

    Raises:
        TypeError: a column does not hold numbers; names it.
    """
    place = odd_column(frame)
    if place is not None:
        column = frame.iloc[:, place]
        row = first_text(column)
        such = "" if row is None else f", such as {column.iloc[row]!r} in row {row},"
        raise TypeError(
            f"{name} must hold numbers only, got dtype {column.dtype}{such} in column {frame.columns[place]!r}; drop "
            "the column or encode it as numbers"
        )
    dtypes = list(frame.dtypes)
    if dtypes and all(isinstance(dtype, np.dtype) and dtype.kind != "O" for dtype in dtypes):
        return frame.to_numpy(np.result_type(*dtypes))
    return frame.to_numpy(dtype=np.float64, na_value=np.nan)


def odd_column(frame: pd.DataFrame) -> int | None:
    """The place of the first column that does not hold numbers, None where all do."""
    unsure = [n for n, dtype in enumerate(frame.dtypes) if not isinstance(dtype, np.dtype) or dtype.kind not in "biuf"]
    return next((place for place in unsure if not _holds_numbers(frame.iloc[:, place])), None)


def _holds_numbers(column: pd.Series[Any]) -> bool:
    """Whether a column of a frame holds real numbers or truth values; entries may be missing."""
    dtype = column.dtype
    if pd.api.types.is_object_dtype(dtype):
        return pd.api.types.infer_dtype(column, skipna=True) in NUMBERS
    is_real = not pd.api.types.is_complex_dtype(dtype)
    return is_real and (pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype))


def first_text(column: pd.Series[Any]) -> int | None:
    """The first row of a column whose entry is neither a number nor missing, None where it is no column of text."""
    if not (pd.api.types.is_object_dtype(column.dtype) or pd.api.types.is_string_dtype(column.dtype)):
        return None
    text = (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()
    return int(text.argmax()) if text.any() else None


NUMBERS = {"integer", "floating", "mixed-integer-float", "boolean", "decimal", "empty"}
"""What pandas calls a column of Python objects that are numbers, or nothing."""


def check_shape(shape: tuple[int, ...], n_features: int | None, min_rows: int, name: str) -> None:
    """Check that a shape is (rows, features), with as many of each as are wanted.

    Raises:
        ValueError: If it is not.
    """
    if len(shape) != 2:
        remedy = {
            0: "into a table",
            1: f"with {name}.reshape(-1, 1) if it is one feature, or {name}.reshape(1, -1) if it is one row",
        }.get(len(shape), f"with {name}.reshape(len({name}), -1)")
        raise ValueError(f"Expected 2D array (rows, features), got {name} of shape {shape}. Reshape your data {remedy}")
    rows, features = shape
    if rows < min_rows:
        raise ValueError(f"{name} has {rows} sample(s) (shape={shape}) while a minimum of {min_rows} is required.")
    if features == 0:
        raise ValueError(f"{name} has 0 feature(s) (shape={shape}) while a minimum of 1 is required.")
    if n_features is not None and features != n_features:
        raise ValueError(
            f"{name} must have the features that the story was built for: expected {n_features} features, "
            f"got {features} (shape={shape})"
        )


def check_finite(
    rows: NDArray[Any],
    values: NDArray[Any],
    *,
    name: str = "x",
    missing: bool = False,
    columns: Any = None,
    number: Callable[[int], int] = int,
) -> None:
    """Check that (rows, features) of a floating type hold no infinity, and no NaN unless that may stand for missing.

    Args:
        rows: What is checked.
        values: The same as they were passed, before they were cast.
        name: What the error messages call them.
        missing: Let NaN pass.
        columns: Names of the features, or None.
        number: The number that the error gives to a row, where these are a part of all rows.

    Raises:
        ValueError: Names the first such value, its row and column, and the remedy.
    """
    if not rows.size:
        return
    tensor = torch.from_numpy(rows)
    low, high = torch.aminmax(tensor)  # both are NaN if any value is; cheaper than a mask over all values
    if (torch.isfinite(low) and torch.isfinite(high)) or (missing and not tensor.isinf().any()):
        return
    row, column = (int(i) for i in np.argwhere(np.isinf(rows) if missing else ~np.isfinite(rows))[0])
    where = f"first in row {number(row)}, column {column}"
    if columns is not None:
        where += f" ({columns[column]!r})"
    value = values[row, column]
    if np.isnan(value):
        remedy = "impute such values, drop their rows, or take a story with missing=True"
        raise ValueError(f"Input {name} contains NaN, {where}: {remedy}")
    if np.isinf(value):
        raise ValueError(f"Input {name} contains infinity, {where}: replace such values, or drop their rows")
    raise ValueError(f"Input {name} contains a value too large for {rows.dtype}, {value} {where}: rescale the features")
