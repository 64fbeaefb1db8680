"""Tangent distance: the best small changes, what it forgives and what not, and the neighbours it finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_digits

from probclust.nearest_neighbours import nearest_neighbours
from probclust.tangent_distance import tangent_distances, tangent_neighbours, tangents


def blob(across=0.0, down=0.0, wide=2.0, tall=3.0, side=16, angle=0.0):
    """(side, side) image of a smooth spot."""
    y, x = torch.meshgrid(torch.arange(side) - (side - 1) / 2, torch.arange(side) - (side - 1) / 2, indexing="ij")
    x, y = x - across, y - down
    x, y = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    return torch.exp(-((x / wide) ** 2) - (y / tall) ** 2)


def test_the_distance_is_that_of_the_best_changes():
    torch.manual_seed(0)
    here, there = torch.rand(2, 4, 5).double(), torch.rand(2, 3, 4, 5).double()
    found = tangent_distances(here, there, 0.7)
    for i in range(2):
        for j in range(3):
            own, their = tangents(here[i]).numpy(), tangents(there[i, j]).numpy()
            apart = (here[i] - there[i, j]).flatten().numpy()
            changes = np.vstack([own, -their])

            def cost(a, apart=apart, changes=changes):
                return np.square(apart + a @ changes).sum() + 0.7 * np.square(a).sum()

            assert found[i, j].item() ** 2 == pytest.approx(minimize(cost, np.zeros(12), tol=1e-12).fun, rel=1e-6)


def test_tangents_are_what_an_image_gains_as_its_places_move():
    places = torch.linspace(-15.5, 15.5, 32, dtype=torch.float64)
    y, x = torch.meshgrid(places, places, indexing="ij")

    def image(right, down):
        return torch.exp(-(((x + right - 1) / 5) ** 2) - ((y + down + 2) / 7) ** 2)

    one, r, d, step = torch.ones_like(x), x / 15.5, y / 15.5, 1e-4
    moves = [(one, 0 * one), (0 * one, one), (r, d), (d, -r), (r, -d), (d, r)]
    expected = torch.stack([(image(step * a, step * b) - image(-step * a, -step * b)) / (2 * step) for a, b in moves])
    found = tangents(image(0, 0)).view_as(expected)
    inner = (..., slice(1, -1), slice(1, -1))  # differences are one-sided at the border
    assert (found[inner] - expected[inner]).norm() < 0.05 * expected.norm()


def test_shifts_and_turns_cost_little_and_other_shapes_much():
    spot, moved = blob(), blob(across=0.8, angle=0.2)
    other = blob(wide=2.0, tall=3.0) + blob(across=5.0, wide=1.0, tall=1.0)
    plain = torch.stack([(moved - spot).norm(), (other - spot).norm()])
    near, far = tangent_distances(spot[None], torch.stack([moved, other])[None], 0.03)[0] / plain
    assert near < 0.3
    assert far > 0.8


def test_distances_do_not_depend_on_the_order_of_two_images():
    torch.manual_seed(0)
    a, b = torch.rand(2, 6, 6)
    there, back = tangent_distances(torch.stack([a, b]), torch.stack([b, a])[:, None], 0.1)
    torch.testing.assert_close(there, back)


def test_neighbours_share_their_digit_more_often_than_by_the_common_distance():
    x, y = load_digits(return_X_y=True)
    shares = []
    for shape in (None, (8, 8)):
        distance, neighbour = nearest_neighbours(x / 16, 10, shape)
        assert neighbour.shape == distance.shape == (1797, 10)
        assert (neighbour != np.arange(1797)[:, None]).all()
        assert (np.diff(distance) >= 0).all()
        shares.append((y[neighbour] == y[:, None]).mean())
    assert shares[1] > shares[0] + 0.003


def test_with_all_candidates_the_neighbours_are_the_nearest_of_all():
    x = load_digits().data[:40] / 16
    distance, _ = tangent_neighbours(x, (8, 8), 3, n_candidates=1000)
    few = tangent_neighbours(x, (8, 8), 3, n_candidates=5)[0]
    assert (distance <= few + 1e-6).all()
    assert (distance < few - 1e-6).any()


def test_images_of_one_row_of_pixels_have_no_changes_across_rows():
    x = np.random.default_rng(0).random((20, 9))
    distance, _ = tangent_neighbours(x, (1, 9), 4)
    assert np.isfinite(distance).all()


@pytest.mark.parametrize("shape", [(8, 9), (8,), 64, ("8", "8"), (8, -8), "8x8"])
def test_a_shape_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match="image"):
        tangent_neighbours(np.zeros((10, 64)), shape)
