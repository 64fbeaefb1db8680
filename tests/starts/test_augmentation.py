"""Augmentation of images against scipy's interpolation and numpy's exact turns and shifts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from probclust.starts.augmentation import RotateAndShift, rotate_and_shift


def images(n=4, height=7, width=10):
    return torch.rand(n, height, width, dtype=torch.float64)


def each(value, n=4):
    return torch.full((n,), value, dtype=torch.float64)


def test_a_quarter_turn_is_numpys():
    square = images(width=7)
    turned = rotate_and_shift(square, each(math.pi / 2), each(0.0), each(0.0))
    np.testing.assert_allclose(turned, np.rot90(square, axes=(1, 2)), atol=1e-12)  # counter-clockwise


def test_a_shift_by_whole_pixels_moves_them_and_fills_with_zeros():
    old = images()
    new = rotate_and_shift(old, each(0.0), each(2 / 7), each(-3 / 10))
    expected = torch.zeros_like(old)
    expected[:, 2:, :-3] = old[:, :-2, 3:]
    torch.testing.assert_close(new, expected)


def test_any_turn_and_shift_is_scipys_bilinear_interpolation():
    old, angle, down, right = images(), 0.3, 0.13, -0.07
    new = rotate_and_shift(old, each(angle), each(down), each(right))
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])  # of (row, column), rows counted downwards, back from new to old
    centre = np.array([3.0, 4.5])
    offset = centre - turn @ (centre + np.array([7 * down, 10 * right]))
    for before, after in zip(old.numpy(), new.numpy(), strict=True):
        wanted = affine_transform(before, turn, offset, order=1, mode="grid-constant")
        np.testing.assert_allclose(after, wanted, atol=1e-12)


def test_images_change_within_bounds_each_by_itself_and_by_torchs_seed():
    spot = torch.zeros(500, 21, 21)
    spot[:, 10, 10] = 1.0
    augment = RotateAndShift((21, 21), degrees=10, shift=0.1)
    torch.manual_seed(3)
    moved = augment(spot.flatten(1)).view(-1, 21, 21)
    places = torch.arange(21.0) - 10
    down = (moved.sum(2) * places).sum(1)
    right = (moved.sum(1) * places).sum(1)
    for shift in (down, right):  # the centre stays where it is under a turn; uniform within 2.1 pixels
        assert shift.abs().max() <= 2.1 + 1e-4
        assert shift.std().item() == pytest.approx(4.2 / math.sqrt(12), rel=0.1)  # standard error 0.02 of it
    assert len(down.unique()) > 450
    torch.manual_seed(3)
    assert torch.equal(augment(spot.flatten(1)).view(-1, 21, 21), moved)


def test_angles_stay_within_bounds():
    spoke = torch.zeros(500, 41, 41)
    spoke[:, 20, 40] = 1.0
    turned = RotateAndShift((41, 41), degrees=10, shift=0)(spoke.flatten(1)).view(-1, 41, 41)
    places = torch.arange(41.0) - 20
    mass = turned.sum((1, 2))
    angle = torch.atan2(-(turned.sum(2) * places).sum(1) / mass, (turned.sum(1) * places).sum(1) / mass).rad2deg()
    assert angle.abs().max() < 10.5  # interpolation blurs by part of a pixel, 0.5 degrees out there
    assert angle.std().item() == pytest.approx(20 / math.sqrt(12), rel=0.1)


def test_without_bounds_nothing_changes():
    x = images().flatten(1)
    torch.testing.assert_close(RotateAndShift((7, 10), degrees=0, shift=0)(x), x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_shape": (8,)}, r"image_shape must be \(height, width\)"),
        ({"image_shape": (8, 0)}, r"image_shape must be \(height, width\)"),
        ({"image_shape": (8, 8), "degrees": -1.0}, "degrees must be a number of at least 0"),
        ({"image_shape": (8, 8), "shift": float("nan")}, "shift must be a number of at least 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RotateAndShift(**settings)


def test_rows_of_another_size_are_refused():
    with pytest.raises(ValueError, match="8 by 8 pixels need 64 columns, got 63"):
        RotateAndShift((8, 8))(torch.rand(2, 63))
