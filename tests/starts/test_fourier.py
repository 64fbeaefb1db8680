"""The start from random Fourier features, against the exact kernel and kernel k-means."""

from __future__ import annotations

import pytest
import torch

import probclust as pc
from probclust.data.synthetic import circles
from probclust.networks.codec import Autoencoder
from probclust.starts.fourier import fourier_start
from probclust.story.recipe import START, Run

GAMMA = 2.0


def run_of(x):
    return Run(pc.models.GaussianMixture(x.shape[1], 2), x, None, seed=0)


def start_of(network, latent_dim, **settings):
    return fourier_start(network.encoder, network.decoder, network.encoder, network.decoder, latent_dim, **settings)


def test_inner_products_of_the_features_are_the_kernel():
    x, n = torch.randn(30, 3), 20_000
    run = run_of(x)
    start_of(Autoencoder(3, (4,), n), n, gamma=GAMMA)[0].run(run)
    features = run.memory.features
    assert features.dtype == x.dtype
    assert features.shape == (30, n)
    exact = (-GAMMA * torch.cdist(x, x).square()).exp()
    # each entry is a mean of n products of variance at most 3/2: five standard errors, 435 pairs, false alarm 3e-4
    assert (features @ features.T - exact).abs().max() < 5 * (1.5 / n) ** 0.5


def test_encoder_and_decoder_learn_in_turn_and_k_means_ends_it():
    x = torch.as_tensor(circles(400).x)
    network = Autoencoder(2, (64, 64), 40)
    steps = start_of(network, 40, gamma=4.0, epochs=120, batch_size=100)
    story = pc.models.GaussianMixture(2, 2)
    torch.manual_seed(0)
    first = pc.fit(story, x, recipe=steps[:2])
    features, codes = first.memory["Fourier features"], network.encoder(x).detach()
    assert (codes - features).square().mean() < 0.1 * features.var()
    before = [p.clone() for p in network.encoder.parameters()]
    record = pc.fit(story, x, recipe=steps[2:])
    assert all(torch.equal(a, b) for a, b in zip(before, network.encoder.parameters(), strict=True))
    assert (network.decoder(codes) - x).square().mean() < 0.05 * x.var()
    assert record.memory[START].shape == (400,)


def test_a_wrong_gamma_is_refused():
    with pytest.raises(ValueError, match=r"gamma must be positive, got 0"):
        start_of(Autoencoder(3, (4,), 5), 5, gamma=0)
