"""Rows as images in a grid, and as PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def image_grid(rows: ArrayLike, shape: tuple[int, ...], columns: int, scale: int = 1) -> NDArray[np.uint8]:
    """Images side by side, in reading order, with a transparent gap of one of their pixels between them.

    Args:
        rows: (n, height * width) pixels from 0 (black) to 1 (white), or (n, height * width * 3); values beyond are cut.
        shape: height and width, and 3 where each pixel has red, green and blue.
        columns: images in a line.
        scale: repeats each pixel so often in both directions.

    Returns:
        (height, width, 4) red, green, blue and opacity of the whole picture.
    """
    height, width = shape[:2]
    images = np.clip(np.asarray(rows, dtype=np.float64), 0, 1).reshape(-1, height, width, *shape[2:] or (1,))
    lines = -(-len(images) // columns)
    grid = np.zeros((lines * (height + 1) - 1, columns * (width + 1) - 1, 4), dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        cell = grid[top : top + height, left : left + width]
        cell[..., :3] = np.round(255 * image)
        cell[..., 3] = 255
    return grid.repeat(scale, axis=0).repeat(scale, axis=1)


def write_png(path: Path, grid: NDArray[np.uint8]) -> None:
    """Write a picture to a .png file."""
    path.write_bytes(png_bytes(grid))


def png_bytes(grid: NDArray[np.uint8]) -> bytes:
    """A picture (height, width, 4) as PNG."""
    _matplotlib()
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, grid, format="png")
    return buffer.getvalue()


def need_matplotlib() -> None:
    """Raise an ImportError, which names the extra to install, where no picture can be drawn."""
    _matplotlib()


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'probclust[plot]'") from error
    return matplotlib
