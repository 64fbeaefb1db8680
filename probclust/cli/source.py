"""The rows that `--data` names: a data set or a file, with the facts that a run remembers of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probclust.data.named import Named


@dataclass(frozen=True)
class Source:
    """Rows for a command.

    Attributes:
        source: the name of a data set, or the absolute path of a file.
        label: the column that held the labels, where one was chosen.
        x: (rows, features) finite numbers and the names of the columns, where the file has any.
        y: (rows,) labels, integers or strings, or None. They only score.
        image_shape: height and width where each row is an image with pixels from 0 to 1.
        lengths: rows of each recording where rows are in order of time.
        documents: whether each row is a document, and each column the weights of a word.
        reading: the options of `probclust.data.read` that a table was read with.
    """

    source: str
    label: str | None
    x: Named
    y: Any
    image_shape: tuple[int, int] | None
    lengths: tuple[int, ...] | None = None
    documents: bool = False
    reading: Mapping[str, Any] = field(default_factory=dict)

    def known(self) -> dict[str, Any]:
        """What recipes may ask about the rows."""
        return {"image_shape": self.image_shape, "lengths": self.lengths, "documents": self.documents or None}

    def facts(self) -> dict[str, Any]:
        """What a run's record says of the rows."""
        rows, features = self.x.shape
        shape = None if self.image_shape is None else list(self.image_shape)
        facts: dict[str, Any] = {
            "source": self.source,
            "label": self.label,
            "rows": rows,
            "features": features,
            "image_shape": shape,
        }
        facts |= {"reading": dict(self.reading)} if self.reading else {}
        return facts if self.x.names is None else facts | {"columns": list(self.x.names)}

    def words(self) -> list[str]:
        """The words of a command that read these rows again."""
        words = ["--data", self.source]
        words += [] if self.label is None else ["--label", self.label]
        for name, value in self.reading.items():
            if name == "header":
                words.append("--header" if value else "--no-header")
            else:
                texts = [value] if isinstance(value, str | bool) else value
                words += [word for text in texts for word in (f"--{name}", str(text))]
        return words


def read_source(
    data: str,
    label: str | None = None,
    image_shape: str | None = None,
    reading: Mapping[str, Any] | None = None,
    *,
    missing: bool = False,
) -> Source:
    """Read what `--data`, `--label` and `--image-shape` say.

    Args:
        data: the name of a data set, or the path of a file that `probclust.data.read` reads.
        label: the column of a table that holds the labels.
        image_shape: "HxW" where each row is an image.
        reading: further options of `probclust.data.read`.
        missing: let NaN pass, for entries that were not observed.

    Raises:
        FileNotFoundError: `data` is neither a data set nor a file.
        ValueError: the file, a value in it, or the shape is wrong.
    """
    from probclust.data import load, names, read
    from probclust.data.named import opened
    from probclust.data.stored import as_batches

    if data in names():
        for option in [*(["label"] if label else []), *(reading or {})]:
            raise ValueError(f"--{option} is for tables in files, but --data is the data set {data}")
        dataset = load(data)
        x: Any = dataset.x
        y: Any = dataset.y
        shape, lengths, documents, source = dataset.image_shape, dataset.lengths, dataset.documents, data
    else:
        path = Path(data)
        if not path.is_file():
            raise FileNotFoundError(f"--data {data}: no such file, and no data set of that name ({', '.join(names())})")
        try:
            x, y = read(path, label=label, **(reading or {}))
        except TypeError as error:
            raise TypeError(f"{error}; --label COLUMN names a column of labels") from error
        shape, lengths, documents, source = None, None, False, str(path.resolve())
    table = opened(x, "data")
    rows = as_batches(table, name="data", missing=missing)
    if y is not None and (getattr(y, "ndim", 1) != 1 or len(y) != len(rows)):
        raise ValueError(f"{data}: the labels must have one entry for each of {len(rows)} rows, got shape {y.shape}")
    shape = checked_shape(image_shape, rows.shape[1]) or shape
    return Source(source, label, table, y, shape, lengths, documents, reading or {})


def checked_shape(text: str | None, n_features: int) -> tuple[int, int] | None:
    """Height and width from "HxW", whose product must be the number of features; None from None."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise ValueError(f"--image-shape must be HxW, such as 28x28, got {text!r}")
    height, width = int(match[1]), int(match[2])
    if height * width != n_features:
        raise ValueError(f"--image-shape {text} has {height * width} pixels, but a row has {n_features} features")
    return height, width
