"""Tables of text: cells between separators, a row on each line. pandas reads them; here is told how."""

from __future__ import annotations

import csv
import dataclasses
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.common import get_handle  # type: ignore[import-not-found]

from probclust.data.checks import first_text, odd_column
from probclust.data.headers import counts_rows, holds_names, is_number
from probclust.data.reading import Reading, chosen

COMPRESSIONS = (".gz", ".bz2", ".zip", ".xz", ".zst")
SUFFIXES = (".csv", ".tsv")
SEPARATORS = (",", "\t", ";", "|")
BLANKS = r"\s+"

LINES = 20
"""Lines by which the separator is told."""

CHUNK = 2**20
"""Characters that are looked at at a time."""

_PANDAS = tuple(int(number) for number in pd.__version__.split(".")[:2])
EXACT: dict[str, Any] = {"float_precision": "round_trip"} if _PANDAS < (3, 1) else {}
"""So that a number is read as Python reads it: later versions do by themselves, and warn of the option."""

SAMPLE, SAMPLE_CELLS = 1000, 10**6
"""Rows below the first line by which is told whether that holds names, and about how many cells at most."""


def is_delimited(path: Path) -> bool:
    """Whether the suffix says that a file is a table of text, perhaps compressed."""
    return delimited_suffix(path) in SUFFIXES


def delimited_suffix(path: Path) -> str:
    """The suffix of a file, without that of its compression."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSIONS else suffix


def read_delimited(path: Path, reading: Reading, label: str | None) -> tuple[pd.DataFrame, Any]:
    """Read a table of text.

    Args:
        path: of the file, .csv or .tsv, perhaps compressed.
        reading: how.
        label: the column with the labels, or None.

    Returns:
        The features, whose columns are numbered where the file has no names; and the (rows,) labels or None.

    Raises:
        TypeError: a column does not hold numbers.
        ValueError: it is no such table, or it cannot be told how to read it; the message names the option that says so.
    """
    text = Text(path, reading)
    frame = text.frame()
    names = [cell.strip() for cell in text.first] if text.has_names() else None
    if not len(frame):
        raise ValueError(f"{path} is no table: it has no rows of numbers")
    if frame.iloc[:, -1].isna().any():
        text.check_lengths(frame.shape[1])
    if names is not None:
        is_open = frame.shape[1] > 1 and bool(frame.iloc[:, -1].isna().all())  # a separator ends each line
        if is_open and (len(names) < frame.shape[1] or not names[-1]):
            frame, names = frame.iloc[:, :-1], names[: frame.shape[1] - 1]
        elif len(names) == frame.shape[1] - 1 and _names_rows(frame.iloc[:, 0]):
            names = ["", *names]  # as R writes the names of rows
        if len(names) != frame.shape[1]:
            raise ValueError(f"{path} has {len(names)} names in its first line, but {frame.shape[1]} columns")
    given = [*map(str, range(frame.shape[1]))] if names is None else names
    places, at_label = chosen(given, lambda place: frame.iloc[:, place], reading, label, path, numbered=names is None)
    y = None if at_label is None else frame.iloc[:, at_label].to_numpy()
    x = frame.iloc[:, places]
    x = x if names is None else x.set_axis([names[place] for place in places], axis="columns")
    odd = odd_column(x)
    if odd is not None:
        raise text.error(x.iloc[:, odd], x.columns[odd])
    return x, y


def _names_rows(column: pd.Series[Any]) -> bool:
    is_text = pd.api.types.is_string_dtype(column.dtype) and not pd.api.types.is_numeric_dtype(column.dtype)
    return counts_rows(column) or (is_text and not column.duplicated().any())


def _rows(lines: Iterable[str], numbers: list[int]) -> Iterator[str]:
    """Lines that are neither blank nor comments; their numbers are added to `numbers`."""
    for number, line in enumerate(lines):
        if line.strip() and not line.startswith("#"):
            numbers.append(number)
            yield line


class _Uncommented:
    """A file of text without its comments, for pandas, which would take what follows a # within a line for one too."""

    def __init__(self, lines: Any) -> None:
        self.lines = lines

    def read(self, size: int = -1) -> str:
        """About as many characters, in whole lines."""
        while lines := self.lines.readlines(size):
            if text := "".join(line for line in lines if not line.startswith("#")):
                return text
        return ""

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)


