"""K perceptrons side by side as one differentiable operation: bias and ReLU in place, no copy of a weight.

What autograd would do layer by layer, in less memory: a ReLU overwrites its input, and its gradient too. Second
derivatives and the transforms of `torch.func` go layer by layer still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_SPARE = "_probclust_spare_gradient"

Layers = Sequence[tuple[Tensor, Tensor]]
"""Weights (K, n_in, n_out) and biases (K, 1, n_out), from input to output, with a ReLU after each but the last."""


def perceptrons(x: Tensor, layers: Layers) -> Tensor:
    """(K, rows, n_out) outputs of K perceptrons, from (K, rows, n_in)."""
    parameters = [parameter for layer in layers for parameter in layer]
    if torch.is_autocast_enabled(x.device.type) or torch._C._are_functorch_transforms_active():
        return _by_layer(x, *parameters)
    return _apply(x, None, None, *parameters)


def perceptrons_by_block(x: Tensor, layers: Layers, expert: Tensor, ends: Tensor) -> Tensor:
    """(pairs, n_out) outputs, each pair's of its own expert.

    Args:
        x: (pairs, n_in), sorted by expert; float32, on a CPU.
        layers: of the K perceptrons.
        expert: (pairs,) the expert of each pair.
        ends: (K,) where each expert's block of pairs ends.
    """
    n_out = layers[-1][1].shape[-1]
    padded = [tensor for weight, bias in layers for tensor in (_whole(weight, weight.shape[1]), _whole(bias))]
    outputs = _apply(_whole(x), expert, ends.to(torch.int32), *padded)
    return outputs[:, :n_out] if outputs.shape[1] > n_out else outputs


def recycle(parameter: Tensor) -> None:
    """Drop a parameter's gradient, and let the next one be written where it stood.

    For large stacked weights: the system takes long to find fresh memory for their gradients at every step. Only who
    knows that nobody else holds the gradient may do this.
    """
    gradient = parameter.grad
    large = gradient is not None and gradient.dim() == 3 and gradient.numel() >= 2**20 and gradient.is_contiguous()
    setattr(parameter, _SPARE, gradient if large and parameter.device.type == "cpu" else None)
    parameter.grad = None


def takes_blocks(x: Tensor) -> bool:
    """Whether products of blocks of any length are there for a tensor like this."""
    return hasattr(functional, "grouped_mm") and x.dtype == torch.float32 and x.device.type == "cpu"


def _spare(weight: Tensor) -> Tensor | None:
    """The memory of a dropped gradient, given once."""
    spare = getattr(weight, _SPARE, None)
    if spare is not None:
        setattr(weight, _SPARE, None)
    return spare


def _to_weight(x: Tensor, gradient: Tensor, weight: Tensor, ends: Tensor | None) -> Tensor:
    """(K, n_in, n_out) gradient of a weight, from the layer's inputs and the gradient of its outputs."""
    spare = _spare(weight)
    if ends is None:
        return torch.bmm(x.transpose(1, 2), gradient, out=spare)
    if spare is None or weight[0].numel() < 2**14:
        return functional.grouped_mm(x.t(), gradient, offs=ends)
    start = 0
    for expert, end in enumerate(ends.tolist()):  # what `grouped_mm` does, which cannot write into given memory
        torch.mm(x[start:end].t(), gradient[start:end], out=spare[expert])
        start = end
    return spare


def _whole(tensor: Tensor, n_rows: int = 0) -> Tensor:
    """Zeros added, to the columns and to `n_rows` rows, up to multiples of 16 bytes."""
    columns, rows = -tensor.shape[-1] % 4, -n_rows % 4
    return functional.pad(tensor, (0, columns, 0, rows) if rows else (0, columns)) if columns or rows else tensor


def _by_layer(x: Tensor, *parameters: Tensor) -> Tensor:
    for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        x = torch.baddbmm(bias, x, weight).relu()
    return torch.baddbmm(parameters[-1], x, parameters[-2])


class _Perceptrons(torch.autograd.Function):
    """Of (K, rows, n_in) where `expert` is None, else of (pairs, n_in) by block."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, expert: Tensor | None, ends: Tensor | None, *parameters: Tensor) -> Tensor:
        inputs = []
        for number, (weight, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True), 1):
            inputs.append(x)
            if expert is None:
                x = torch.baddbmm(bias, x, weight)
            else:
                x = functional.grouped_mm(x, weight, offs=ends)
                x.add_(bias.squeeze(1).index_select(0, expert))
            if 2 * number < len(parameters):
                x.relu_()
        ctx.save_for_backward(expert, ends, *inputs, *parameters)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        expert, ends, *saved = ctx.saved_tensors
        inputs, parameters = saved[: len(saved) // 3], saved[len(saved) // 3 :]
        if torch.is_grad_enabled():
            return _twice(gradients[0], expert, inputs[0], parameters)
        gradient = gradients[0].contiguous()
        found: list[Tensor | None] = []
        for number in reversed(range(len(inputs))):
            x, weight = inputs[number], parameters[2 * number]
            wants_x, wants_weight, wants_bias = (
                bool(number) or ctx.needs_input_grad[0],
                ctx.needs_input_grad[3 + 2 * number],
                ctx.needs_input_grad[4 + 2 * number],
            )
            to_x = to_bias = None
            if expert is None:
                to_bias = gradient.sum(1, keepdim=True) if wants_bias else None
                to_x = torch.bmm(gradient, weight.transpose(1, 2)) if wants_x else None
            else:
                if wants_bias:
                    to_bias = gradient.new_zeros(len(weight), gradient.shape[1]).index_add_(0, expert, gradient)[
                        :, None
                    ]
                to_x = functional.grouped_mm(gradient, weight.transpose(1, 2), offs=ends) if wants_x else None
            to_weight = _to_weight(x, gradient, weight, ends) if wants_weight else None
            found += [to_bias, to_weight]
            if number:
                torch.ops.aten.threshold_backward.grad_input(to_x, x, 0, grad_input=to_x)
            gradient = to_x
        return gradient, None, None, *reversed(found)


_apply: Callable[..., Tensor] = _Perceptrons.apply


def _twice(gradient: Tensor, expert: Tensor | None, x: Tensor, parameters: Sequence[Tensor]) -> Any:
    """The gradients with a graph of their own, for second derivatives."""
    if expert is not None:
        raise RuntimeError("there are no second derivatives through run_experts by block; take float64, which has them")
    inputs = [x, *parameters]
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(_by_layer(*inputs), wanted, gradient, create_graph=True))
    to_x, *others = [next(found) if tensor.requires_grad else None for tensor in inputs]
    return to_x, None, None, *others
