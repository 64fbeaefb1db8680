"""Random changes of images that leave their meaning alone, for pre-training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from probclust.data.kinds import checked_image_shape


@dataclass(frozen=True)
class RotateAndShift:
    """Turns each image by a random angle and shifts it by random parts of its height and width.

    Angle and shifts are uniform, an image's own; pixels are interpolated bilinearly, and those from outside are 0.
    Draws from torch's generator.

    Args:
        image_shape: height and width.
        degrees: the largest angle either way.
        shift: the largest shift either way, as a share of the height and of the width.

    Source: the DMAE paper, section 4.2: within 10 degrees and 10%.

    Examples:
        >>> augment = RotateAndShift((8, 8))
        >>> augment(torch.rand(5, 64)).shape
        torch.Size([5, 64])
    """

    image_shape: tuple[int, int]
    degrees: float = 10.0
    shift: float = 0.1

    def __post_init__(self) -> None:
        if len(self.image_shape) != 2 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape must be (height, width), got {self.image_shape!r}")
        for name, value in (("degrees", self.degrees), ("shift", self.shift)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, got {value!r}")

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, height * width) changed images, from (rows, height * width)."""
        height, width = checked_image_shape(self.image_shape, x.shape[1])
        angle, down, right = (2 * torch.rand(3, len(x), dtype=x.dtype) - 1).to(x.device)
        images = x.view(-1, height, width)
        angle, down, right = math.radians(self.degrees) * angle, self.shift * down, self.shift * right
        return rotate_and_shift(images, angle, down, right).flatten(1)


def rotate_and_shift(images: Tensor, angle: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Images turned about their centre, then shifted; bilinear, with zeros from outside.

    Args:
        images: (rows, height, width).
        angle: (rows,) radians, counter-clockwise as the image is shown, its first row on top.
        down: (rows,) shift, a share of the height.
        right: (rows,) shift, a share of the width.

    Returns:
        (rows, height, width).
    """
    rows, height, width = images.shape
    cos, sin, ratio = angle.cos(), angle.sin(), height / width
    # torch asks where each new pixel comes from, and gives either side of an image the range [-1, 1]
    back = torch.stack([cos, -sin * ratio, sin / ratio, cos], 1).view(-1, 2, 2)
    origin = -2 * back @ torch.stack([right, down], 1)[:, :, None]
    places = functional.affine_grid(torch.cat([back, origin], 2), [rows, 1, height, width], align_corners=False)
    return functional.grid_sample(images[:, None], places, padding_mode="zeros", align_corners=False)[:, 0]
