"""Run a tensor graph as the Python that `torch.fx` writes for it, with torch's own functions in place of operators."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.graph import CodeGen


def graph_function(module: GraphModule) -> Callable[..., Any]:
    """A function of the graph's used inputs, in their order, that returns its outputs.

    Torch's functions and methods parse their arguments several times faster than the operators that a trace records
    (on a small network that is a sixth of a step), and results are dropped after their last use.
    """
    for node in module.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            node.target = direct(node.target)
    vars(module).update(module._buffers)  # a buffer is looked up through several calls
    module._buffers.clear()
    return written(module).forward


def compiled_function(module: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """`graph_function` through `torch.compile`, which draws the same random numbers; compiled for these inputs.

    Raises:
        Exception: whatever keeps torch from compiling; the want of a C++ compiler, say.
    """
    function: Callable[..., Any] = torch.compile(written(module), fullgraph=True, options={"fallback_random": True})
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng(_cuda(inputs)):
        warnings.simplefilter("ignore")
        function(*[tensor.clone() for tensor in inputs])  # compiles; what it changes in place is not theirs
    return function


def written(module: GraphModule) -> GraphModule:
    """The module, whose `forward` takes the used inputs one by one."""
    graph = module.graph
    for node in graph.find_nodes(op="placeholder"):
        if not node.users:
            graph.erase_node(node)
    graph.set_codegen(CodeGen())
    module.recompile()
    return module


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
