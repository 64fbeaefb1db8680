"""Run a tensor graph as straight-line Python that calls torch's own functions."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen


def graph_function(module: GraphModule) -> Callable[..., Any]:
    """A function of the graph's used inputs, in their order, that returns its outputs as a tuple.

    Torch's functions and methods parse their arguments several times faster than the operators that a trace records
    (on a small network that is a tenth of a step), and results are dropped after their last use.
    """
    writer = _Writer(module)
    names: dict[str, Any] = {}
    exec(compile(writer.source(), "<staged graph>", "exec"), writer.values, names)
    function: Callable[..., Any] = names["run"]
    return function


def compiled_function(module: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """`graph_function` through `torch.compile`, which draws the same random numbers; compiled for these inputs.

    Raises:
        Exception: whatever keeps torch from compiling; the want of a C++ compiler, say.
    """
    graph = module.graph
    for node in list(graph.nodes):
        if node.op == "placeholder" and not node.users:
            graph.erase_node(node)
    graph.set_codegen(CodeGen())
    module.recompile()
    function: Callable[..., Any] = torch.compile(module, fullgraph=True, options={"fallback_random": True})
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng(_cuda(inputs)):
        warnings.simplefilter("ignore")
        function(*[tensor.clone() for tensor in inputs])  # compiles; what it changes in place is not theirs
    return function


def _cuda(inputs: Sequence[Tensor]) -> list[torch.device]:
    return list({tensor.device for tensor in inputs if tensor.device.type == "cuda"})


def captured(module: GraphModule) -> list[Tensor]:
    """Tensors that a graph reads beside its inputs."""
    return [getattr(module, str(node.target)) for node in module.graph.nodes if node.op == "get_attr"]


def direct(target: Any) -> Any:
    """Torch's own function for an operator, or the operator where there is none."""
    name = target._schema.name
    if not name.startswith("aten::"):
        return target
    name = name.removeprefix("aten::")
    for owner in (torch, torch.Tensor):
        found = getattr(owner, name, None)
        if isinstance(found, BuiltinFunctionType | MethodDescriptorType):
            return found
    return target


class _Writer:
    def __init__(self, module: GraphModule) -> None:
        self.module, self.nodes = module, list(module.graph.nodes)
        self.values: dict[str, Any] = {}
        self.names: dict[int, str] = {}

    def source(self) -> str:
        """The function's text; `values` are its globals."""
        last = self._last_uses()
        inputs = [node.name for node in self.nodes if node.op == "placeholder" and node.users]
        lines = [f"def run({', '.join(inputs)}):"]
        for node in self.nodes:
            if node.op == "call_function":
                lines.append(f"    {node.name} = {self._call(node)}" + self._freed(last.get(node, [])))
            elif node.op == "output":
                lines.append(f"    return ({''.join(self._argument(value) + ', ' for value in node.args[0])})")
        return "\n".join(lines)

    def _last_uses(self) -> dict[Node, list[Node]]:
        last: dict[Node, Node] = {}
        for node in self.nodes:
            for other in node.all_input_nodes:
                last[other] = node
        freed: dict[Node, list[Node]] = {}
        for other, node in last.items():
            if other.op == "call_function":
                freed.setdefault(node, []).append(other)
        return freed

    def _freed(self, nodes: list[Node]) -> str:
        return f"; {' = '.join(node.name for node in nodes)} = None" if nodes else ""

    def _call(self, node: Node) -> str:
        if node.target is operator.getitem:
            return f"{self._argument(node.args[0])}[{node.args[1]!r}]"
        function = direct(node.target) if isinstance(node.target, torch._ops.OpOverload) else node.target
        arguments = [self._argument(value) for value in node.args]
        arguments += [f"{name}={self._argument(value)}" for name, value in node.kwargs.items()]
        return f"{self._value(function)}({', '.join(arguments)})"

    def _argument(self, value: Any) -> str:
        if isinstance(value, Node):
            return self._value(getattr(self.module, str(value.target))) if value.op == "get_attr" else value.name
        if isinstance(value, list | tuple):
            inner = "".join(self._argument(item) + ", " for item in value)
            return f"[{inner}]" if isinstance(value, list) else f"({inner})"
        if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
            return repr(value)
        return self._value(value)

    def _value(self, value: Any) -> str:
        name = self.names.setdefault(id(value), f"g{len(self.names)}")
        self.values[name] = value
        return name
