"""The automatic guide of the global latents, on models whose posterior has a closed form."""

from __future__ import annotations

import copy

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroSample
from torch import nn

import probclust as pc
from probclust.objectives.bounds import Exact
from probclust.story.global_guide import GlobalGuide
from tests.support.stories import Bayesian

PRIORS = {
    "weights": dist.Dirichlet(torch.ones(3)),
    "loc": dist.Normal(0.0, 3.0).expand([3, 2]).to_event(2),
    "precision": dist.Gamma(4.0, 2.0).expand([3]).to_event(1),
    "share": dist.Beta(2.0, 2.0),
    "bounded": dist.Uniform(-1.0, 2.0),
    "factor": dist.LKJCholesky(3, 1.0),
}


@pytest.mark.parametrize("kind", ["map", "normal"])
def test_values_lie_in_the_support_of_their_prior(kind):
    guide = GlobalGuide(PRIORS, kind)
    for _ in range(20):
        values = guide()
        for name, prior in PRIORS.items():
            assert values[name].shape == prior.shape()
            assert prior.support.check(values[name]).all(), name


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (dist.Bernoulli(0.5), r"global latent 'rare' is discrete \(Bernoulli\).*sum it out"),
        (dist.Poisson(3.0).expand([2]).to_event(1), r"global latent 'rare' is discrete \(Poisson\)"),
        (dist.Categorical(torch.ones(3)), r"global latent 'rare' is discrete \(Categorical\)"),
        (dist.ProjectedNormal(torch.ones(3)), r"global latent 'rare' gets no automatic guide.*Sphere.*in guide\(x\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_prior_that_no_guide_reaches_is_refused_by_name_where_the_story_is_made(prior, words):
    class Rare(Bayesian):
        def model(self, x):
            pyro.sample("rare", prior)
            super().model(x)

    with pytest.raises(pc.ContractError, match=words):
        Rare(2, 3)


def test_map_adds_nothing_to_the_bound():
    guide = GlobalGuide(PRIORS, "map")
    trace = pyro.poutine.trace(guide).get_trace()
    assert trace.log_prob_sum() == 0
    assert all(torch.equal(trace.nodes[name]["value"], value) for name, value in guide().items())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["weights", "precision", "share", "loc"])
def test_the_density_of_the_normal_guide_integrates_to_one(name):
    """E_q[p / q] = 1 where q covers p; N = 40,000 draws, within 4 standard errors: false alarm 6e-5."""
    prior = PRIORS[name]
    guide = GlobalGuide({name: prior}, "normal", scale=1.0)
    torch.nn.init.zeros_(guide.locs[name])
    law = guide._distribution(name)
    narrow = {
        "weights": dist.Dirichlet(torch.full((3,), 4.0)),
        "precision": dist.Gamma(4.0, 4.0).expand([3]).to_event(1),
        "share": dist.Beta(4.0, 4.0),
        "loc": dist.Normal(0.0, 0.8).expand([3, 2]).to_event(2),
    }[name]
    value = law.sample((40_000,))
    ratio = (narrow.log_prob(value) - law.log_prob(value)).exp().detach()
    error = ratio.std() / 200
    assert error < 0.1
    assert abs(float(ratio.mean()) - 1) < 4 * float(error)


class NormalMean(pc.Story):
    """One cluster, known noise: the posterior of the mean is Normal(sum x / (n + 1/9), 1 / (n + 1/9))."""

    def __init__(self, global_guide):
        super().__init__(n_features=1, n_clusters=1, global_guide=global_guide)

    def model(self, x):
        loc = pyro.sample("loc", dist.Normal(0.0, 3.0))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("cluster", dist.Categorical(torch.ones(1)))
            pyro.sample("x", dist.Normal(loc, 1.0).expand([1]).to_event(1), obs=x)

    def guide(self, x):
        pass


