"""Architectures: K side by side equal K apart, stories take them, and what the user brings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import probclust as pc
from probclust.likelihoods import Gaussian
from probclust.models import MixtureOfVAEs, VaDE
from probclust.networks.architectures import MLP, Convolutional, SideBySide, StackedNorm, stacked_decoder, stacked_trunk

K, ROWS = 3, 6
ARCHITECTURES = {
    "mlp": lambda norm: MLP((7, 5), norm),
    "convolutional": lambda norm: Convolutional(5, 4, (2, 3), n_hidden=5, norm=norm),
}
every = pytest.mark.parametrize("name", ARCHITECTURES)
every_norm = pytest.mark.parametrize("norm", [None, "batch", "layer"])


def apart(stacked, k):
    """The k-th of K networks side by side, as a network of one expert."""
    share = {}
    for name, value in stacked.state_dict().items():
        by_expert = value.dim() > 2 and value.shape[0] == K  # StackedLinear
        share[name] = value if value.dim() == 0 else value[k : k + 1] if by_expert else value.chunk(K)[k]
    return share


@every_norm
@every
def test_side_by_side_equals_apart_in_values_and_gradients(float64, name, norm):
    network = ARCHITECTURES[name](norm)
    for stack, one, x in [
        (network.stacked_trunk(K, 20), network.stacked_trunk(1, 20), torch.randn(K, ROWS, 20)),
        (network.stacked_decoder(K, 2, 40), network.stacked_decoder(1, 2, 40), torch.randn(K, ROWS, 2)),
    ]:
        own = stack(x)
        shared = stack(x[0])
        own.square().sum().backward()
        for k in range(K):
            one.load_state_dict(apart(stack, k))
            one.train()
            torch.testing.assert_close(own[k], one(x[k])[0])
            torch.testing.assert_close(shared[k], one(x[0])[0])
            one.zero_grad()
            one(x[k]).square().sum().backward()
            first, of_one = next(stack.parameters()), next(one.parameters())
            torch.testing.assert_close(first.grad.chunk(K)[k], of_one.grad)


@every_norm
@every
def test_the_single_network_is_one_expert(name, norm):
    network = ARCHITECTURES[name](norm)
    trunk, decoder = network.trunk(20).eval(), network.decoder(2, 40).eval()
    assert trunk(torch.randn(ROWS, 20)).shape == (ROWS, network.n_hidden)
    assert decoder(torch.randn(ROWS, 2)).shape == (ROWS, 40)
    assert next(decoder.parameters()).numel() % 2 == 0  # the weight that multiplies the code


def test_convolutions_are_torchs(float64):
    network = Convolutional(4, 4, (3,), n_hidden=2)
    trunk, x = network.stacked_trunk(1, 32), torch.randn(ROWS, 32)
    convolution = trunk.convolutions[0]
    h = nn.functional.conv2d(x.reshape(ROWS, 2, 4, 4), convolution.weight, convolution.bias, 2, 1).relu()
    expected = (h.reshape(ROWS, -1) @ trunk.last.weight[0] + trunk.last.bias[0]).relu()
    torch.testing.assert_close(trunk(x)[0], expected)


def test_layer_norms_are_torchs(float64):
    x = torch.randn(K, ROWS, 5)
    torch.testing.assert_close(StackedNorm("layer", K, 5)(x), nn.functional.layer_norm(x, [5]))
    torch.testing.assert_close(
        StackedNorm("batch", K, 5)(x)[1], nn.functional.batch_norm(x[1], None, None, training=True)
    )


class Own(pc.Part):
    """The user's: no more than the interface."""

    n_hidden = 6

    def trunk(self, n_in):
        return nn.Sequential(nn.Linear(n_in, 6), nn.Tanh())

    def decoder(self, n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 6), nn.Tanh(), nn.Linear(6, n_out))


pc.register(Own)
NETWORKS = {
    "own": Own,
    "layer-norm": lambda: MLP((8,), "layer"),
    "batch-norm": lambda: MLP((8,), "batch"),
    "convolutional": lambda: Convolutional(4, 4, (2, 3), n_hidden=8, norm="layer"),
}


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("build", [VaDE, MixtureOfVAEs])
@pytest.mark.parametrize("name", NETWORKS)
def test_stories_take_them(name, build, missing, tmp_path):
    x = torch.rand(40, 16)
    if missing:
        x[:, 3][::2] = torch.nan
    story = build(16, 3, latent_dim=2, network=NETWORKS[name](), likelihood=Gaussian(16, "row"), missing=missing)
    steps = [step for step in story.recipe(pretrain_epochs=1, fit_epochs=1, epochs=1) if build is VaDE] or None
    pc.fit(story, x, recipe=steps or [pc.SVI(epochs=2, learning_rate=1e-3)], progress=False)
    assert torch.isfinite(pc.log_joint(story, x)).all()
    assert pc.reconstruct(story, x).shape == (40, 16)
    pc.save(story, tmp_path / "story")
    assert torch.equal(pc.log_joint(pc.load(tmp_path / "story"), x), pc.log_joint(story, x))


def test_experts_of_the_user_run_one_after_the_other():
    trunks, decoders = stacked_trunk(Own(), K, 4), stacked_decoder(Own(), K, 2, 5)
    assert isinstance(trunks, SideBySide)
    x = torch.randn(ROWS, 4)
    assert torch.equal(trunks(x)[1], trunks.experts[1](x))
    assert decoders(torch.randn(K, ROWS, 2)).shape == (K, ROWS, 5)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="norm must be 'batch', 'layer' or None, got 'group'"):
        MLP((3,), "group")
    with pytest.raises(ValueError, match="10 numbers for each row are no images of 4 x 4 pixels"):
        VaDE(10, 2, network=Convolutional(4, 4))
