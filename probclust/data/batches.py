"""The batches of an epoch: rows in a drawn order, cut into parts of even size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from probclust.data.stored import Rows, StoredRows

POOL_BYTES = 2**26
"""Size, 64 MiB, of the pools of blocks within which stored rows are shuffled; two are in memory at a time."""


def shuffled(
    x: Rows, n_batches: int, share: tuple[int, int] = (0, 1), generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch, in a random order.

    A tensor's rows come in any order. Stored rows are read in blocks of consecutive rows, the blocks in any order, and
    shuffled within pools of blocks; one pool is read while the last one is used.

    Args:
        x: (rows, n_features).
        n_batches: parts of the epoch; their sizes differ by one row at most.
        share: (number, of how many): which of as many even parts of each batch to give.
        generator: draws the order; None for torch's own.

    Yields:
        (rows,) numbers of the batch's rows, and (rows, n_features) its rows, on the device of x.
    """
    number, parts = share
    if isinstance(x, StoredRows):
        for index, rows in _from_pools(x, n_batches, generator):
            yield index.tensor_split(parts)[number].to(x.device), rows.tensor_split(parts)[number]
        return
    for index in torch.randperm(x.shape[0], generator=generator).to(x.device).tensor_split(n_batches):
        mine = index.tensor_split(parts)[number]
        yield mine, x[mine]


def _from_pools(x: StoredRows, n_batches: int, generator: torch.Generator | None) -> Iterator[tuple[Tensor, Tensor]]:
    sizes = [len(x) // n_batches + (number < len(x) % n_batches) for number in range(n_batches)]
    held: list[tuple[Tensor, Tensor]] = []
    batch = 0
    for index, rows in _pools(x, generator):
        mixed, at = torch.randperm(len(index), generator=generator), 0
        while at < len(mixed):
            lacks = sizes[batch] - sum(len(part) for part, _ in held)
            part = mixed[at : at + lacks]
            held.append((index[part], rows[part.to(rows.device)]))
            at += len(part)
            if len(part) == lacks:
                yield torch.cat([part for part, _ in held]), torch.cat([part for _, part in held])
                held, batch = [], batch + 1
        del index, rows  # before the pool after the next is read


def _pools(x: StoredRows, generator: torch.Generator | None) -> Iterator[tuple[Tensor, Tensor]]:
    """(rows,) numbers and (rows, n_features) rows of some blocks at a time."""
    edges = torch.as_tensor(x.edges())
    blocks = torch.stack([edges[:-1], edges[1:]], 1)[torch.randperm(len(edges) - 1, generator=generator)]
    ends = (blocks[:, 1] - blocks[:, 0]).cumsum(0) * x.shape[1] * x.dtype.itemsize
    pools = [blocks[ends // POOL_BYTES == number].tolist() for number in (ends // POOL_BYTES).unique().tolist()]
    with ThreadPoolExecutor(1, "read rows") as reader:
        upcoming = reader.submit(x.read_blocks, pools[0])
        for number, pool in enumerate(pools):
            rows = upcoming.result()
            if number + 1 < len(pools):
                upcoming = reader.submit(x.read_blocks, pools[number + 1])
            yield _numbers(pool), rows


def _numbers(blocks: Sequence[tuple[int, int]]) -> Tensor:
    return torch.cat([torch.arange(start, stop) for start, stop in blocks])
