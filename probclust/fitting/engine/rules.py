"""Rules by which a pass over a traced tensor graph puts a cheaper node in place of another, with the same values.

A rule gets the pass and the node at hand, and returns the node to use instead, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

if TYPE_CHECKING:
    from probclust.fitting.engine.simplify import Pass

aten: Any = torch.ops.aten

Rule = Callable[["Pass", Node], Node | None]


def shape_of(node: Any) -> torch.Size:
    """The shape of a node's value."""
    return node.meta["val"].shape


def _transpose(run: Pass, node: Node) -> Any:
    (inner,) = node.args
    return inner.args[0] if isinstance(inner, Node) and inner.target is aten.t.default else None


def _unchanged(run: Pass, node: Node) -> Any:
    return node.args[0] if shape_of(node.args[0]) == shape_of(node) else None


def _reshaped(run: Pass, node: Node) -> Any:
    """A view that drops the dims which a sum kept."""
    inner: Any = node.args[0]
    if inner.target is aten.sum.dim_IntList and len(inner.args) == 3 and inner.args[2]:
        summed: Any = inner.args[0]
        dims = {dim % len(shape_of(summed)) for dim in inner.args[1]}
        if tuple(s for d, s in enumerate(shape_of(summed)) if d not in dims) == tuple(shape_of(node)):
            return run.add(aten.sum.dim_IntList, (summed, inner.args[1]), node.meta["val"])
    return _unchanged(run, node)


def _every_row(run: Pass, node: Node) -> Any:
    """Indexing by 0..K-1 in a column, as an enumerated cluster does, adds a dim."""
    table: Any = node.args[0]
    size = _column_of_all(run, node.args[1], shape_of(table)[0] if len(shape_of(table)) else 0)
    return None if size is None else run.add(aten.unsqueeze.default, (table, 1), node.meta["val"])


def _into_every_row(run: Pass, node: Node) -> Any:
    """The gradient of `_every_row`."""
    if len(node.args) < 4 or not node.args[3]:
        return None
    zeros, indices, values = node.args[:3]
    size = _column_of_all(run, indices, shape_of(node)[0] if len(shape_of(node)) else 0)
    blank = zeros in run.constants and not run.constants[zeros].any()  # type: ignore[index]
    if size is None or not blank or tuple(shape_of(values)) != (size, 1, *shape_of(node)[1:]):
        return None
    return run.add(aten.squeeze.dim, (values, 1), node.meta["val"])


def _column_of_all(run: Pass, indices: Any, size: int) -> int | None:
    if len(indices) != 1 or indices[0] not in run.constants:
        return None
    index = run.constants[indices[0]]
    every = index.dtype == torch.int64 and index.shape == (size, 1) and index.flatten().tolist() == list(range(size))
    return size if every else None


RULES: dict[Any, Rule] = {
    aten.t.default: _transpose,
    aten.expand.default: _unchanged,
    aten.view.default: _reshaped,
    aten.index.Tensor: _every_row,
    aten.index_put.default: _into_every_row,
}
