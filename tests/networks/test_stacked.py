"""Perceptrons, alone and side by side."""

from __future__ import annotations

import pytest
import torch

from probclust.networks.stacked import ACTIVATIONS, StackedMLP, mlp


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_a_perceptron_has_its_activation_between_its_layers_and_none_at_its_end(activation):
    x, network = torch.randn(5, 3), mlp([3, 4, 6, 2], activation)
    expected = x
    for number, layer in enumerate(layer for layer in network if isinstance(layer, torch.nn.Linear)):
        between = {"swish": "silu"}.get(activation, activation)
        expected = expected if number == 0 else getattr(torch.nn.functional, between)(expected)
        expected = expected @ layer.weight.T + layer.bias
    torch.testing.assert_close(network(x), expected)
    assert network(x).shape == (5, 2)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match=r"activation must be one of \['elu', 'relu', .*'swish'\], got 'tanh'"):
        mlp([3, 2], "tanh")


def test_stacked_perceptrons_are_perceptrons_side_by_side():
    x, stacked = torch.randn(5, 3), StackedMLP(2, [3, 4, 2])
    for k in range(2):
        alone = mlp([3, 4, 2])
        for mine, theirs in zip((alone[0], alone[2]), stacked.layers, strict=True):
            mine.weight.data, mine.bias.data = theirs.weight[k].T.detach(), theirs.bias[k, 0].detach()
        torch.testing.assert_close(stacked(x)[k], alone(x))
