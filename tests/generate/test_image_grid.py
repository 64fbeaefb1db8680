from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from probclust.generate.image_grid import image_grid, write_png


def test_a_grid_shows_each_image_upright_in_reading_order():
    images = np.array([[0, 1, 0.5, 0], [1, 0, 0, 0], [0, 0, 0, 2]])
    grid = image_grid(images, (2, 2), columns=2)
    assert grid.shape == (5, 5, 4)
    assert grid[:2, :2, 0].tolist() == [[0, 255], [128, 0]]
    assert grid[:2, 3:, 0].tolist() == [[255, 0], [0, 0]]
    assert grid[3:, :2, 0].tolist() == [[0, 0], [0, 255]]  # values beyond 1 are white
    assert (grid[2, :, 3] == 0).all()
    assert (grid[:, 2, 3] == 0).all()
    assert (grid[3:, 3:, 3] == 0).all()  # no fourth image


def test_a_grid_is_enlarged_without_blur():
    small = image_grid(np.eye(4), (2, 2), columns=4)
    assert (image_grid(np.eye(4), (2, 2), columns=4, scale=3)[1::3, 1::3] == small).all()


def test_a_png_reads_back_as_it_was(tmp_path):
    from matplotlib.image import imread

    grid = image_grid(np.random.default_rng(0).random((6, 12)), (3, 4), columns=3)
    write_png(tmp_path / "grid.png", grid)
    np.testing.assert_array_equal(np.round(255 * imread(tmp_path / "grid.png")), grid)
