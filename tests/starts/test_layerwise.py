"""Layer-wise pre-training against its formula, layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import probclust as pc
from probclust.networks.codec import Autoencoder
from probclust.networks.stacked import mlp
from probclust.starts.layerwise import layerwise_pretraining
from probclust.story.recipe import Batch, Run


def batch_of(x):
    return Batch(x, torch.arange(len(x)), Run(pc.models.GaussianMixture(x.shape[1], 2), x, None, seed=0))


def test_each_layer_rebuilds_what_the_layers_before_it_give():
    x, network = torch.rand(9, 5), Autoencoder(5, (4, 3), 2)
    one, two, three = network.encoder[0], network.encoder[2], network.encoder[4]
    last, middle, first = network.decoder[4], network.decoder[2], network.decoder[0]
    h = one(x).relu()
    g = two(h).relu()
    expected = [
        functional.mse_loss(last(h), x),
        functional.mse_loss(middle(g).relu(), h),
        functional.mse_loss(first(three(g)).relu(), g),
    ]
    steps = layerwise_pretraining(network.encoder, network.decoder, epochs=3)
    assert [step.name for step in steps] == ["layer 1", "layer 2", "layer 3"]
    assert [list(step.modules) for step in steps] == [[one, last], [two, middle], [three, first]]
    for step, error in zip(steps, expected, strict=True):
        network.zero_grad()
        loss = step.loss(batch_of(x))
        torch.testing.assert_close(loss, error)
        loss.backward()
        trained = {id(p) for module in step.modules for p in module.parameters()}
        for parameter in network.parameters():
            assert (parameter.grad is not None) == (id(parameter) in trained)


def test_noise_drops_inputs_and_the_rows_as_they_were_are_rebuilt():
    encoder, decoder = nn.Sequential(nn.Linear(1, 1, bias=False)), nn.Sequential(nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        encoder[0].weight.fill_(1)
        decoder[0].weight.fill_(1)
    [step] = layerwise_pretraining(encoder, decoder, epochs=1, noise=0.2)
    # an input of 1 becomes 0 in one of five rows, 1.25 in the others: 0.2 * 1 + 0.8 * 0.0625
    assert step.loss(batch_of(torch.ones(40_000, 1))).item() == pytest.approx(0.25, abs=0.01)  # five standard errors


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="noise must be a share"):
        layerwise_pretraining(mlp([3, 2]), mlp([2, 3]), epochs=1, noise=1.0)
    with pytest.raises(ValueError, match="mirror the encoder's"):
        layerwise_pretraining(mlp([3, 4, 2]), mlp([2, 3]), epochs=1)
    with pytest.raises(ValueError, match="needs perceptrons"):
        layerwise_pretraining(lambda x: x, mlp([2, 3]), epochs=1)
