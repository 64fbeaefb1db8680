"""Tables in files: .npz, .npy, .csv, .tsv and .parquet. Nothing is ever unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from probclust.arguments import checked_path
from probclust.data.delimited import is_delimited, read_delimited
from probclust.data.reading import Reading, chosen
from probclust.data.stored import RESIDENT_BYTES, StoredRows
from probclust.data.tables import ParquetTable, import_pyarrow, stored_index


def read(
    path: str | Path,
    *,
    label: str | None = None,
    header: bool | None = None,
    index: str | bool | None = None,
    separator: str | None = None,
    decimal: str = ".",
    encoding: str = "utf-8",
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
) -> tuple[Any, NDArray[Any] | None]:
    """Read the rows of a file and, where it has them, their labels.

    What a table of text leaves open is told from what stands in it, or refused with the name of the option that says
    it. Blank lines, and lines that begin with #, are none of its rows.

    Args:
        path: A file whose suffix says what it holds:
            `.csv`, `.tsv`: a table of text, perhaps compressed (`.csv.gz`, and `.bz2`, `.xz`, `.zip`, `.zst`).
            `.parquet`: a table (needs the extra `parquet`); above 64 MiB of float32 it stays in the file. The index
            of a frame that was stored with it is no feature.
            `.npz`: arrays `x` (rows, features) and, if there are labels, `y` (rows,); or a sparse matrix of any
            format as `scipy.sparse.save_npz` writes it, or its CSR parts `data`, `indices`, `indptr` and `shape`.
            `.npy`: one array (rows, features), memory-mapped.
        label: The column of a table that holds the labels. Without it, every column is a feature.
        header: Whether the first line of a table of text holds the names of the columns. None tells: text is a name;
            numbers are names where they all differ and none looks like its column (far outside its range, or without
            decimals above numbers with some), and where they are `probclust.data.headers.SEVERAL` or more whole
            numbers at even steps, as years and wavelengths are; other numbers are a row; what may be either, as 0, 1,
            2 above whole numbers, is refused. Columns without names are called by their numbers, from 0.
        index: The column that numbers or names the rows and is no feature: its name, True for the first one, False
            where there is none. None tells: first columns without a name (or "Unnamed: 0") that tell the rows apart,
            as pandas and R write them, are; one that counts the rows and has no name because the file has none, or is
            called id, index, level_0, row or rownames, is refused.
        separator: What stands between the cells: one character, "tab", or "space" for any run of blanks. None tells:
            the comma (in .tsv the tab), the tab, the semicolon, the bar or blanks, whichever fits all lines.
        decimal: "." or ",".
        encoding: Of a table of text.
        columns: Names of the features to take, in this order. None for all.
        drop: Names of columns to leave out.

    Returns:
        The rows, (rows, features), as an array, a sparse matrix, a frame or stored rows, which every function of
        probclust takes; and the labels, (rows,), or None. Values that are missing or infinite are left for those to
        judge.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If a column of a table does not hold numbers.
        ValueError: If the suffix is unknown, the file is damaged, a cell holds no number (named by line and column),
            the file lacks what was asked for, or it cannot be told how to read it.
        ImportError: If reading .parquet needs a package that is not installed.
    """
    path = checked_path("path", path)
    reading = Reading(header, index, separator, decimal, encoding, columns, drop)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    suffix = path.suffix.lower()
    if is_delimited(path):
        return read_delimited(path, reading, label)
    if suffix == ".parquet":
        if reading.of_text():
            raise ValueError(f"{reading.of_text()[0]} has a meaning in .csv and .tsv files only, got {path}")
        return _read_parquet(path, reading, label)
    if suffix not in (".npz", ".npy"):
        raise ValueError(f"the suffix must be .npz, .npy, .csv, .tsv or .parquet, got {path.name}")
    if label is not None:
        raise ValueError(f"a label column can be chosen in .csv, .tsv and .parquet files only, got {path}")
    if reading.given():
        raise ValueError(f"{reading.given()[0]} has a meaning in .csv, .tsv and .parquet files only, got {path}")
    if suffix == ".npz":
        arrays = read_archive(path, ("x", "y", *SPARSE_PARTS))
        return rows_of(arrays, path), arrays.get("y")
    return _read_array(path), None


FORMATS = {
    **dict.fromkeys(("csr", "csc", "bsr"), ("data", "indices", "indptr", "shape")),
    "coo": ("data", "row", "col", "shape"),
    "dia": ("data", "offsets", "shape"),
}
"""The arrays of a sparse matrix of each format, as SciPy saves them."""

SPARSE_PARTS = ("format", *dict.fromkeys(part for parts in FORMATS.values() for part in parts))


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
    """Take the rows from the arrays of a .npz file: `x` as it is, or a sparse matrix from its parts.

    Raises:
        ValueError: If they are not there or do not fit together.
    """
    if "x" in arrays:
        return arrays["x"]
    kind = arrays["format"].item() if "format" in arrays else "csr"
    kind = kind.decode() if isinstance(kind, bytes) else kind
    parts = FORMATS.get(kind)
    if parts is None or any(part not in arrays for part in parts):
        raise ValueError(
            f"{path} must hold an array x, or the CSR parts {', '.join(FORMATS['csr'])}, or a sparse matrix that "
            "scipy.sparse.save_npz wrote"
        )
    data, *places, shape = (arrays[part] for part in parts)
    size = tuple(shape.tolist())
    try:
        if kind == "coo":
            return sparse.coo_array((data, tuple(places)), shape=size).tocsr()
        if kind == "dia":
            return sparse.dia_array((data, places[0]), shape=size).tocsr()
        matrix = getattr(sparse, f"{kind}_array")((data, *places), shape=size)
        matrix.check_format(full_check=True)  # indices out of range would read foreign memory later
    except (ValueError, TypeError) as error:
        raise ValueError(f"the {kind.upper()} parts in {path} do not fit together: {error}") from error
    return matrix.tocsr()


def _read_array(path: Path) -> NDArray[Any]:
    try:
        # Large files are not read into memory at once, and never changed.
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{path} is no .npy file of numbers, or it is damaged: write it anew with numpy.save ({error})"
        ) from error


def _read_parquet(path: Path, reading: Reading, label: str | None) -> tuple[Any, NDArray[Any] | None]:
    pyarrow, parquet = import_pyarrow()

    def column(place: int) -> pd.Series[Any]:
        table = parquet.read_table(path, columns=[names[place]])
        found: pd.Series[Any] = table.to_pandas(ignore_metadata=True)[names[place]]
        return found

    try:
        facts = parquet.read_metadata(path)
        schema = facts.schema.to_arrow_schema()
        names = list(schema.names)
        if reading.index is None:
            stored = [name for name in stored_index(schema) if name != label and name not in (reading.columns or ())]
            reading = replace(reading, drop=(*reading.drop, *stored))
        places, at_label = chosen(names, column, reading, label, path)
        y = None if at_label is None else column(at_label).to_numpy()
        table = ParquetTable(path, [names[place] for place in places])
        if 4 * facts.num_rows * len(places) > RESIDENT_BYTES:
            return StoredRows(table), y
        frame = parquet.read_table(path, columns=table.columns).to_pandas(ignore_metadata=True)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ValueError(f"{path} is no parquet file, or it is damaged: {error}") from error
    return frame[table.columns], y
