"""Tables that are read in parts: memory-mapped arrays, sparse matrices, parquet files."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

GROUP_BYTES = 2**28
"""Bytes that a row group of a parquet file may have once it is decoded: one is held at a time."""

PICKED = 256
"""Single rows that are taken from a memory map before its pages are let go."""


@runtime_checkable
class Table(Protocol):
    """(rows, features) of real numbers that need not be in memory; any object with these members is one.

    Where rows are best read in certain parts, a member `edges`, an (n_parts + 1,) array of row numbers, says in which.
    Where features have names, a member `columns` gives them, and `select(columns)` a table of these in that order.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """(stop - start, features) consecutive rows."""

    def pick(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(len(rows), features) of the rows of those numbers, in that order."""


class ArrayTable:
    """An array in memory, for rows that do not fit a GPU.

    Args:
        array: (rows, features).
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.array.shape[0], self.array.shape[1]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Consecutive rows, not copied."""
        return self.array[start:stop]

    def pick(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows by number."""
        return self.array[rows]


class MappedTable:
    """A memory-mapped array. Pages of the file are let go once they are copied, so that they take no memory.

    Args:
        array: (rows, features), a view of any `numpy.memmap`.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array.view(np.ndarray)
        self.root = memory_map(array)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.array.shape[0], self.array.shape[1]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Consecutive rows, copied."""
        return self._let_go(np.array(self.array[start:stop]))

    def pick(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows by number, copied."""
        picked = np.empty((len(rows), self.shape[1]), self.array.dtype)
        for start in range(0, len(rows), PICKED):  # each row brings its surroundings of the file into memory
            part = slice(start, start + PICKED)
            picked[part] = self._let_go(self.array[rows[part]])
        return picked

    def _let_go(self, rows: NDArray[Any]) -> NDArray[Any]:
        if self.root.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):  # of "c" that would drop what was written
            self.root.base.madvise(mmap.MADV_DONTNEED)
        return rows

    def __reduce__(self) -> tuple[Any, ...]:
        if self.root.filename is None:
            raise TypeError("a memory map of a file without a name cannot be sent to another process; map it by path")
        first = np.frombuffer(self.root.base, np.uint8).ctypes.data - self.root.offset // _GRAIN * _GRAIN
        offset, array = self.array.ctypes.data - first, self.array
        return _mapped_again, (str(self.root.filename), array.dtype, array.shape, offset, array.strides)


_GRAIN = mmap.ALLOCATIONGRANULARITY


def _mapped_again(path: str, dtype: Any, shape: tuple[int, int], offset: int, strides: tuple[int, int]) -> MappedTable:
    whole = np.memmap(path, np.uint8, "r")
    return MappedTable(np.ndarray(shape, dtype, whole, offset, strides))


def memory_map(array: Any) -> Any:
    """The `numpy.memmap` of a file that an array is a view of, or None."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap):
            return array
        array = array.base
    return None


class SparseTable:
    """A SciPy sparse matrix, of which the rows asked for are made dense.

    Args:
        matrix: (rows, features), in any format; kept as CSR.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix.tocsr()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.matrix.shape[0], self.matrix.shape[1]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Consecutive rows, dense."""
        return np.asarray(self.matrix[start:stop].toarray())

    def pick(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows by number, dense."""
        return np.asarray(self.matrix[rows].toarray())


class ParquetTable:
    """A parquet file, decoded one row group at a time.

    Args:
        path: of the file.
        columns: names of the features, in their order; None for all columns but the index of a frame.

    Raises:
        ImportError: pyarrow is not installed.
        TypeError: a column does not hold numbers.
        ValueError: the file is damaged, or one of its row groups takes more than 256 MiB.
    """

    def __init__(self, path: str | PathLike[str], columns: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        pyarrow, parquet = import_pyarrow()
        try:
            self.file = parquet.ParquetFile(self.path)
        except (ValueError, OSError) as error:
            raise ValueError(f"{path} is no parquet file, or it is damaged: {error}") from error
        schema = self.file.schema_arrow
        index = stored_index(schema)
        self.columns = [name for name in schema.names if name not in index] if columns is None else list(columns)
        kinds = pyarrow.types
        is_number = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal)
        for name in self.columns:
            found = schema.field(name).type
            if not any(check(found) for check in is_number):
                raise TypeError(
                    f"{path} must hold numbers only, got {found} in column {name!r}; leave it out (drop=[{name!r}]) or "
                    "encode it as numbers"
                )
        groups = self.file.metadata
        sizes = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
        largest = max(sizes, default=0) * len(self.columns) * 8
        if largest > GROUP_BYTES:
            raise ValueError(
                f"a row group of {path} takes {largest / 2**20:.0f} MiB, more than the {GROUP_BYTES // 2**20} MiB that "
                f"are read at a time; write it with row_group_size={GROUP_BYTES // (8 * len(self.columns))} or less"
            )
        self.edges = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.lock = Lock()
        self.held: tuple[int, NDArray[Any]] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return int(self.edges[-1]), len(self.columns)

    def select(self, columns: Sequence[str]) -> ParquetTable:
        """The same rows with those features, in that order."""
        return ParquetTable(self.path, columns)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Consecutive rows."""
        return self.pick(np.arange(start, stop))

    def pick(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows by number; each row group that holds some of them is decoded once."""
        group = np.searchsorted(self.edges, rows, side="right") - 1
        out = np.empty((len(rows), len(self.columns)), np.float64)
        for number in np.unique(group):
            mine = group == number
            out[mine] = self._group(int(number))[rows[mine] - self.edges[number]]
        return out

    def _group(self, number: int) -> NDArray[Any]:
        with self.lock:
            if self.held is None or self.held[0] != number:
                self.held = None
                table = self.file.read_row_group(number, self.columns)
                rows = np.empty((table.num_rows, len(self.columns)), np.float64)
                for place, name in enumerate(self.columns):
                    rows[:, place] = table.column(name).cast("float64").to_numpy()  # NaN where there is nothing
                self.held = number, rows
            return self.held[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return ParquetTable, (self.path, self.columns)


def stored_index(schema: Any) -> list[str]:
    """Names of the columns of a parquet file that hold the index of the pandas frame that was written."""
    facts = (schema.pandas_metadata or {}).get("index_columns", [])
    return [name for name in facts if isinstance(name, str)]  # an index that counts the rows is a dict, and no column


def import_pyarrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet.

    Raises:
        ImportError: they are not installed; names the extra.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("reading .parquet needs pyarrow: pip install 'probclust[parquet]'") from error
    return pyarrow, pyarrow.parquet
