"""Tables as they are passed in, of any kind: their values, and the names of their columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probclust.data.dataset import Dataset
from probclust.data.tables import Table

Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Named:
    """A table and the names of its columns.

    Attributes:
        values: (rows, features): an array, a tensor, a frame, a SciPy sparse matrix, or rows that are read in parts.
        names: of the columns; None where they have none, so that they go by their position.
    """

    values: Any
    names: Names | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and features."""
        return tuple(np.shape(self.values) if isinstance(self.values, list | tuple) else self.values.shape)

    def __len__(self) -> int:
        return self.shape[0]


def opened(x: Any, name: str = "x", *, missing: bool = False) -> Named:
    """The values of a table and the names of its columns.

    Names are strings, as a file would hold them. A frame whose columns are numbered 0, 1, 2, ... in their order has
    none, nor has an array.

    Args:
        x: an array (also a masked, structured or memory-mapped one), a tensor, a list of lists, a SciPy sparse matrix,
            an AnnData (its `X`), a frame of pandas or what turns into one (`to_pandas`: polars, pyarrow, xarray), or a
            data set of `probclust.data` (its `x`).
        name: what the error messages call it.
        missing: make masked entries NaN; else they are refused.

    Raises:
        TypeError: it is no table.
        ValueError: it has masked entries.
    """
    if isinstance(x, Named):
        return x
    if isinstance(x, Dataset):
        x = x.x
    if hasattr(x, "to_pandas") and not isinstance(x, np.ndarray):
        x = x.to_pandas()
    elif _is_annotated(x):
        return _annotated(x, name)
    elif isinstance(x, np.ndarray) and x.dtype.names is not None:
        x = pd.DataFrame.from_records(x.ravel())
    if isinstance(x, pd.DataFrame):
        return Named(x, _names(x.columns))
    values = unmasked(_known_kind(x, name), name, missing)
    columns = getattr(x, "columns", None)  # of rows that are read in parts, and of frames that pandas does not know
    return Named(values, None if columns is None else _names(columns))


def arranged(x: Any, wanted: Sequence[Any] | None, name: str = "x", *, missing: bool = False) -> Named:
    """`opened`, and its columns put in the order of the names `wanted`.

    Args:
        x: as for `opened`.
        wanted: names of the columns that a fit saw, in its order; None where they had none: then columns that are
            named by their numbers are put in the order of these, and others stay as they are.
        name: what the error messages call it.
        missing: see `opened`.

    Raises:
        ValueError: the columns of `x` have names, and these are not those that are wanted.
    """
    table = opened(x, name, missing=missing)
    if table.names is None:
        return table
    by_number = wanted is None
    if wanted is None:
        wanted = tuple(map(str, range(len(table.names))))
        if set(wanted) != set(table.names):
            return table
    wanted = tuple(map(str, wanted))
    if table.names == wanted:
        return table
    _check_same(table.names, wanted, name)
    places = {column: place for place, column in enumerate(table.names)}
    order = [places[column] for column in wanted]
    values = table.values
    if isinstance(values, pd.DataFrame):
        values = values.iloc[:, order]
    elif hasattr(values, "table") or isinstance(values, Table):
        values = values.select(wanted)
    else:
        values = (values.tocsr() if hasattr(values, "tocsr") else np.asarray(values))[:, order]
    return Named(values, None if by_number else wanted)  # columns numbered in order have no names, see `_names`


def _check_same(names: Names, wanted: Names, name: str) -> None:
    doubled = [column for column, times in Counter(names).items() if times > 1]
    if doubled:
        raise ValueError(f"{name} has several columns of the name {_listed(doubled)}, so that their order is unknown")
    has, fitted = set(names), set(wanted)
    absent = [column for column in wanted if column not in has]
    foreign = [column for column in names if column not in fitted]
    if absent or foreign:
        said = [f"without {_listed(absent)}"] if absent else []
        said += [f"with {_listed(foreign)}, which the fit did not see"] if foreign else []
        raise ValueError(
            f"{name} must have the {len(wanted)} columns of the fit, in any order, got {len(names)} "
            f"{' and '.join(said)}; the fit saw {_listed(wanted)}. Rename columns, or leave out those too many "
            "(of a file: drop=[...]); values without names (an array) are taken by position"
        )


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def _names(columns: Any) -> Names | None:
    found = list(columns)
    return None if found == list(range(len(found))) else tuple(map(str, found))


def _is_annotated(x: Any) -> bool:
    """Whether it is an AnnData, a matrix of cells and genes with tables about both."""
    return all(hasattr(x, member) for member in ("X", "obs_names", "var_names"))


def _annotated(x: Any, name: str) -> Named:
    if getattr(x, "isbacked", False):
        x = x.to_memory()
    if x.X is None:
        raise ValueError(f"{name} is {type(x).__name__} without X; pass one of its layers, such as x.layers['counts']")
    return Named(unmasked(x.X, name, missing=False), tuple(map(str, x.var_names)))


def _known_kind(x: Any, name: str) -> Any:
    """`x`, if NumPy need not guess what it is: it would ask any object with a length for its entries, one by one."""
    plain = isinstance(x, Sequence | int | float | complex | None) or hasattr(x, "__array__")
    if plain or isinstance(x, Tensor | memoryview) or hasattr(x, "toarray") or isinstance(x, Table):
        return x
    raise TypeError(
        f"{name} must be a table of real numbers, got {type(x).__name__}; expected an array, a tensor, a frame, a "
        "SciPy sparse matrix, an AnnData or a list of rows"
    )


def unmasked(x: Any, name: str, missing: bool) -> Any:
    """`x` without its mask, behind which NumPy and torch would take what stands for values; tensors dense.

    Raises:
        ValueError: there are masked entries, which are not to be `missing`, NaN.
    """
    if isinstance(x, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in x):
        x = np.ma.stack(x)
    is_masked_tensor = type(x).__name__ == "MaskedTensor"
    if isinstance(x, Tensor) and not is_masked_tensor:
        return x if x.layout == torch.strided else x.to_dense()
    if not is_masked_tensor and not isinstance(x, np.ma.MaskedArray):
        return x
    if is_masked_tensor:
        x = np.ma.masked_array(x.get_data().detach().cpu().numpy(), ~x.get_mask().cpu().numpy())
    if not np.ma.is_masked(x):
        return x.data
    if not missing:
        row, *column = np.argwhere(np.ma.getmaskarray(x))[0].tolist()
        where = f"row {row}" + "".join(f", column {i}" for i in column)
        raise ValueError(
            f"{name} must have no masked values, first in {where}: impute them, drop their rows, or take a story with "
            "missing=True"
        )
    return x.astype(np.result_type(x.dtype, np.float32)).filled(np.nan)
