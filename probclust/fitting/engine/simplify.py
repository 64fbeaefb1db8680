"""Simplify a traced tensor graph: the same numbers from fewer operations.

A trace through Pyro's handlers and autograd holds much that hand-written code would not: aliases, constants made anew
at each step, quantities computed twice. Every rule keeps the values to the last bit (but for the sign of a zero) and
keeps random draws and mutations where they are. What a rule has to gain to stay here, and what these gain, is in
docs/engines.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from probclust.fitting.engine.rules import RULES

aten: Any = torch.ops.aten

LARGEST_CONSTANT = 1_000_000
"""Elements of a constant that is kept rather than computed at each step."""

ALIASES = {aten.detach.default, aten.alias.default, aten.lift_fresh.default, aten.lift_fresh_copy.default}
_OF_SHAPE = {aten.new_zeros.default, aten.new_ones.default, aten.zeros_like.default, aten.ones_like.default}
_BY_NUMBER = {
    **{op: op for op in (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)},
    **{aten.mul.Scalar: aten.mul.Tensor, aten.div.Scalar: aten.div.Tensor},
}
"""Arithmetic with a number, and the operation by a tensor that stands for it."""


def simplify(module: GraphModule) -> None:
    """Simplify a graph that `make_fx` traced with fake tensors, in place."""
    Pass(module).run()
    module.graph.eliminate_dead_code(is_needed)


def is_random(node: Node) -> bool:
    """Whether an operation draws from torch's generator."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def is_mutating(node: Node) -> bool:
    """Whether an operation changes one of its arguments."""
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def is_needed(node: Node) -> bool:
    """Whether a node stays where nothing uses it; random draws do, so that those after them are the same."""
    return node.op in ("placeholder", "output") or is_random(node) or is_mutating(node)


def may_view(node: Node) -> bool:
    """Whether an operation's result may share memory with an argument."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return True
    return any(value.alias_info is not None for value in schema.returns) or node.target in _MAYBE_VIEWS


_MAYBE_VIEWS = {aten.reshape.default, aten.contiguous.default, aten.lift_fresh.default}


def _mutated(graph: Graph) -> set[Node]:
    """Nodes whose memory some operation of the graph changes, directly or through a view."""
    parent: dict[Node, Node] = {}

    def root(node: Node) -> Node:
        while parent.get(node, node) is not node:
            node = parent[node]
        return node

    for node in graph.nodes:
        if node.op == "call_function" and may_view(node):
            for other in node.all_input_nodes:
                parent[root(other)] = root(node)
    roots = {root(other) for node in graph.nodes if is_mutating(node) for other in (node, *node.all_input_nodes)}
    return {node for node in graph.nodes if root(node) in roots}


class Pass:
    """One pass over a graph, in order: rules, constants, and one node for each quantity."""

    def __init__(self, module: GraphModule) -> None:
        self.module, self.graph = module, module.graph
        self.constants: dict[Node, Tensor] = {}
        self.known: dict[Any, Node] = {}
        self.mutated = _mutated(self.graph)

    def run(self) -> None:
        """Simplify the graph, in place."""
        for node in list(self.graph.nodes):
            if node.op == "get_attr":
                self._literal(node)
            if node.op != "call_function" or node in self.mutated or is_random(node) or is_mutating(node):
                continue
            if any(other in self.mutated for other in node.all_input_nodes):
                continue
            with self.graph.inserting_before(node):
                other = self._rule(node) or self._constant(node) or self._same(node)
                if other is None:
                    self._numbers(node)
            if other is not None:
                node.replace_all_uses_with(other)
                self.graph.erase_node(node)

    def _literal(self, node: Node) -> None:
        """A tensor that the program wrote down, as `torch.tensor(2.0)`, is a constant; other tensors may change."""
        if node.users and all(user.target is aten.lift_fresh_copy.default for user in node.users):
            self.constants[node] = getattr(self.module, str(node.target))

    def _rule(self, node: Node) -> Node | None:
        if node.target in ALIASES:
            return node.args[0]  # type: ignore[return-value]
        rule = RULES.get(node.target)
        return None if rule is None else rule(self, node)

    def add(self, target: Any, args: tuple[Any, ...], value: Any) -> Node:
        """A new operation before the one at hand, with what it gives as `make_fx` notes it."""
        new = self.graph.call_function(target, args)
        new.meta["val"] = value
        return new

    def _constant(self, node: Node) -> Node | None:
        """Compute now what depends on no input."""
        if node.target not in _OF_SHAPE and not all(other in self.constants for other in node.all_input_nodes):
            return None
        value = node.meta.get("val")
        if not isinstance(value, Tensor) or value.numel() > LARGEST_CONSTANT or "empty" in str(node.target):
            return None
        name = f"_constant_{len(self.constants)}"
        if node.target in _OF_SHAPE:
            fill = torch.zeros if "zeros" in str(node.target) else torch.ones
            result = fill(value.shape, dtype=value.dtype, device=value.device)
        else:
            if not isinstance(node.target, torch._ops.OpOverload):
                return None
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: self.constants[n])
            result = node.target(*args, **kwargs)
        return self._keep(name, result, value)

    def _keep(self, name: str, result: Tensor, meta: Any) -> Node:
        self.module.register_buffer(name, result, persistent=False)
        constant = self.graph.get_attr(name)
        constant.meta["val"] = meta
        self.constants[constant] = result
        return constant

    def _same(self, node: Node) -> Node | None:
        """The node that computed this before, if one did."""
        key = (node.target, _hashable(node.args), _hashable(node.kwargs))
        return None if self.known.setdefault(key, node) is node else self.known[key]

    def _numbers(self, node: Node) -> None:
        """Numbers in arithmetic as tensors, which torch would make of them at each step."""
        if node.target not in _BY_NUMBER or node.kwargs or len(node.args) != 2:
            return
        (one, number), value = node.args, node.meta["val"]
        if not isinstance(one, Node) or isinstance(number, Node | bool) or not isinstance(number, int | float):
            return
        if value.dtype not in (torch.float32, torch.float64) or one.meta["val"].dtype != value.dtype:
            return
        key = ("number", number, value.dtype, value.device)
        if key not in self.known:
            tensor = torch.tensor(number, dtype=value.dtype, device=value.device)
            self.known[key] = self._keep(f"_number_{len(self.constants)}", tensor, value.fake_mode.from_tensor(tensor))
            first = next(iter(self.graph.nodes))
            first.prepend(self.known[key])
        node.target = _BY_NUMBER[node.target]
        node.args = (one, self.known[key])


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return tuple(sorted((key, _hashable(item)) for key, item in value.items()))
    return (type(value), value)
