"""Rows to look at, as a table or as a grid of images: what `sample`, `modes`, `interpolate` and `impute` give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from probclust.arguments import positive
from probclust.data.checks import as_rows
from probclust.generate.image_grid import image_grid
from probclust.generate.imputation import Imputation
from probclust.story.columns import columns as columns_of
from probclust.story.columns import rows_of
from probclust.story.rows import in_order
from probclust.story.sites import CLUSTER
from probclust.story.story import Story, checked_story

Rows = Mapping[str, Tensor] | Imputation | Any
"""Draws by site name, an imputation, or (rows, n_features)."""


def to_frame(story: Story, rows: Rows, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Rows as a table.

    Args:
        story: the story that they are of.
        rows: what `pc.sample` gives; an `Imputation`, of which the means are shown; or (rows, n_features).
        names: of the features; None for those of the story's fit, else their numbers.

    Returns:
        pandas.DataFrame: "cluster" where it is known, then a column for each feature; whole numbers as integers.

    Raises:
        ValueError: there is not one name for each feature.

    Examples:
        >>> import torch, probclust as pc
        >>> story = pc.models.GaussianMixture(2, n_clusters=3)
        >>> to_frame(story, pc.sample(story, 4, cluster=1), ["width", "height"]).columns.tolist()
        ['cluster', 'width', 'height']
    """
    x = _rows(story, rows)
    names = story.feature_names if names is None else names
    if isinstance(names, str) or not (names is None or isinstance(names, Iterable)):
        raise TypeError(f"names must be a sequence with one for each column, got {names!r}")
    if names is not None and len(list(names)) != story.n_features:
        raise ValueError(f"names must hold one for each of n_features={story.n_features} columns, got {len(names)}")
    frame = pd.DataFrame({number: _as_whole(column) for number, column in enumerate(x.T)})
    frame.columns = pd.Index(range(story.n_features) if names is None else names)
    if isinstance(rows, Mapping) and CLUSTER in rows:
        frame.insert(0, CLUSTER, rows[CLUSTER].numpy(), allow_duplicates=True)
    return frame


def _as_whole(column: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as integers, where these can hold them."""
    return column.astype(int) if ((column == column.round()) & (abs(column) < 2**53)).all() else column


def to_images(
    story: Story, rows: Rows, shape: Sequence[int], columns: int = 10, scale: int | None = None
) -> NDArray[np.uint8]:
    """Rows as one picture, a grid of images: grey, or in colour where each pixel has three entries of a row.

    Args:
        story: the story that they are of.
        rows: as for `to_frame`; pixels from 0 (black) to 1 (white), or of red, green and blue.
        shape: height and width of an image, (h, w); with its colours (h, w, 3), or (3, h, w) where a row holds one
            colour after the other, as PyTorch has images.
        columns: images in a line.
        scale: repeats each pixel so often in both directions; None for images of about 32 pixels.

    Returns:
        (height, width, 4) red, green, blue and opacity; `matplotlib.pyplot.imshow` shows it.

    Raises:
        ValueError: the images have other than n_features pixels.
    """
    checked_story(story)
    if isinstance(shape, str) or not isinstance(shape, Sequence) or len(shape) not in (2, 3):
        raise ValueError(f"shape must be (height, width), (height, width, 3) or (3, height, width), got {shape!r}")
    sizes = tuple(positive("each number of shape", size) for size in shape)
    if len(sizes) == 3 and 3 not in (sizes[0], sizes[2]):
        raise ValueError(f"shape must have three colours, (height, width, 3) or (3, height, width), got {shape!r}")
    if math.prod(sizes) != story.n_features:
        raise ValueError(
            f"shape {'x'.join(map(str, sizes))} has {math.prod(sizes)} numbers, expected n_features={story.n_features}"
        )
    columns = positive("columns", columns)
    x = _rows(story, rows)
    if len(sizes) == 3 and sizes[2] != 3:  # colour by colour
        x, sizes = x.reshape(-1, *sizes).transpose(0, 2, 3, 1).reshape(x.shape), (*sizes[1:], 3)
    size = max(1, round(32 / max(sizes[:2]))) if scale is None else positive("scale", scale)
    return image_grid(x, sizes, min(columns, len(x)), size)


def _rows(story: Story, rows: Rows) -> NDArray[Any]:
    if isinstance(rows, Imputation):
        found = rows.mean
    elif isinstance(rows, Mapping):
        found = rows_of(story, _draws(story, rows))
    else:
        found = as_rows(in_order(story, rows), n_features=story.n_features, dtype=torch.float64)
    return found.numpy()


def _draws(story: Story, rows: Mapping[str, Any]) -> dict[str, Tensor]:
    """Draws by site name, each checked to have the entries that its site observes."""
    found = columns_of(story)
    lacking = [name for name in found if not isinstance(rows.get(name), Tensor)]
    if lacking:
        raise ValueError(
            f"rows must hold a tensor for each of the observed sites {list(found)}, as pc.sample gives them; got "
            f"{ {name: type(value).__name__ for name, value in rows.items()} }"
        )
    n_rows = {len(rows[name]) for name in found}
    for name, where in found.items():
        if len(n_rows) > 1 or rows[name].numel() != len(rows[name]) * len(where):
            raise ValueError(
                f"rows['{name}'] must be of shape (rows, {len(where)}), with as many rows for each site, got "
                f"{tuple(rows[name].shape)}"
            )
    return dict(rows)
