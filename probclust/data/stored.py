"""Rows that stay where they are, in a file or a sparse matrix, and become tensors a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probclust.data.checks import as_rows, check_finite, check_shape
from probclust.data.named import Named, opened, unmasked
from probclust.data.tables import MappedTable, SparseTable, Table, memory_map

RESIDENT_BYTES = 2**26
"""Dense size, 64 MiB, up to which mapped arrays, sparse matrices and parquet files become one tensor in memory."""

BLOCK_BYTES = 2**20
"""Dense size, 1 MiB, of the blocks of consecutive rows in which a shuffled epoch reads a table."""

WHOLE_BYTES = 2**31
"""Dense size, 2 GiB, above which stored rows are not made one tensor where a function needs them all at once."""


class StoredRows:
    """(rows, features) that give tensors by index, as a tensor does, without being one.

    Every batch is checked as it is read: NaN and infinite values raise, with their row and column, and what `check`
    finds in tensors of rows with the numbers of these.

    Args:
        table: where the rows are.
        dtype: of the tensors.
        device: of the tensors.
        name: what error messages call the rows.
        missing: let NaN pass, for entries that were not observed.

    Examples:
        >>> from scipy import sparse
        >>> rows = StoredRows(SparseTable(sparse.eye(4)))
        >>> rows.shape, rows[torch.tensor([2, 0])].tolist()
        (torch.Size([4, 4]), [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    """

    def __init__(
        self,
        table: Table,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        name: str = "x",
        missing: bool = False,
    ) -> None:
        self.table, self.dtype, self.device = table, dtype, torch.device(device)
        self.name, self.missing = name, missing
        self.is_checked = False
        self.check: Callable[[Tensor, Callable[[int], int]], None] | None = None

    @property
    def shape(self) -> torch.Size:
        """Rows and features."""
        return torch.Size(self.table.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all the rows would take as one tensor."""
        return self.shape.numel() * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        """Rows by a slice, a number, or a tensor or sequence of numbers or of booleans."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._tensor(self._array(self.table.read(start, max(start, stop)), start.__add__))
            index = torch.arange(start, stop, step)
        numbers = torch.as_tensor(index).cpu()
        if numbers.dtype == torch.bool:
            numbers = numbers.nonzero().squeeze(1)
        found = numbers.reshape(-1).numpy()
        if found.size and not (-len(self) <= found.min() and found.max() < len(self)):
            raise IndexError(f"rows must lie in 0..{len(self) - 1}, got {found.min()}..{found.max()}")
        found = found % len(self)
        order = np.argsort(found, kind="stable")  # a file is read in one direction
        ordered = found[order]
        rows = np.empty((len(found), self.shape[1]), _NUMPY[self.dtype])
        rows[order] = self._array(self.table.pick(ordered), lambda row: int(ordered[row]))
        return self._tensor(rows).reshape(*numbers.shape, self.shape[1])

    @property
    def columns(self) -> Sequence[str] | None:
        """Names of the features, where the table has any."""
        return getattr(self.table, "columns", None)

    def select(self, columns: Sequence[str]) -> StoredRows:
        """The same rows with those features, by name and in that order."""
        table: Any = self.table
        return StoredRows(
            table.select(columns), dtype=self.dtype, device=self.device, name=self.name, missing=self.missing
        )

    def split(self, size: int) -> Iterator[Tensor]:
        """Consecutive rows, `size` at a time, as `torch.Tensor.split` gives them."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def to(self, device: torch.device | str) -> StoredRows:
        """The same rows, whose batches come on that device."""
        moved = StoredRows(self.table, dtype=self.dtype, device=device, name=self.name, missing=self.missing)
        moved.is_checked, moved.check = self.is_checked, self.check
        return moved

    def edges(self) -> NDArray[np.int64]:
        """(n_blocks + 1,) row numbers between the blocks in which the rows are best read."""
        own = getattr(self.table, "edges", None)
        if own is not None:
            return np.unique(own)
        size = max(1, BLOCK_BYTES // (self.shape[1] * self.dtype.itemsize))
        return np.append(np.arange(0, len(self), size), len(self))

    def read_blocks(self, blocks: Sequence[tuple[int, int]]) -> Tensor:
        """Rows of several blocks (start, stop), one after the other."""
        out = torch.empty(sum(stop - start for start, stop in blocks), self.shape[1], dtype=self.dtype)
        if self.device.type == "cuda":
            out = out.pin_memory()
        at = 0
        for start, stop in blocks:
            rows = self._array(self.table.read(start, stop), start.__add__)
            out[at : at + stop - start] = torch.from_numpy(rows)
            at += stop - start
        return out.to(self.device, non_blocking=True)

    def _array(self, values: NDArray[Any], number: Callable[[int], int]) -> NDArray[Any]:
        """Values of the table, cast and checked; `number` gives the row that each is."""
        values = unmasked(values, self.name, self.missing)
        with np.errstate(over="ignore"):  # an overflow becomes an infinity, which the check reports
            rows: NDArray[Any] = np.require(values, _NUMPY[self.dtype], requirements=["C", "W"])
        if not self.is_checked:
            check_finite(rows, values, name=self.name, missing=self.missing, columns=self.columns, number=number)
            if self.check is not None:
                self.check(torch.from_numpy(rows), number)
        return rows

    def _tensor(self, rows: NDArray[Any]) -> Tensor:
        return to_device(torch.from_numpy(rows), self.device)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(Tensor, name):
            raise AttributeError(name)
        raise AttributeError(
            f"rows stored outside memory have no '{name}': take a batch, x[index] or x[start:stop], or all of "
            "them in turn with x.split(size)"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]:
        return resident(self).cpu().numpy()

    def __repr__(self) -> str:
        return f"StoredRows({type(self.table).__name__}, {self.shape[0]} rows, {self.shape[1]} features)"


_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}

Rows = Tensor | StoredRows
"""Rows that give batches by index: a tensor in memory, or stored rows."""


def as_batches(
    x: Any,
    *,
    n_features: int | None = None,
    name: str = "x",
    dtype: torch.dtype = torch.float32,
    missing: bool = False,
) -> Rows:
    """`as_rows`, but what is larger than `RESIDENT_BYTES` and not one dense array in memory stays where it is.

    Args:
        x: as for `as_rows`; a `numpy.memmap` or a view of one, a SciPy sparse matrix, a `Table`, or stored rows, are
            read by batch where they would take more than 64 MiB.
        n_features: see `as_rows`.
        name: see `as_rows`.
        dtype: see `as_rows`.
        missing: see `as_rows`.

    Returns:
        A tensor on the CPU, all of it checked; or stored rows, checked as they are read.
    """
    table = opened(x, name, missing=missing)
    x = table.values.table if isinstance(table.values, StoredRows) else table.values
    if not isinstance(x, Tensor):
        if memory_map(x) is not None and x.dtype.kind in "biuf" and x.ndim == 2:
            x = MappedTable(x)
        elif hasattr(x, "tocsr") and x.ndim == 2 and x.dtype.kind in "biuf":
            x = x if x.shape[0] * x.shape[1] * dtype.itemsize <= RESIDENT_BYTES else SparseTable(x)
    if not _is_table(x):
        return as_rows(Named(x, table.names), n_features=n_features, name=name, dtype=dtype, missing=missing)
    check_shape(x.shape, n_features, 1, name)
    rows = StoredRows(x, dtype=dtype, name=name, missing=missing)
    return resident(rows) if rows.nbytes <= RESIDENT_BYTES else rows


def _is_table(x: Any) -> bool:
    return not isinstance(x, Tensor | np.ndarray) and isinstance(x, Table)


def resident(rows: Rows) -> Tensor:
    """All rows as one tensor, on their device.

    Raises:
        ValueError: they would take more than 2 GiB.
    """
    if isinstance(rows, Tensor):
        return rows
    if rows.nbytes > WHOLE_BYTES:
        raise ValueError(
            f"this needs all rows of {rows.name} in memory at once, {rows.nbytes / 2**30:.1f} GiB, more than "
            f"{WHOLE_BYTES // 2**30} GiB; pass a part of them, such as x[:100_000], or a random sample"
        )
    edges = rows.edges().tolist()
    return rows.read_blocks(list(pairwise(edges)))


def to_device(rows: Tensor, device: torch.device) -> Tensor:
    """`rows` on a device; to a GPU through pinned memory and without waiting for the copy."""
    if rows.device.type == "cpu" and device.type == "cuda":
        return rows.pin_memory().to(device, non_blocking=True)
    return rows.to(device)
