"""Simplified graphs give the same numbers to the last bit, and mutations and draws stay where they are."""

from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from probclust.fitting.engine.code import graph_function
from probclust.fitting.engine.simplify import simplify

W = torch.arange(12.0).view(3, 4).sin()
X = torch.arange(20.0).view(5, 4).cos()


def simplified(function, *inputs):
    """The function's outputs by its simplified graph, and the names of its operations."""
    traced = make_fx(lambda tensors: list(function(*tensors)), tracing_mode="fake", _allow_non_fake_inputs=True)(
        list(inputs)
    )
    simplify(traced)
    places = [node for node in traced.graph.nodes if node.op == "placeholder"]
    used = [tensor for tensor, node in zip(inputs, places, strict=True) if node.users]
    names = [str(node.target).split(".")[1] for node in traced.graph.nodes if node.op == "call_function"]
    with torch.no_grad():
        outputs = graph_function(traced)(*used)
    return outputs, names


def gradient(value, *inputs):
    return torch.autograd.grad(value, inputs)


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (lambda w, x: [w.detach().t().t()], []),
        (lambda w, x: [w.exp() + w.exp()], ["exp", "add"]),
        (lambda w, x: [w + torch.arange(4).float().exp()], ["add"]),
        (lambda w, x: [w + torch.tensor([1.0, 2.0, 3.0, 4.0]).log()], ["add"]),
        (lambda w, x: [w[torch.arange(3)[:, None]] * x], ["unsqueeze", "mul"]),
        (lambda w, x: [w[torch.tensor([2, 0, 1])[:, None]]], ["index"]),
        (lambda w, x: [w[torch.arange(2)[:, None]]], ["index"]),
        (lambda w, x: gradient((w[torch.tensor([2, 0, 0])[:, None]] * x).sum(), w), None),
        (lambda w, x: [w.sum(1, keepdim=True).view(3)], ["sum"]),
        (lambda w, x: [2 / w, w / 3, w - 1, 1 - w], ["reciprocal", "mul", "div", "sub", "rsub"]),
        (lambda w, x: gradient((w[torch.arange(3)[:, None]] - x).square().sum(), w), None),
        (lambda w, x: gradient((x @ w.T).clamp(-0.5, 0.5).logsumexp(1).sum(), w), None),
        (lambda w, x: gradient(-(x[:, None] - w).square().sum(-1).log_softmax(1).mean(), w), None),
    ],
)
def test_the_same_numbers_from_fewer_operations(function, left):
    w = W.clone().requires_grad_()
    outputs, names = simplified(function, w, X)
    for got, expected in zip(outputs, function(w, X), strict=True):
        assert torch.equal(got, expected)
    if left is not None:
        assert names == left


def test_random_draws_stay_even_where_nothing_uses_them():
    def function(w):
        torch.rand(3)
        return [w + torch.rand(3, 4), w + torch.rand(3, 4)]

    torch.manual_seed(0)
    expected = function(W)
    torch.manual_seed(0)
    outputs, names = simplified(function, W)
    assert names.count("rand") == 3
    torch.manual_seed(0)
    outputs, _ = simplified(function, W)
    torch.manual_seed(0)
    traced = make_fx(function, tracing_mode="fake")(W)
    simplify(traced)
    torch.manual_seed(0)
    for got, wanted in zip(graph_function(traced)(W), expected, strict=True):
        assert torch.equal(got, wanted)
    assert not torch.equal(*outputs)


def test_inputs_that_are_changed_in_place_are_changed_once_and_read_in_order():
    def function(w, x):
        before = w * 2
        w.view(-1)[:4].add_(x[0])
        return [before, w * 2, x[0].add(1).mul_(3)]

    one, other = W.clone(), W.clone()
    outputs, names = simplified(function, one, X)
    for got, expected in zip(outputs, function(other, X), strict=True):
        assert torch.equal(got, expected)
    assert torch.equal(one, other)
    assert "add_" in names


def test_tensors_from_outside_are_read_at_each_run():
    outside = torch.ones(4)
    traced = make_fx(lambda w: [w + outside.exp()], tracing_mode="fake", _allow_non_fake_inputs=True)(W)
    simplify(traced)
    run = graph_function(traced)
    outside.fill_(2.0)
    assert torch.equal(run(W)[0], W + torch.full((4,), 2.0).exp())