@pytest.mark.parametrize("batch_size", [256, 10])
@pytest.mark.parametrize("kind", ["map", "normal"])
def test_fit_finds_the_posterior_whatever_the_batch(kind, batch_size):
    x = torch.randn(40, 1) + 2
    story = NormalMean(kind)
    pc.fit(story, x, epochs=250 if batch_size > 40 else 100, batch_size=batch_size, learning_rate=0.05)
    precision = 40 + 1 / 9
    assert story.globals.locs["loc"].item() == pytest.approx(float(x.sum()) / precision, abs=0.03)
    if kind == "normal":
        assert story.globals.log_scales["loc"].exp().item() == pytest.approx(precision**-0.5, rel=0.2)


@pytest.mark.usefixtures("float64")
def test_the_objective_counts_globals_once_for_all_rows():
    story, x = Bayesian(2, 3), torch.randn(12, 2)
    values = story.globals()
    prior = dist.Dirichlet(torch.full((3,), 2.0)).log_prob(values["weights"])
    prior = prior + dist.Normal(0.0, 3.0).log_prob(values["loc"]).sum()
    prior = prior + dist.Gamma(4.0, 2.0).log_prob(values["precision"]).sum()
    rows = pc.log_joint(story, x).logsumexp(1)
    assert -Exact().loss(story.model, story.guide, x) == pytest.approx((rows.sum() + prior).item())
    bound, _ = Exact(n_rows=12).per_row(story.model, story.guide, x[:4])
    torch.testing.assert_close(bound, rows[:4].mean() + prior / 12)


def test_a_guide_that_has_some_globals_gets_only_the_others():
    class Partly(Bayesian):
        def __init__(self, n_features, n_clusters):
            super().__init__(n_features, n_clusters)
            self.point = torch.nn.Parameter(torch.randn(n_clusters, n_features))

        def guide(self, x):
            pyro.sample("loc", dist.Delta(self.point, event_dim=2))

    story, x = Partly(2, 3), torch.randn(9, 2)
    assert set(story.globals.names) == {"weights", "precision"}
    assert pc.log_joint(story, x).shape == (9, 3)
    assert pc.sample(story, 5, seed=0)["x"].shape == (5, 2)


def test_the_kind_can_be_changed_and_is_checked():
    story = Bayesian(2, 3)
    story.use_global_guide("normal")
    assert set(story.globals.log_scales) == {"weights", "loc", "precision"}
    with pytest.raises(ValueError, match="global_guide must be 'map', 'normal' or 'conjugate', got 'laplace'"):
        Bayesian(2, 3, global_guide="laplace")
    with pytest.raises(ValueError, match="global_guide must be 'map', 'normal' or 'conjugate'"):
        story.use_global_guide("laplace")
    assert story.global_guide_kind == "normal"


def test_copies_have_a_guide_of_their_own():
    story, x = Bayesian(2, 3), torch.randn(9, 2)
    other = copy.deepcopy(story)
    other.globals.locs["loc"].data += 1
    assert not torch.equal(pc.log_joint(story, x), pc.log_joint(other, x))


class Locations(pc.Story):
    """The places of two clusters under a prior; their site has any name."""

    def __init__(self, name, global_guide="map"):
        super().__init__(n_features=3, n_clusters=2, global_guide=global_guide)
        self.site = name

    def model(self, x):
        loc = pyro.sample(self.site, dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(2)))
            pyro.sample("x", dist.Normal(loc[k], 1.0).to_event(1), obs=x)

    def guide(self, x):
        pass


