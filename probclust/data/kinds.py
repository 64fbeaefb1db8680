"""Height and width of images that are rows of pixels."""

from __future__ import annotations

from operator import index
from typing import Any

ImageShape = tuple[int, int]


def checked_image_shape(image_shape: Any, n_features: int) -> ImageShape:
    """Height and width as integers.

    Raises:
        ValueError: they are not two positive integers, or not those of rows of n_features pixels.
    """
    shape = tuple(image_shape) if isinstance(image_shape, tuple | list) else (image_shape,)
    if len(shape) != 2 or not all(hasattr(side, "__index__") and side > 0 for side in shape):
        raise ValueError(f"image_shape must be (height, width), got {image_shape!r}")
    if shape[0] * shape[1] != n_features:
        raise ValueError(
            f"images of {shape[0]} by {shape[1]} pixels need {shape[0] * shape[1]} columns, got {n_features}; give the "
            "data set's image_shape"
        )
    return int(shape[0]), int(shape[1])


def checked_lengths(lengths: Any, n_rows: int) -> list[int]:
    """Rows of each recording as integers.

    Raises:
        ValueError: they are not positive integers, or have not the sum n_rows.
    """
    try:
        checked = [index(length) for length in lengths]
    except TypeError:
        checked = []
    if not checked or min(checked) < 1:
        raise ValueError(f"lengths must be the positive numbers of rows of each recording, got {lengths!r}")
    if sum(checked) != n_rows:
        raise ValueError(
            f"lengths must be of all {n_rows} rows, got {len(checked)} recordings of {sum(checked)} rows; the start "
            "takes whole recordings, whose rows are in memory"
        )
    return checked
