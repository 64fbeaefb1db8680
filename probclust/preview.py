"""Rows to look at, as a table or as a grid of images: what `sample`, `modes`, `interpolate` and `impute` give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from probclust.data.checks import as_rows
from probclust.figures import image_grid
from probclust.imputation import Imputation
from probclust.rows import in_order
from probclust.sampling import rows_of
from probclust.sites import CLUSTER
from probclust.story import Story

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
    names = names or story.feature_names
    if names is not None and len(names) != story.n_features:
        raise ValueError(f"names must hold one for each of n_features={story.n_features} columns, got {len(names)}")
    frame = pd.DataFrame(x, columns=list(range(story.n_features)) if names is None else list(names))
    whole = [name for name in frame if (frame[name] == frame[name].round()).all()]
    frame = frame.astype(dict.fromkeys(whole, int))
    if isinstance(rows, Mapping) and CLUSTER in rows:
        frame.insert(0, CLUSTER, rows[CLUSTER].numpy(), allow_duplicates=True)
    return frame


def to_images(
    story: Story, rows: Rows, shape: tuple[int, int], columns: int = 10, scale: int | None = None
) -> NDArray[np.uint8]:
    """Rows as one picture, a grid of images.

    Args:
        story: the story that they are of.
        rows: as for `to_frame`; pixels from 0 (black) to 1 (white).
        shape: height and width of an image.
        columns: images in a line.
        scale: repeats each pixel so often in both directions; None for images of about 32 pixels.

    Returns:
        (height, width, 4) red, green, blue and opacity; `matplotlib.pyplot.imshow` shows it.

    Raises:
        ValueError: the images have other than n_features pixels.
    """
    height, width = shape
    if height * width != story.n_features:
        raise ValueError(f"shape {height}x{width} has {height * width} pixels, expected n_features={story.n_features}")
    x = _rows(story, rows)
    return image_grid(x, shape, min(columns, len(x)), max(1, round(32 / max(shape))) if scale is None else scale)


def _rows(story: Story, rows: Rows) -> NDArray[Any]:
    if isinstance(rows, Imputation):
        found = rows.mean
    elif isinstance(rows, Mapping):
        found = rows_of(story, dict(rows))
    else:
        found = as_rows(in_order(story, rows), n_features=story.n_features, dtype=torch.float64)
    return found.numpy()
