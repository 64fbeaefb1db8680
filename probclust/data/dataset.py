"""What a data set is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Rows with their labels, and the facts that go with them. Labels only score: no fit takes them.

    Attributes:
        name: The name under which it was loaded.
        x: (rows, features) float32.
        y: (rows,) int64, labels from 0.
        image_shape: Height and width if each row is an image, row by row, with pixels from 0 to 1.
        target_names: What the labels mean, in their order.
        source: Who made it.
        licence: The terms of use, as far as they are known.
        lengths: Rows of each recording, if rows are in order of time, recording after recording.
        documents: Whether each row is a document, and each column the weights of a word.
    """

    name: str
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    image_shape: tuple[int, int] | None
    target_names: tuple[str, ...]
    source: str
    licence: str
    lengths: tuple[int, ...] | None = None
    documents: bool = False

    def __repr__(self) -> str:
        rows, features = self.x.shape
        return f"Dataset({self.name!r}, {rows} rows, {features} features, {len(self.target_names)} labels)"
