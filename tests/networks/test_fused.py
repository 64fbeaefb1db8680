"""K perceptrons as one operation: values and gradients of the plain formula, with blocks or without."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from probclust.networks.experts import run_experts
from probclust.networks.fused import perceptrons, perceptrons_by_block, recycle, takes_blocks
from probclust.networks.stacked import StackedMLP

EXPERT, ENDS = torch.tensor([0, 0, 2, 2, 2]), torch.tensor([2, 2, 5])


def layers_of(sizes, dtype=torch.float64):
    shapes = [s for n_in, n_out in pairwise(sizes) for s in ((3, n_in, n_out), (3, 1, n_out))]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def pairs_of(parameters):
    return list(zip(parameters[::2], parameters[1::2], strict=True))


def by_hand(x, parameters):
    """Outputs (K, rows, n_out), expert by expert and row by row."""
    experts = []
    for k in range(3):
        h = x[k]
        for number, (weight, bias) in enumerate(pairs_of(parameters)):
            h = (h if number == 0 else h.clamp(min=0)) @ weight[k] + bias[k]
        experts.append(h)
    return torch.stack(experts)


def written_out(a, b, offs):
    """The grouped product in any dtype."""
    starts = [0, *offs.tolist()[:-1]]
    if b.dim() == 3:
        return torch.cat([a[i:j] @ b[k] for k, (i, j) in enumerate(zip(starts, offs.tolist(), strict=True))])
    return torch.stack([a[:, i:j] @ b[i:j] for i, j in zip(starts, offs.tolist(), strict=True)])


@pytest.mark.parametrize("sizes", [[4, 3], [4, 5, 3], [4, 6, 5, 1]])
def test_values_and_first_and_second_derivatives(sizes):
    x, parameters = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True), layers_of(sizes)

    def run(x, *parameters):
        return perceptrons(x, pairs_of(parameters))

    torch.testing.assert_close(run(x, *parameters), by_hand(x, parameters))
    assert torch.autograd.gradcheck(run, [x, *parameters])
    assert torch.autograd.gradgradcheck(run, [x, *parameters])


@pytest.mark.parametrize("sizes", [[4, 3], [1, 5, 3], [5, 1, 5, 1]])
def test_blocks_in_values_and_derivatives(sizes, monkeypatch):
    """The grouped product knows no float64, which finite differences need: here it is written out."""
    monkeypatch.setattr(nn.functional, "grouped_mm", written_out, raising=False)
    x, parameters = torch.randn(5, sizes[0], dtype=torch.float64, requires_grad=True), layers_of(sizes)

    def run(x, *parameters):
        return perceptrons_by_block(x, pairs_of(parameters), EXPERT, ENDS)

    expected = by_hand(x.expand(3, 5, -1), parameters)[EXPERT, torch.arange(5)]
    torch.testing.assert_close(run(x, *parameters), expected)
    assert torch.autograd.gradcheck(run, [x, *parameters])
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(run(x, *parameters).sum(), parameters, create_graph=True)


@pytest.mark.skipif(not takes_blocks(torch.ones(1)), reason="this torch has no grouped product")
def test_torchs_grouped_product_is_the_one_written_out():
    a, w = torch.randn(5, 8), torch.randn(3, 8, 4)
    g = torch.randn(5, 4)
    ends = ENDS.to(torch.int32)
    torch.testing.assert_close(nn.functional.grouped_mm(a, w, offs=ends), written_out(a, w, ENDS))
    torch.testing.assert_close(nn.functional.grouped_mm(a.t(), g, offs=ends), written_out(a.t(), g, ENDS))


def test_frozen_parameters_get_no_gradient():
    x, parameters = torch.randn(3, 5, 4, dtype=torch.float64), layers_of([4, 5, 3])
    parameters[0].requires_grad_(False)
    perceptrons(x, pairs_of(parameters)).sum().backward()
    expected = torch.autograd.grad(by_hand(x, parameters).sum(), parameters[1:])
    assert parameters[0].grad is None
    for parameter, gradient in zip(parameters[1:], expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_transforms_and_mixed_precision_work_as_with_plain_layers():
    network, x = StackedMLP(2, [3, 4, 2]), torch.randn(5, 3)
    parameters = dict(network.named_parameters())

    def loss(parameters, row):
        return torch.func.functional_call(network, parameters, (row[None],)).square().sum()

    gradients = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    network(x).square().sum().backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(gradients[name].sum(0), parameter.grad)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(x)
        outputs.sum().backward()
    assert outputs.dtype == torch.bfloat16


@pytest.mark.parametrize("by_block", [False, True])
def test_a_dropped_gradient_lends_its_memory_once_and_changes_nothing(by_block):
    network, x = StackedMLP(16, [256, 256, 2]), torch.randn(8, 256)
    cluster = torch.stack([torch.arange(8), 15 - torch.arange(8)])

    def loss():
        outputs = run_experts(network, x, cluster) if by_block else network(x)
        return outputs.square().sum()

    expected = torch.autograd.grad(loss(), list(network.parameters()))
    loss().backward()
    where = network.layers[0].weight.grad.data_ptr()
    for uses in (1, 2):  # twice in one graph, its memory must not be written twice
        for parameter in network.parameters():
            recycle(parameter)
            assert parameter.grad is None
        sum(loss() for _ in range(uses)).backward()
        assert uses == 2 or network.layers[0].weight.grad.data_ptr() == where
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, uses * gradient)
