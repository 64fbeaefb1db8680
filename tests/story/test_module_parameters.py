"""Parameters and buffers are a story's own: not the global store's, not another story's, not changed by a look."""

from __future__ import annotations

import copy

import pyro
import pyro.distributions as dist
import pyro.optim
import pytest
import torch
from pyro.infer import SVI, autoguide
from pyro.nn import PyroModule, PyroParam
from pyro.poutine import block
from torch import nn
from torch.distributions import constraints

import probclust as pc
from probclust.objectives.bounds import Exact


class Net(PyroModule):
    def __init__(self):
        super().__init__()
        self.loc = PyroParam(torch.randn(2, 3))
        self.scale = PyroParam(torch.ones(2, 3), constraint=constraints.positive)

    def forward(self, k):
        return dist.Normal(self.loc[k], self.scale[k]).to_event(1)


@pc.register
class WithPyroParam(pc.Story):
    def __init__(self):
        super().__init__(n_features=3, n_clusters=2)
        self.net = Net()

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(2)), infer={"enumerate": "parallel"})
            pyro.sample("x", self.net(k), obs=x)

    def guide(self, x):
        pass


@pc.register
class WithAutoGuide(pc.Story):
    """The guide of its global latent is one of Pyro's, whose parameters are made at its first call."""

    def __init__(self):
        super().__init__(n_features=3, n_clusters=2)
        self.auto = autoguide.AutoNormal(block(self.model, expose=["loc"]))

    def model(self, x):
        loc = pyro.sample("loc", dist.Normal(torch.zeros(2, 3), 3.0).to_event(2))
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(2)), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(loc[k], 1.0).to_event(1), obs=x)

    def guide(self, x):
        self.auto(x)


@pytest.mark.parametrize("build", [WithPyroParam, WithAutoGuide])
def test_stories_of_a_class_share_nothing(build, tmp_path):
    x = torch.randn(100, 3) + 2
    one, other = build(), build()
    before = pc.elbo(other, x)
    pc.fit(one, x, epochs=30, learning_rate=0.05)
    fitted = pc.elbo(one, x)
    assert fitted.mean() > before.mean() + 1
    assert torch.equal(pc.elbo(other, x), before)
    pc.save(one, tmp_path / "one.safetensors")
    pc.fit(other, x - 6, epochs=30, learning_rate=0.05)
    assert torch.equal(pc.elbo(one, x), fitted)
    assert torch.equal(pc.elbo(pc.load(tmp_path / "one.safetensors"), x), fitted)
    again = copy.deepcopy(one)
    pc.fit(one, x - 6, epochs=5, learning_rate=0.05)
    assert torch.equal(pc.elbo(again, x), fitted)
    assert not list(pyro.get_param_store().keys())


def test_two_nets_of_a_class_in_one_story_keep_their_own():
    class Two(WithPyroParam):
        def __init__(self):
            super().__init__()
            self.other = Net()

        def model(self, x):
            with pyro.plate("data", len(x)):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(2)))
                mean = (self.net(k).mean + self.other(k).mean) / 2
                pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    story, x = Two(), torch.randn(6, 3)
    mean = (story.net.loc + story.other.loc) / 2
    by_hand = torch.distributions.Normal(mean, 1.0).log_prob(x[:, None]).sum(-1) - torch.tensor(2.0).log()
    torch.testing.assert_close(pc.log_joint(story, x), by_hand.detach())


def test_pyros_svi_trains_them_under_our_objectives():
    story, x = WithPyroParam(), torch.randn(100, 3) + 2
    svi = SVI(story.model, story.guide, pyro.optim.Adam({"lr": 0.05}), loss=Exact())
    before = float(pc.log_likelihood(story, x).mean())
    for _ in range(60):
        svi.step(x)
    assert float(pc.log_likelihood(story, x).mean()) > before + 1


def test_a_module_that_is_no_part_of_the_story_is_refused_by_name():
    class Hidden(WithPyroParam):
        def __init__(self):
            super().__init__()
            self.nets = [Net()]

        def model(self, x):
            with pyro.plate("data", len(x)):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(2)))
                pyro.sample("x", self.nets[0](k), obs=x)

    with pytest.raises(pc.ContractError, match="a PyroModule that is none of its parts"):
        pc.log_joint(Hidden(), torch.randn(5, 3))


# Buffers


class Normalised(pc.Story):
    """Batch normalisation in the encoder; a counter that moves at every call, in training or not."""

    def __init__(self):
        super().__init__(n_features=4, n_clusters=2)
        self.m = nn.Parameter(torch.randn(2, 2))
        self.encoder = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
        self.decoder = nn.Linear(2, 4)
        self.register_buffer("calls", torch.zeros(()))

    def model(self, x):
        self.calls += 1
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(2)))
            z = pyro.sample("z", dist.Normal(self.m[k], 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), 0.5).to_event(1))


def test_scores_and_checks_change_no_buffer():
    x = 3 * torch.randn(40, 4) + 5
    story = Normalised()
    made = copy.deepcopy(story.state_dict())
    assert int(story.encoder[0].num_batches_tracked) == 0
    first = pc.log_joint(story, x)
    for f in (pc.predict, pc.elbo, pc.log_likelihood, pc.embed, pc.reconstruct, pc.sample_posterior):
        f(story, x)
    pc.sample(story, 5)
    pc.compare({"a": story}, x)
    assert all(torch.equal(value, made[name]) for name, value in story.state_dict().items())
    assert torch.equal(pc.log_joint(story, x), first)
    assert story.training
    assert all(module.training for module in story.modules())


def test_a_frozen_part_stays_in_evaluation_mode_and_a_fit_moves_the_statistics():
    x = 3 * torch.randn(60, 4) + 5
    story = Normalised()
    story.decoder.eval()
    pc.log_joint(story, x)
    assert not story.decoder.training
    assert story.encoder.training
    pc.fit(story, x, epochs=2, batch_size=20)
    assert int(story.encoder[0].num_batches_tracked) == 6