@pytest.mark.parametrize("kind", ["map", "normal", "conjugate"])
@pytest.mark.parametrize("name", ["decoder.weight", "values", "type", "site:a%2Eb", "forward", "0"])
def test_a_global_latent_may_have_any_name(name, kind, tmp_path):
    pc.register(Locations)
    x = torch.randn(60, 3) + 4 * (torch.arange(60) % 2)[:, None]
    story, plain = Locations(name, kind), Locations("loc", kind)
    plain.globals.load_state_dict(
        dict(zip(plain.globals.state_dict(), story.globals.state_dict().values(), strict=True))
    )
    for each in (story, plain):
        pc.fit(each, x, epochs=4, learning_rate=0.05)
    assert torch.equal(pc.elbo(story, x), pc.elbo(plain, x))
    assert torch.equal(pc.sample(story, 4, seed=0)["x"], pc.sample(plain, 4, seed=0)["x"])
    pc.save(story, tmp_path / "s.safetensors")
    assert torch.equal(pc.elbo(pc.load(tmp_path / "s.safetensors"), x), pc.elbo(story, x))
    assert name in pc.to_inference_data(story, x, draws=2).posterior


def test_names_never_share_parameters():
    names = ["a.b", "site:a%2Eb", "site:a.b", "a%2Eb", "values", "site:values", "a"]
    guide = GlobalGuide({name: dist.Normal(0.0, 1.0) for name in names}, "normal")
    assert len(guide.locs) == len(names)


def test_a_layer_with_a_prior_is_fitted():
    """A Bayesian decoder, as Pyro's tutorial of PyroModule writes it."""

    class Decoder(pc.Story):
        def __init__(self):
            super().__init__(n_features=3, n_clusters=2)
            self.net = PyroModule[nn.Sequential](PyroModule[nn.Linear](2, 4), nn.Tanh(), PyroModule[nn.Linear](4, 3))
            self.net[0].weight = PyroSample(dist.Normal(0.0, 1.0).expand([4, 2]).to_event(2))

        def model(self, x):
            locs = self.net(torch.eye(2))
            with pyro.plate("data", len(x)):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(2)))
                pyro.sample("x", dist.Normal(locs[k], 1.0).to_event(1), obs=x)

        def guide(self, x):
            pass

    story, x = Decoder(), torch.randn(50, 3)
    pc.fit(story, x, epochs=2)
    weight = story.globals()["0.weight"]
    hidden = torch.tanh(weight.T + story.net[0].bias)
    locs = hidden @ story.net[2].weight.T + story.net[2].bias
    by_hand = torch.distributions.Normal(locs, 1.0).log_prob(x[:, None]).sum(-1) - torch.tensor(2.0).log()
    torch.testing.assert_close(pc.log_joint(story, x), by_hand.detach())


class Sparse(pc.Story):
    def __init__(self, n_clusters, global_guide):
        super().__init__(n_features=2, n_clusters=n_clusters, global_guide=global_guide)
        self.loc = nn.Parameter(torch.randn(n_clusters, 2))

    def model(self, x):
        weights = pyro.sample("weights", dist.Dirichlet(torch.full((self.n_clusters,), 1 / self.n_clusters)))
        precision = pyro.sample("precision", dist.Gamma(0.05, 0.05))
        share = pyro.sample("share", dist.Beta(0.02, 0.02))
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(share * self.loc[k], precision.rsqrt()).to_event(1), obs=x)

    def guide(self, x):
        pass


@pytest.mark.parametrize("kind", ["map", "normal", "conjugate"])
@pytest.mark.parametrize("n_clusters", [10, 50])
@pytest.mark.filterwarnings("ignore::probclust.FitWarning")
def test_priors_with_their_mass_at_the_border_are_fitted(kind, n_clusters):
    x = torch.randn(100, 2)
    for seed in range(3):
        torch.manual_seed(seed)
        story = Sparse(n_clusters, kind)
        start = story.globals()
        if kind == "map":
            assert start["weights"].min() >= 0.5 / n_clusters - 1e-6  # half way to the prior's mean
        record = pc.fit(story, x, recipe=[pc.SVI(epochs=60, learning_rate=0.3)])
        assert np.isfinite(record.bound)
        assert all(torch.isfinite(value).all() for value in story.globals().values())
