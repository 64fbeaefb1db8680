"""Tangent distance: how far two images are apart once either may be shifted, turned, scaled and sheared a little.

Small affine changes move an image x along the tangents T(x) of its orbit, six images: what x gains per pixel of shift
right, shift down, growth, turn and two shears, the latter four per pixel at the border. Two images are as far apart as
the changes a and b that bring them closest leave them, where changes cost something themselves:

    d(x, y)^2 = min over a, b of  |x + T(x) a - y - T(y) b|^2 + c (|a|^2 + |b|^2).

Source: P. Simard, Y. LeCun, J. Denker, B. Victorri, "Transformation invariance in pattern recognition: tangent distance
and tangent propagation", 1998, section 2; the ridge c is its "elastic" one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

ImageShape = tuple[int, int]

N_TANGENTS = 6
RIDGE = 0.03
"""c, in units of the tangents' mean squared length: a pixel's change costs this share of what it changes."""

BLUR = 1 / 28
"""Standard deviation of the blur that makes images smooth enough for tangents, as a share of their height."""

CHUNK_ELEMENTS = 2**24


def checked_image_shape(image_shape: Any, n_features: int) -> ImageShape:
    """Height and width as integers.

    Raises:
        ValueError: they are not two positive integers, or not those of rows of n_features pixels.
    """
    shape = tuple(image_shape) if isinstance(image_shape, tuple | list) else (image_shape,)
    if len(shape) != 2 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ValueError(f"image_shape must be (height, width), got {image_shape!r}")
    if shape[0] * shape[1] != n_features:
        raise ValueError(
            f"images of {shape[0]} by {shape[1]} pixels need {shape[0] * shape[1]} columns, got {n_features}; give the "
            "data set's image_shape"
        )
    return shape


def tangents(images: Tensor) -> Tensor:
    """Tangents of the affine changes, one pixel each, the last four's at the border.

    Args:
        images: (..., height, width), smooth.

    Returns:
        (..., 6, height * width) changes: shift in x, shift in y, growth, turn, and two shears.
    """
    height, width = images.shape[-2:]
    down = torch.linspace(-1, 1, height, dtype=images.dtype)[:, None]
    right = torch.linspace(-1, 1, width, dtype=images.dtype)
    by_row, by_column = (_slope(images, axis) for axis in (-2, -1))
    changes = [
        by_column,
        by_row,
        right * by_column + down * by_row,
        down * by_column - right * by_row,
        right * by_column - down * by_row,
        down * by_column + right * by_row,
    ]
    return torch.stack(changes, -3).flatten(-2)


def _slope(images: Tensor, axis: int) -> Tensor:
    """Differences per pixel along an axis, central, one-sided at the border; zero where there is but one pixel."""
    if images.shape[axis] < 2:
        return torch.zeros_like(images)
    return torch.gradient(images, dim=axis)[0]


def tangent_distances(here: Tensor, there: Tensor, ridge: float) -> Tensor:
    """Distances of images from each of some others.

    Args:
        here: (rows, height, width).
        there: (rows, others, height, width).
        ridge: c, what a change of one pixel costs.

    Returns:
        (rows, others) distances.
    """
    own, their = tangents(here), tangents(there)
    apart = (there - here[:, None]).flatten(2)
    cross = -torch.einsum("rid,rojd->roij", own, their)
    both = torch.empty(*apart.shape[:2], 2 * N_TANGENTS, 2 * N_TANGENTS, dtype=apart.dtype)
    both[..., :N_TANGENTS, :N_TANGENTS] = (own @ own.mT)[:, None]
    both[..., :N_TANGENTS, N_TANGENTS:], both[..., N_TANGENTS:, :N_TANGENTS] = cross, cross.mT
    both[..., N_TANGENTS:, N_TANGENTS:] = their @ their.mT
    both += ridge * torch.eye(2 * N_TANGENTS, dtype=apart.dtype)
    towards = torch.cat([torch.einsum("rid,rod->roi", own, apart), -torch.einsum("roid,rod->roi", their, apart)], 2)
    gained = (torch.linalg.solve(both, towards) * towards).sum(2)
    return (apart.square().sum(2) - gained).clamp(min=0).sqrt()


def tangent_neighbours(
    x: NDArray[Any],
    image_shape: ImageShape,
    n_neighbours: int = 10,
    *,
    n_candidates: int = 50,
    blur: float = BLUR,
    ridge: float = RIDGE,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Nearest other images by tangent distance, among those that are nearest by the common distance.

    Args:
        x: (rows, height * width).
        image_shape: height and width.
        n_neighbours: of each row, fewer than rows.
        n_candidates: nearest rows by the distance of blurred images, of which the neighbours are chosen.
        blur: standard deviation of the blur, as a share of the height.
        ridge: c, in units of the tangents' mean squared length.

    Returns:
        (rows, n_neighbours) distances, increasing, and (rows, n_neighbours) row numbers.
    """
    height, width = checked_image_shape(image_shape, x.shape[1])
    sigma = blur * height
    smooth = gaussian_filter(np.asarray(x, dtype=np.float32).reshape(-1, height, width), (0, sigma, sigma))
    n_candidates = min(max(n_candidates, n_neighbours), len(x) - 1)
    flat = smooth.reshape(len(x), -1)
    candidates = torch.as_tensor(NearestNeighbors(n_neighbors=n_candidates).fit(flat).kneighbors(return_distance=False))
    images = torch.as_tensor(smooth)
    size = max(1, CHUNK_ELEMENTS // (n_candidates * N_TANGENTS * x.shape[1]))
    rows = torch.arange(len(x)).split(size)
    squared = sum(float(tangents(images[part]).square().sum()) for part in rows) / (len(x) * N_TANGENTS)
    distances, neighbours = [], []
    for part in rows:
        others = candidates[part]
        found = tangent_distances(images[part], images[others], ridge * squared + 1e-12)
        nearest, order = found.topk(n_neighbours, dim=1, largest=False)
        distances.append(nearest)
        neighbours.append(others.gather(1, order))
    return torch.cat(distances).numpy(), torch.cat(neighbours).numpy()
