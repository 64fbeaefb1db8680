"""Image distortion model: how far an image is from another that may be bent to fit it, each pixel a little.

Each pixel p of an image x looks for its place in y, at most w pixels off in either direction, where the slopes of the
gray levels around it are most alike:

    d(x, y)^2 = sum over p of  min over |s| <= w of  sum over |c| <= 1 of  |g_x(p + c) - g_y(p + s + c)|^2,

with g the two Sobel slopes and c the 3 by 3 pixels around. Pixels move without regard to each other; that their
surroundings must fit keeps strokes together. It is no metric: x must be found in y, not y in x.

Source: D. Keysers, T. Deselaers, C. Gollan, H. Ney, "Deformation models for image recognition", 2007, section 3.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import eye_array
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional

from probclust.data.kinds import ImageShape, checked_image_shape
from probclust.starts.clusterers.graphs import one_way_graph

SIDE = 20
"""Pixels along the longer side of the images that are compared, whatever those given have."""

WARP = 2
"""w, in pixels of those."""

N_CANDIDATES = 50
BATCH_PIXELS = 2**15
"""Pixels compared at a time, so that they stay in a processor's cache."""


def resized(x: NDArray[Any], image_shape: ImageShape, side: int = SIDE) -> Tensor:
    """(rows, height, width) images whose longer side is `side`, by bilinear interpolation, from (rows, pixels)."""
    images = torch.as_tensor(np.ascontiguousarray(x, dtype=np.float32)).view(-1, 1, *image_shape)
    height, width = (max(1, round(part * side / max(image_shape))) for part in image_shape)
    scaled = functional.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return scaled.squeeze(1)


def slopes(images: Tensor) -> Tensor:
    """(..., 2, height, width) gray levels gained per pixel, down and to the right, from (..., height, width).

    Sobel's: central differences, averaged over three pixels across with weights 1, 2, 1; outside, an image is 0.
    """
    padded = functional.pad(images, (1, 1, 1, 1))
    down, right = padded[..., 2:, :] - padded[..., :-2, :], padded[..., 2:] - padded[..., :-2]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    right = right[..., :-2, :] + 2 * right[..., 1:-1, :] + right[..., 2:, :]
    return torch.stack([down, right], -3) / 8


def distortion_distances(here: Tensor, there: Tensor, warp: int = WARP) -> Tensor:
    """How far images are from each of some others that may be bent.

    Args:
        here: (rows, 2, height, width) slopes.
        there: (rows, others, 2, height, width) slopes.
        warp: w, pixels that a pixel may be off.

    Returns:
        (rows, others) distances.
    """
    rows, others, _, height, width = there.shape
    own = _pairs_last(functional.pad(here, (1,) * 4)[:, None].expand(-1, others, -1, -1, -1))
    their = _pairs_last(functional.pad(there, (1 + warp,) * 4))
    their_size = _around(their.square().sum(0))
    best = torch.full((height, width, rows * others), float("inf"), dtype=here.dtype)
    for down in range(2 * warp + 1):
        for right in range(2 * warp + 1):
            placed = their[:, down : down + height + 2, right : right + width + 2]
            product = (own[0] * placed[0]).addcmul_(own[1], placed[1])
            size = their_size[down : down + height, right : right + width]
            torch.minimum(best, size.sub(_around(product), alpha=2), out=best)
    squared = (_around(own.square().sum(0)) + best).sum((0, 1))
    return squared.clamp(min=0).sqrt().view(rows, others)


def _pairs_last(images: Tensor) -> Tensor:
    """(2, height, width, pairs) from (rows, others, 2, height, width), so that what is added lies side by side."""
    return images.flatten(0, 1).permute(1, 2, 3, 0).contiguous()


def _around(values: Tensor) -> Tensor:
    """(height - 2, width - 2, ...) sums over 3 by 3 pixels, from (height, width, ...)."""
    across = values[:-2] + values[1:-1] + values[2:]
    return across[:, :-2] + across[:, 1:-1] + across[:, 2:]


