"""How a table in a file is to be read: the options that `pc.data.read` and the commands share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probclust.data.headers import counts_rows

SEPARATORS = {"tab": "\t", "\\t": "\t", "space": r"\s+", " ": r"\s+"}
"""Separators by the words for them; a space stands for any run of blanks."""

UNNAMED = r"(Unnamed: \d+(_level_\d+)?)?"
"""How pandas names columns without a name."""

INDEX_NAMES = ("id", "index", "level_0", "row", "rownames")
"""Names that a column which counts the rows has where it is no feature."""

STORED_INDEX = r"__index_level_\d+__"
"""How pandas names an index without a name in a parquet file."""


@dataclass(frozen=True)
class Reading:
    """How a table is to be read.

    Attributes:
        header: whether the first line holds the names of the columns; None to tell by what stands there.
        index: the column that names or numbers the rows and is no feature, by its name, or True for the first one;
            False where there is none; None to tell.
        separator: of the cells: one character, "tab", or "space" for any run of blanks; None to tell.
        decimal: the decimal point or comma.
        encoding: of the text.
        columns: names of the features to take, in this order; None for all.
        drop: names of columns to leave out.
    """

    header: bool | None = None
    index: str | bool | None = None
    separator: str | None = None
    decimal: str = "."
    encoding: str = "utf-8"
    columns: Sequence[str] | None = None
    drop: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check and settle the options.

        Raises:
            TypeError: an option is of the wrong kind.
            ValueError: it has no such value.
        """
        if not isinstance(self.header, bool | None):
            raise TypeError(f"header must be True, False or None, got {self.header!r}")
        for name in ("columns", "drop"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else given)
        if self.decimal not in (".", ","):
            raise ValueError(f"decimal must be '.' or ',', got {self.decimal!r}")
        separator = SEPARATORS.get(self.separator or "", self.separator)
        if separator is not None and separator != r"\s+" and len(separator) != 1:
            raise ValueError(f"separator must be one character, 'tab' or 'space', got {self.separator!r}")
        object.__setattr__(self, "separator", separator)

    def of_text(self) -> list[str]:
        """Names of the options given that have a meaning for tables of text only."""
        return [
            name for name in ("header", "separator", "decimal", "encoding") if getattr(self, name) != DEFAULTS[name]
        ]

    def given(self) -> list[str]:
        """Names of all options given."""
        return [name for name, default in DEFAULTS.items() if getattr(self, name) not in (default, None)]


DEFAULTS: dict[str, Any] = dict(vars(Reading()))


def chosen(
    names: Sequence[str],
    column: Callable[[int], pd.Series[Any]],
    reading: Reading,
    label: str | None,
    path: object,
    *,
    numbered: bool = False,
) -> tuple[list[int], int | None]:
    """Which columns of a table are features, and which holds the labels.

    Args:
        names: of all columns, as the file has them: "" where one has none.
        column: gives the column of that place.
        reading: the options.
        label: name of the column with the labels, or None.
        path: of the file, for errors.
        numbered: the file has no names; these are numbers.

    Returns:
        The places of the features, in their order, and that of the labels or None.

    Raises:
        ValueError: there is no such column, a name is there twice, or it cannot be told whether a column is an index.
    """
    doubled = [name for name, times in Counter(names).items() if name and times > 1]
    if doubled:
        places = [place + 1 for place, name in enumerate(names) if name == doubled[0]]
        raise ValueError(f"columns {places} of {path} all have the name {doubled[0]!r}; give each a name of its own")

    places_of = {name: place for place, name in enumerate(names)}

    def place_of(name: Any, purpose: str) -> int:
        if str(name) in places_of:
            return places_of[str(name)]
        listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise ValueError(f"{path} has no column {name!r} {purpose}; its columns are: {listed}")

    out = {place_of(name, "to drop") for name in reading.drop}
    at_label = None if label is None else place_of(label, "for the labels")
    out |= set() if at_label is None else {at_label}
    if isinstance(reading.index, str):
        out.add(place_of(reading.index, "for the index"))
    elif reading.index is True:
        out.add(0)
    if reading.columns is not None:
        taken = [place_of(name, "to take") for name in reading.columns]
        twice = [name for name, times in Counter(reading.columns).items() if times > 1]
        both = [names[place] for place in taken if place in out] or twice
        if both:
            raise ValueError(f"columns must name each feature once, got {both[0]!r} twice, or for something else too")
        return taken, at_label
    left = [place for place in range(len(names)) if place not in out]
    if reading.index is None:
        index = _index_columns([names[place] for place in left], left, column, path, numbered)
        left = [place for place in left if place not in index]
    if not left:
        raise ValueError(f"{path} has no column left for a feature; its columns are: {', '.join(names[:20])}")
    return left, at_label


def _index_columns(
    names: Sequence[str], places: Sequence[int], column: Callable[[int], pd.Series[Any]], path: object, numbered: bool
) -> list[int]:
    """Places of the columns that are the index of a frame that was written with it, among those left at `places`."""
    stored = [place for name, place in zip(names, places, strict=True) if re.fullmatch(STORED_INDEX, name)]
    if stored or not names:
        return stored
    if numbered or names[0].lower() in INDEX_NAMES:
        first = column(places[0])
        if len(first) > 2 and pd.api.types.is_integer_dtype(first) and counts_rows(first):
            raise ValueError(
                f"column {names[0]!r} of {path} counts the rows: give index=True if it is no feature, else index=False"
            )
        return []
    unnamed = [number for number, name in enumerate(names) if re.fullmatch(UNNAMED, name)]
    if unnamed != list(range(len(unnamed))):
        raise ValueError(f"column {places[unnamed[-1]] + 1} of {path} has no name: give it one in the file")
    if unnamed:
        keys = pd.concat([column(places[number]) for number in unnamed], axis="columns")
        if keys.duplicated().any() or any(pd.api.types.is_float_dtype(dtype) for dtype in keys.dtypes):
            raise ValueError(
                f"the first column of {path} has no name, like the index that pandas writes, but does not tell the "
                "rows apart: give index=True if it is no feature; else name it"
            )
    return [places[number] for number in unnamed]