class Text:
    """A table of text, and how it is written.

    Args:
        path: of the file.
        reading: the options.

    Attributes:
        first: cells of the first line that is neither blank nor a comment.
        names_in: the numbers of its lines, more than one where a cell holds a line end.
        separator: of the cells.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        self.path, self.reading = path, reading
        with self._open() as lines:
            top = list(islice(_rows(lines, []), LINES))
        if not top:
            raise ValueError(f"{path} is no table: it has no rows of numbers")
        if "\0" in "".join(top):
            raise ValueError(f"{path} is not encoded in {reading.encoding}; give encoding='utf-16' or what it is")
        self.separator = reading.separator or self._told_separator(top)
        with self._open() as lines:
            self.names_in: list[int] = []
            self.first = next(self._cells(_rows(lines, self.names_in)))
        self.has_comments = self._has_comments()

    def frame(self) -> pd.DataFrame:
        """The rows, as pandas reads them, columns numbered."""
        names = self.has_names()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)  # of columns that are of several types in parts
            frame = self._read(below_first=names)
        if any(dtype == np.dtype(object) for dtype in frame.dtypes):
            return self._read(below_first=names, low_memory=False)  # slower, but of one type each
        return frame

    def has_names(self) -> bool:
        """Whether the first line holds the names of the columns.

        Raises:
            ValueError: it cannot be told.
        """
        if self.reading.header is not None:
            return self.reading.header
        first = [cell.strip() for cell in self.first]
        n_rows = max(50, min(SAMPLE, SAMPLE_CELLS // len(first)))
        below = self._read(below_first=True, nrows=n_rows, dtype=str, keep_default_na=False)
        cells = pd.Series(below.to_numpy(dtype=object).ravel(), dtype="str").str.strip()
        if self.reading.decimal == ",":
            first, cells = [cell.replace(",", ".") for cell in first], cells.str.replace(",", ".")
        if len(first) != below.shape[1] and len(below):
            found: bool | None = not all(is_number(cell) or not cell for cell in first)
        else:
            found = holds_names(first, cells)
        if found is None:
            shown = ", ".join(first[:5]) + (", ..." if len(first) > 5 else "")
            raise ValueError(
                f"the first line of {self.path}, {shown}, may be a row or hold the names of the columns: give "
                "header=True or header=False"
            )
        self.reading = dataclasses.replace(self.reading, header=found)
        return found

    def check_lengths(self, n_columns: int | None = None) -> None:
        """Check that each line has as many cells as the columns; pandas takes a shorter one for missing entries.

        Args:
            n_columns: their number; None for the first row's.

        Raises:
            ValueError: names the first line that has others.
        """
        numbers: list[int] = []
        with self._open() as lines:
            for cells in self._cells(_rows(lines, numbers)):
                if numbers[-1] in self.names_in and self.reading.header is not False:
                    continue  # names are counted where they are set
                n_columns = n_columns or len(cells)
                if len(cells) != n_columns:
                    raise ValueError(
                        f"{self.path} must have {n_columns} cells in each line, got {len(cells)} in line "
                        f"{numbers[-1] + 1}; leave a cell empty where its entry is missing"
                    )

    def error(self, column: pd.Series[Any], name: Any) -> Exception:
        """What is wrong with a column that does not hold numbers."""
        row = first_text(column) or 0
        cell, where = str(column.iloc[row]), f"column {name!r}, line {self._line(row) + 1}"
        start = f"{self.path} must hold numbers, got {cell!r} in {where}"
        if re.fullmatch(r"[+-]?\d*,\d+([eE][+-]?\d+)?", cell) and self.reading.decimal == ".":
            return ValueError(f"{start}; give decimal=',' if that is a decimal comma, else write it without one")
        if re.fullmatch(r"[+-]?\d*\.\d+([eE][+-]?\d+)?", cell) and self.reading.decimal == ",":
            return ValueError(f"{start}; give decimal='.' if that is a decimal point")
        if pd.to_numeric(column, errors="coerce").notna().any():
            return ValueError(f"{start}; correct it, or leave the cell empty where the entry is missing")
        return TypeError(f"{start}; leave out text (drop=[{name!r}]), or encode it as numbers")

    def _line(self, row: int) -> int:
        """The number of the last line of a row."""
        numbers: list[int] = []
        with self._open() as lines:
            records = (numbers[-1] for _ in self._cells(_rows(lines, numbers)))
            below = (line for line in records if not (self.has_names() and line in self.names_in))
            return next(line for place, line in enumerate(below) if place == row)

    def _cells(self, lines: Iterable[str], separator: str | None = None) -> Iterator[list[str]]:
        separator = separator or self.separator
        if separator == BLANKS:
            lines, separator = (line.strip().replace("\t", " ") for line in lines), " "
        return csv.reader(lines, delimiter=separator, skipinitialspace=True)

    def _told_separator(self, top: list[str]) -> str:
        usual = "\t" if delimited_suffix(self.path) == ".tsv" else ","
        fitting = []
        for separator in (*SEPARATORS, BLANKS):
            first, *others = (len(cells) for cells in self._cells(top, separator))
            if (
                first > 1
                and len(set(others)) <= 1
                and all(n in (first, first + 1) or separator != BLANKS for n in others)
            ):
                fitting.append(separator)
        if len(fitting) > 1 and BLANKS in fitting:
            fitting.remove(BLANKS)
        if len(fitting) < 2 or (usual == "\t" and usual in fitting):
            return usual if usual in fitting or not fitting else fitting[0]
        raise ValueError(
            f"the cells of {self.path} may stand between {' or '.join(map(repr, fitting))}: give separator, and "
            "decimal=',' where numbers have a decimal comma"
        )

    def _has_comments(self) -> bool:
        """Whether lines begin with #. Refuses those that look like rows."""
        with self._open() as lines:
            end, found = "\n", False
            while not found and (chunk := lines.read(CHUNK)):
                found = "#" in chunk and any(mark in end + chunk for mark in ("\n#", "\r#"))
                end = chunk[-1]
        if not found:
            return False
        with self._open() as lines:
            comments = [(number, line) for number, line in enumerate(lines) if line.startswith("#")]
        for number, line in comments:
            head, *others = next(self._cells([line]))
            if len(others) == len(self.first) - 1 and not is_number(head[1:]) and any(map(is_number, others)):
                raise ValueError(
                    f"line {number + 1} of {self.path} begins with #, as a comment does, but looks like a row; quote "
                    "its first cell, or remove the line"
                )
        return True

    def _read(self, below_first: bool, **options: Any) -> pd.DataFrame:
        with self._open() as lines:
            for _ in range(self.names_in[-1] + 1 if below_first else 0):
                next(lines)
            rows: Any = _Uncommented(lines) if self.has_comments else lines
            try:
                return pd.read_csv(
                    rows,
                    header=None,
                    sep=self.separator,
                    decimal=self.reading.decimal,
                    skipinitialspace=True,
                    **EXACT,
                    **options,
                )
            except pd.errors.EmptyDataError:
                return pd.DataFrame()
            except pd.errors.ParserError as error:
                self.check_lengths()
                raise ValueError(f"{self.path} is no table with cells between {self.separator!r}: {error}") from error

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """The lines of the file, uncompressed and decoded."""
        encoding = "utf-8-sig" if self.reading.encoding.lower() in ("utf-8", "utf8") else self.reading.encoding
        try:
            with get_handle(self.path, "r", encoding=encoding, compression="infer") as handles:
                yield handles.handle
        except LookupError as error:
            raise ValueError(f"encoding must be the name of one that Python knows, got {encoding!r}") from error
        except UnicodeError as error:
            raise ValueError(
                f"{self.path} is not encoded in {self.reading.encoding} ({error}); give its encoding, such as 'cp1252' "
                "or 'utf-16'"
            ) from error
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.path} cannot be read, or it is damaged: {error}") from error
