"""Tables in files: .npz, .npy, .csv and .parquet. Nothing is ever unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from probclust.data.stored import RESIDENT_BYTES, StoredRows
from probclust.data.tables import ParquetTable, import_pyarrow


def read(path: str | Path, *, label: str | None = None) -> tuple[Any, NDArray[Any] | None]:
    """Read the rows of a file and, where it has them, their labels.

    Args:
        path: A file whose suffix says what it holds:
            `.npz`: arrays `x` (rows, features), or the CSR parts `data`, `indices`, `indptr` and `shape`; and
            `y` (rows,) if there are labels.
            `.npy`: one array (rows, features), memory-mapped.
            `.csv`: numbers separated by commas, with or without a line of column names above them.
            `.parquet`: a table (needs the extra `parquet`); above 64 MiB of float32 it stays in the file.
        label: The column of a .csv or .parquet file that holds the labels. Without it, every column is a
            feature.

    Returns:
        The rows, (rows, features), as an array, a sparse matrix, a frame or stored rows, which every function of
        probclust takes; and the labels, (rows,), or None. The values are as they are in the file, unchecked.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the suffix is unknown, the file is damaged, or it lacks what was asked for.
        ImportError: If reading .parquet needs a package that is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".parquet"):
        return _split(_read_csv(path), label, path) if suffix == ".csv" else _read_parquet(path, label)
    if label is not None:
        raise ValueError(f"a label column can be chosen in .csv and .parquet files only, got {path}")
    if suffix == ".npz":
        arrays = read_archive(path, ("x", "y", *CSR_PARTS))
        return rows_of(arrays, path), arrays.get("y")
    if suffix == ".npy":
        return _read_array(path), None
    raise ValueError(f"the suffix must be .npz, .npy, .csv or .parquet, got {path.name}")


CSR_PARTS = ("data", "indices", "indptr", "shape")


def read_archive(path: Path, keys: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read those arrays of a .npz file that are among `keys`; the others are not touched.

    Raises:
        ValueError: If the file is damaged, or one of the arrays would need unpickling.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in keys if key in archive.files}
    # What is raised depends on which bytes are missing or wrong; TypeError: it is an array and no archive.
    except (ValueError, TypeError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is no .npz archive of plain arrays, or it is damaged: write it anew with "
            f"numpy.savez_compressed ({error})"
        ) from error


def rows_of(arrays: Mapping[str, NDArray[Any]], path: Path) -> Any:
    """Take the rows from the arrays of a .npz file: `x` as it is, or a sparse matrix from the CSR parts.

    Raises:
        ValueError: If they are not there or do not fit together.
    """
    if "x" in arrays:
        return arrays["x"]
    if any(part not in arrays for part in CSR_PARTS):
        raise ValueError(f"{path} must hold an array x, or the CSR parts {', '.join(CSR_PARTS)}")
    data, indices, indptr, shape = (arrays[part] for part in CSR_PARTS)
    try:
        matrix = sparse.csr_matrix((data, indices, indptr), shape=tuple(shape.tolist()))
        matrix.check_format(full_check=True)  # indices out of range would read foreign memory later
    except (ValueError, TypeError) as error:
        raise ValueError(f"the CSR parts in {path} do not fit together: {error}") from error
    return matrix


def _read_array(path: Path) -> NDArray[Any]:
    try:
        # Large files are not read into memory at once, and never changed.
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{path} is no .npy file of numbers, or it is damaged: write it anew with numpy.save ({error})"
        ) from error


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        first = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
        has_names = not all(_is_number_or_empty(cell) for cell in first)
        frame = pd.read_csv(path, header=None, skiprows=int(has_names))
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{path} is no table of comma-separated values: it has no rows of numbers") from error
    except ValueError as error:  # pandas' own errors and those of decoding are ValueErrors
        raise ValueError(f"{path} is no table of comma-separated values: {error}") from error
    if not has_names:
        return frame
    names = first.str.strip().tolist()
    if len(names) != frame.shape[1]:
        raise ValueError(f"{path} has {len(names)} names in its first line, but {frame.shape[1]} columns")
    if not names[0]:
        raise ValueError(
            f"the first column of {path} has no name, like the row numbers that pandas writes: "
            "name it, or write the file with index=False"
        )
    return frame.set_axis(names, axis="columns")


def _is_number_or_empty(cell: str) -> bool:
    try:
        float(cell.strip() or 0)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path, label: str | None) -> tuple[Any, NDArray[Any] | None]:
    _, parquet = import_pyarrow()
    try:
        facts = parquet.read_metadata(path)
        is_large = 4 * facts.num_rows * facts.num_columns > RESIDENT_BYTES
        frame = None if is_large else pd.read_parquet(path, engine="pyarrow")
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no parquet file, or it is damaged: {error}") from error
    if frame is not None:
        return _split(frame, label, path)
    y = None
    if label is not None:
        _check_label(label, facts.schema.to_arrow_schema().names, path)
        y = parquet.read_table(path, columns=[label]).column(0).to_pandas().to_numpy()
    return StoredRows(ParquetTable(path, leave_out=label)), y


def _split(frame: pd.DataFrame, label: str | None, path: Path) -> tuple[Any, NDArray[Any] | None]:
    if label is None:
        return frame, None
    _check_label(label, list(frame.columns), path)
    return frame.drop(columns=label), frame[label].to_numpy()


def _check_label(label: str, columns: Sequence[str], path: Path) -> None:
    if label not in columns:
        names = ", ".join(str(name) for name in columns[:20])
        raise ValueError(f"{path} has no column {label!r} for the labels; its columns are: {names}")
