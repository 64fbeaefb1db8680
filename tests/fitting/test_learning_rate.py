"""Plain SVI of stories that do not say how they are trained: a learning rate and gradients that suit networks."""

from __future__ import annotations

import math
from itertools import pairwise

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import probclust as pc
from probclust.fitting.learning_rate import usual_learning_rate

D = 784


def network(*sizes):
    layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes[:-1])]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class Deep(pc.Story):
    """Two dense networks and scales that are exponentials, as a stranger writes them."""

    def __init__(self, n_features, n_clusters, hidden=(500, 500, 2000), latent_dim=10):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.encoder = network(n_features, *hidden, 2 * latent_dim)
        self.decoder = network(latent_dim, *hidden[::-1], 2 * n_features)
        self.loc = nn.Parameter(torch.randn(n_clusters, latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(n_clusters, latent_dim))

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            z = pyro.sample("z", dist.Normal(self.loc[k], self.log_scale[k].exp()).to_event(1))
            loc, log_scale = self.decoder(z).chunk(2, -1)
            pyro.sample("x", dist.Normal(loc, log_scale.exp()).to_event(1), obs=x)

    def guide(self, x):
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def images(n_rows):
    """Strokes on black: columns at the border are all zero."""
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    centre = 8 + 12 * torch.rand(n_rows, 2, 1, 1)
    return (-((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / 18).exp().reshape(n_rows, D)


@pytest.mark.parametrize("engine", ["eager", "staged"])
def test_a_strangers_deep_story_trains_with_the_defaults(engine):
    story = Deep(D, 5)
    record = pc.fit(story, images(200), epochs=8, batch_size=50, engine=engine, progress=False)
    losses = record.losses()
    assert math.isfinite(record.bound)
    assert losses[-1] < losses[0] / 2
    assert record.history[0]["learning_rate"] < 1e-3
    assert record.settings["steps"][0]["clip"] == 1000


class Bare(pc.Story):
    """A network of plain parameters."""

    def __init__(self, n_features, n_clusters, *shapes):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(shape)) for shape in shapes)


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        (lambda: Deep(D, 5), 1e-3),
        (lambda: Deep(6, 5, (20,), 2), 1e-2),
        (lambda: Deep(D, 5).requires_grad_(False), 1e-2),
        (lambda: Bare(D, 3, (D, 100), (100, 4)), 1e-3),
        (lambda: Bare(D, 3, (3, D), (3, D, D)), 1e-2),  # means and factors of each cluster
        (lambda: Bare(D, 3, (20_000,), ()), 1e-2),
    ],
)
def test_the_rate_goes_by_the_weights_of_the_networks(story, expected):
    assert usual_learning_rate(story()) == expected


def test_what_the_user_says_of_the_rate_counts():
    for arguments in ({"learning_rate": 1e-4}, {"recipe": [pc.SVI(learning_rate=1e-4, epochs=1)]}):
        record = pc.fit(Deep(8, 2, (4,), 2), torch.rand(20, 8), **{"epochs": 1} | arguments)
        assert record.history[0]["learning_rate"] == 1e-4
        assert record.settings["steps"][0]["learning_rate"] == 1e-4
    record = pc.fit(Deep(8, 2, (4,), 2), torch.rand(20, 8), recipe=[pc.SVI(epochs=1)])
    assert record.settings["steps"][0]["learning_rate"] == 1e-2


def test_a_large_gradient_is_scaled_to_the_norm_and_a_small_one_is_left(monkeypatch):
    found = []
    inner = torch.optim.Adam.step

    def step(self, *args, **kwargs):
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        found.append(float(torch.stack([g.norm() for g in gradients]).norm()))
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    norms, ends = {}, {}
    for clip in (None, 1e9, 0.5):
        found.clear()
        torch.manual_seed(0)
        story, x = Deep(8, 2, (4,), 2), torch.rand(20, 8)
        pc.fit(story, x, recipe=[pc.SVI(epochs=2, learning_rate=1e-3, clip=clip)])
        norms[clip] = list(found)
        ends[clip] = [p.detach() for p in story.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(ends[None], ends[1e9], strict=True))
    assert norms[None] == norms[1e9]
    assert min(norms[None]) > 0.5
    assert norms[0.5] == pytest.approx([0.5] * 2, rel=1e-5)


@pytest.mark.parametrize("wrong", [0, -1.0, math.inf, math.nan])
def test_wrong_norms_are_refused(wrong):
    with pytest.raises(ValueError, match=r"clip must be (a )?positive"):
        pc.SVI(clip=wrong)