def distortion_neighbours(
    x: NDArray[Any],
    image_shape: ImageShape,
    n_neighbours: int = 10,
    *,
    n_candidates: int = N_CANDIDATES,
    rounds: int = 3,
    warp: int = WARP,
    side: int = SIDE,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Nearest other images by the image distortion model, among candidates.

    Candidates are first the nearest rows by the Euclidean distance of images half as large; in each further round, the
    neighbours of the neighbours found so far.

    Args:
        x: (rows, height * width).
        image_shape: height and width.
        n_neighbours: of each row, fewer than rows.
        n_candidates: rows compared with each row in a round.
        rounds: of candidates, at least 1.
        warp: w, pixels that a pixel may be off in images of `side` pixels.
        side: pixels along the longer side of the images that are compared.

    Returns:
        (rows, n_neighbours) distances, increasing, and (rows, n_neighbours) row numbers.
    """
    image_shape = checked_image_shape(image_shape, x.shape[1])
    n_candidates = min(max(n_candidates, n_neighbours), len(x) - 1)
    small = resized(x, image_shape, max(1, side // 2)).flatten(1).numpy()
    nearest = NearestNeighbors(n_neighbors=n_candidates).fit(small).kneighbors(return_distance=False)
    bent = slopes(resized(x, image_shape, side))
    distance, neighbour = _nearest(bent, torch.as_tensor(nearest), n_neighbours, warp)
    for _ in range(rounds - 1):
        further = torch.as_tensor(neighbours_of_neighbours(neighbour.numpy(), n_candidates))
        found = _nearest(bent, further, n_neighbours, warp)
        both = [torch.cat(pair, 1) for pair in zip((distance, neighbour), found, strict=True)]
        distance, order = both[0].topk(n_neighbours, 1, largest=False)
        neighbour = both[1].gather(1, order)
    return distance.numpy(), neighbour.numpy()


def _nearest(bent: Tensor, candidates: Tensor, n_neighbours: int, warp: int) -> tuple[Tensor, Tensor]:
    """(rows, n_neighbours) distances and row numbers of the nearest candidates; those of -1 are infinitely far."""
    per_row = candidates.shape[1] * bent[0, 0].numel()
    distances, neighbours = [], []
    for part in torch.arange(len(bent)).split(max(1, BATCH_PIXELS // per_row)):
        others = candidates[part]
        found = distortion_distances(bent[part], bent[others], warp).masked_fill_(others < 0, float("inf"))
        nearest, order = found.topk(n_neighbours, 1, largest=False)
        distances.append(nearest)
        neighbours.append(others.gather(1, order))
    return torch.cat(distances), torch.cat(neighbours)


def neighbours_of_neighbours(neighbour: NDArray[Any], n: int, chunk: int = 4096) -> NDArray[Any]:
    """The rows two steps away that most ways lead to, along the graph of neighbours, either way of its edges.

    Args:
        neighbour: (rows, n_neighbours) row numbers.
        n: rows to find for each.
        chunk: rows at a time.

    Returns:
        (rows, n) row numbers, neither the row's own nor its neighbours', that of most ways first; -1 where there are
        no more.
    """
    n_rows = len(neighbour)
    one_way = one_way_graph(neighbour)
    edges = (one_way + one_way.T).tocsr()
    near = one_way + eye_array(n_rows, format="csr", dtype=np.float32)
    found = np.full((n_rows, n), -1)
    for start in range(0, n_rows, chunk):
        ways = (edges[start : start + chunk] @ edges).tocsr()
        ways = (ways - ways.multiply(near[start : start + chunk])).tocoo()
        ways.eliminate_zeros()
        row, column = ways.coords
        order = np.lexsort((column, -ways.data, row))
        row, column = row[order], column[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        kept = place < n
        found[start + row[kept], place[kept]] = column[kept]
    return found
