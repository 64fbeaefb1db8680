"""Image distortion model: its definition, what it forgives and what not, and the neighbours it finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from sklearn.datasets import load_digits

from probclust.data.kinds import checked_image_shape
from probclust.starts.clusterers.image_distortion import (
    distortion_distances,
    distortion_neighbours,
    neighbours_of_neighbours,
    resized,
    slopes,
)
from probclust.starts.clusterers.neighbours import nearest_neighbours


def blob(across=0.0, down=0.0, wide=2.0, tall=3.0, side=20, angle=0.0):
    """(side, side) image of a smooth spot."""
    y, x = torch.meshgrid(torch.arange(side) - (side - 1) / 2, torch.arange(side) - (side - 1) / 2, indexing="ij")
    x, y = x - across, y - down
    x, y = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    return torch.exp(-((x / wide) ** 2) - (y / tall) ** 2)


def by_loops(here, there, warp):
    """The definition, pixel by pixel, for one pair of (2, height, width) slopes."""
    _, height, width = here.shape
    pad = warp + 1
    here, there = (np.pad(part, ((0, 0), (pad, pad), (pad, pad))) for part in (here, there))
    total = 0.0
    for i in range(pad, pad + height):
        for j in range(pad, pad + width):
            own = here[:, i - 1 : i + 2, j - 1 : j + 2]
            places = [(i + u, j + v) for u in range(-warp, warp + 1) for v in range(-warp, warp + 1)]
            total += min(np.square(own - there[:, u - 1 : u + 2, v - 1 : v + 2]).sum() for u, v in places)
    return math.sqrt(total)


@pytest.mark.parametrize("warp", [0, 1, 2])
def test_the_distance_is_that_of_the_definition(warp):
    torch.manual_seed(0)
    here, there = torch.rand(2, 2, 4, 5).double(), torch.rand(2, 3, 2, 4, 5).double()
    found = distortion_distances(here, there, warp)
    expected = [[by_loops(here[i].numpy(), there[i, j].numpy(), warp) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_slopes_are_sobels():
    image = np.random.default_rng(0).random((6, 7))
    for axis, found in enumerate(slopes(torch.as_tensor(image)).numpy()):
        expected = correlate1d(image, [-1, 0, 1], axis=axis, mode="constant")
        expected = correlate1d(expected, [1, 2, 1], axis=1 - axis, mode="constant") / 8
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_shift_within_the_warp_costs_nothing_and_beyond_it_something():
    bent = slopes(torch.stack([blob(), blob(across=2, down=-1), blob(across=4)]).double())
    zero, far = distortion_distances(bent[:1], bent[None, 1:], 2)[0]
    assert zero < 1e-3 * far


def test_bends_cost_little_and_other_shapes_much():
    spot, moved = blob(), blob(across=0.8, angle=0.2, tall=3.3)
    other = blob(wide=2.0, tall=3.0) + blob(across=6.0, wide=1.0, tall=1.0)
    bent = slopes(torch.stack([spot, moved, other]))
    plain = distortion_distances(bent[:1], bent[None, 1:], 0)[0]
    near, _ = distortion_distances(bent[:1], bent[None, 1:], 2)[0] / plain
    back = distortion_distances(bent[2:], bent[None, :1], 2) / plain[1]
    assert near < 0.4
    assert back > 0.7  # the second spot is found nowhere in an image of one


def test_images_keep_their_size_or_are_brought_to_it():
    x = np.random.default_rng(0).random((3, 20 * 10)).astype(np.float32)
    np.testing.assert_allclose(resized(x, (20, 10)).flatten(1), x, atol=1e-6)
    assert resized(np.ones((2, 64)), (8, 8)).shape == (2, 20, 20)
    assert resized(np.ones((2, 40 * 80)), (40, 80)).shape == (2, 10, 20)
    np.testing.assert_allclose(resized(np.ones((2, 40 * 80)), (40, 80)), 1, atol=1e-6)


def test_neighbours_share_their_digit_more_often_than_by_the_common_distance():
    x, y = load_digits(return_X_y=True)
    shares = []
    for shape in (None, (8, 8)):
        distance, neighbour = nearest_neighbours(x / 16, 10, shape)
        assert neighbour.shape == distance.shape == (1797, 10)
        assert (neighbour != np.arange(1797)[:, None]).all()
        assert (np.diff(np.sort(neighbour)) > 0).all()  # no row twice
        assert (np.diff(distance) >= 0).all()
        shares.append((y[neighbour] == y[:, None]).mean())
    assert shares[1] > shares[0] + 0.015


def test_with_all_candidates_the_neighbours_are_the_nearest_of_all():
    x = load_digits().data[:40] / 16
    bent = slopes(resized(x, (8, 8)))
    all_of_them = distortion_distances(bent, bent.expand(40, -1, -1, -1, -1)).fill_diagonal_(float("inf"))
    found, _ = distortion_neighbours(x, (8, 8), 3, n_candidates=1000)
    np.testing.assert_allclose(found, all_of_them.topk(3, largest=False)[0], rtol=1e-4)


def test_further_rounds_find_nearer_neighbours():
    x = load_digits().data[:300] / 16
    exact, *rounds = (
        distortion_neighbours(x, (8, 8), 3, n_candidates=n, rounds=rounds)[0].mean()
        for n, rounds in ((299, 1), (5, 1), (5, 2), (5, 4))
    )
    assert rounds[0] > rounds[1] > rounds[2] >= exact - 1e-6
    assert rounds[2] - exact < 0.3 * (rounds[0] - exact)


@pytest.mark.parametrize("chunk", [4096, 7])
def test_two_steps_lead_where_most_ways_go(chunk):
    random = np.random.default_rng(0)
    neighbour = np.stack([random.permutation(np.delete(np.arange(30), i))[:4] for i in range(30)])
    found = neighbours_of_neighbours(neighbour, 12, chunk)
    one_way = np.zeros((30, 30))
    one_way[np.arange(30)[:, None], neighbour] = 1
    ways = (one_way + one_way.T) @ (one_way + one_way.T)
    ways[one_way > 0] = 0
    np.fill_diagonal(ways, 0)
    for row, own in zip(ways, found, strict=True):
        there = own[own >= 0]
        np.testing.assert_array_equal(row[there], np.sort(row[row > 0])[::-1][:12])
        assert len(set(there)) == len(there) == min(12, (row > 0).sum())


def test_images_of_one_row_of_pixels_have_neighbours():
    x = np.random.default_rng(0).random((20, 9))
    distance, neighbour = distortion_neighbours(x, (1, 9), 4)
    assert np.isfinite(distance).all()
    assert (neighbour >= 0).all()


@pytest.mark.parametrize("shape", [(8, 9), (8,), 64, ("8", "8"), (8, -8), "8x8"])
def test_a_shape_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match="image"):
        distortion_neighbours(np.zeros((10, 64)), shape)


def test_sides_may_be_numpys_integers():
    assert checked_image_shape((np.int64(4), np.int64(5)), 20) == (4, 5)
