"""Nearest neighbours of rows: by the Euclidean distance, or of images by the image distortion model."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from probclust.data.kinds import ImageShape
from probclust.starts.clusterers.image_distortion import distortion_neighbours


def nearest_neighbours(
    x: NDArray[Any], n_neighbours: int = 10, image_shape: ImageShape | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Nearest other rows of each row.

    Args:
        x: (rows, features) without NaN.
        n_neighbours: of each row; all others where there are fewer.
        image_shape: height and width where rows are images, which are then compared by the image distortion model.

    Returns:
        (rows, n_neighbours) distances, increasing, and (rows, n_neighbours) row numbers.
    """
    n_neighbours = min(n_neighbours, len(x) - 1)
    if image_shape is not None:
        return distortion_neighbours(x, image_shape, n_neighbours)
    distance, neighbour = NearestNeighbors(n_neighbors=n_neighbours).fit(x).kneighbors()
    return distance, neighbour
