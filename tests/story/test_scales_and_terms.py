"""What scales, masks, factors and deterministic sites do to bounds, scores and comparisons."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import nn
from torch.distributions import Normal

import probclust as pc
from probclust.objectives.bounds import Amortised, Exact, Hard, ImportanceWeighted
from probclust.story.recipe import SVI

pytestmark = pytest.mark.usefixtures("float64")


class Line(pc.Story):
    """Two normals on a line; what is around and inside the plate is the caller's."""

    n_full = None
    around = inside = on_x = 1.0

    def __init__(self):
        super().__init__(n_features=1, n_clusters=2)
        self.loc = nn.Parameter(torch.tensor([[0.0], [1.0]], dtype=torch.get_default_dtype()))

    def plate(self, x):
        if self.n_full is None:
            return pyro.plate("data", len(x))
        return pyro.plate("data", self.n_full, subsample_size=len(x))

    def model(self, x):
        with poutine.scale(scale=self.around), self.plate(x), poutine.scale(scale=self.inside):
            k = pyro.sample("cluster", dist.Categorical(torch.tensor([0.3, 0.7])), infer={"enumerate": "parallel"})
            with poutine.scale(scale=self.on_x):
                pyro.sample("x", dist.Normal(self.loc[k], 1.0).to_event(1), obs=x)

    def guide(self, x):
        pass


X = torch.tensor([[0.4], [1.5], [3.0], [0.1], [-1.0]], dtype=torch.float64).repeat(4, 1)
LOG_WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64).log()


def truth(x=X):
    """(rows, 2) log p(x, cluster) of an unscaled line."""
    return LOG_WEIGHTS + Normal(torch.tensor([0.0, 1.0], dtype=torch.float64), 1.0).log_prob(x)


def line(**attributes):
    story = Line()
    for name, value in attributes.items():
        setattr(story, name, value)
    return story


COMMON = [{"n_full": 1000}, {"around": 0.1}, {"inside": torch.tensor(3.0)}, {"n_full": 40, "around": 2.0}]


@pytest.mark.parametrize("attributes", COMMON)
def test_a_common_scale_leaves_scores_as_they_are_and_counts_in_the_loss_as_pyro_has_it(attributes):
    story = line(**attributes)
    table = truth()
    torch.testing.assert_close(pc.log_joint(story, X), table)
    torch.testing.assert_close(pc.responsibilities(story, X), table.softmax(1))
    torch.testing.assert_close(pc.elbo(story, X), table.logsumexp(1))
    torch.testing.assert_close(pc.log_likelihood(story, X), table.logsumexp(1))
    scale = attributes.get("n_full", len(X)) / len(X) * float(attributes.get("around", attributes.get("inside", 1.0)))
    by_hand = -scale * float(table.logsumexp(1).sum())
    assert TraceEnum_ELBO(max_plate_nesting=1).loss(story.model, story.guide, X) == pytest.approx(by_hand)
    assert Exact().loss(story.model, story.guide, X) == pytest.approx(by_hand)
    assert Hard().loss(story.model, story.guide, X) == pytest.approx(-scale * float(table.amax(1).sum()))
    assert Amortised().loss(story.model, story.guide, X) == pytest.approx(by_hand)
    assert ImportanceWeighted(3).loss(story.model, story.guide, X) == pytest.approx(by_hand)


def test_a_scale_of_each_row_weighs_its_bound():
    weights = torch.rand(len(X)) + 0.5

    class Weighted(Line):
        def model(self, x):
            self.around = weights[: len(x)]
            super().model(x)

    story = Weighted()
    by_hand = -float((weights * truth().logsumexp(1)).sum())
    assert Exact().loss(story.model, story.guide, X) == pytest.approx(by_hand)
    torch.testing.assert_close(pc.log_likelihood(story, X), truth().logsumexp(1))


class Tempered(pc.Story):
    """A latent whose prior and posterior, the cluster with them, count `beta`: the beta of a beta-VAE."""

    def __init__(self, beta=0.25):
        super().__init__(n_features=1, n_clusters=2)
        self.beta, self.loc = beta, nn.Parameter(torch.tensor([[-1.0], [1.0]], dtype=torch.get_default_dtype()))

    def model(self, x):
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=self.beta):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(2)), infer={"enumerate": "parallel"})
                z = pyro.sample("z", dist.Normal(self.loc[k], 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)), poutine.scale(scale=self.beta):
            pyro.sample("z", dist.Normal(0.5 * x, 0.7).to_event(1))


def test_scales_of_some_sites_count_as_pyro_counts_them():
    story = Tempered()
    pyro.set_rng_seed(3)
    expected = TraceEnum_ELBO(max_plate_nesting=1).loss(story.model, story.guide, X)
    pyro.set_rng_seed(3)
    assert Exact().loss(story.model, story.guide, X) == pytest.approx(expected)
    posterior = (Normal(story.loc[:, 0], 1.0).log_prob(0.5 * X)).softmax(1)  # of z = its mean, whatever beta
    torch.testing.assert_close(pc.responsibilities(story, X), posterior.detach())


def test_a_plate_of_another_size_than_the_rows_is_refused_by_name():
    class Fixed(Line):
        def plate(self, x):
            return pyro.plate("data", len(x), subsample_size=3)

    with pytest.raises(pc.ContractError, match="plate 'data' of 3 rows, and x has"):
        pc.log_joint(Fixed(), X)


def test_a_plate_that_stands_for_other_rows_than_the_fits_is_refused_before_any_work():
    pc.fit(line(n_full=len(X)), X, epochs=1)
    with pytest.raises(ValueError, match="plate 'data' stands for 1000 rows, and x has 20"):
        pc.fit(line(n_full=1000), X, epochs=1)


def test_a_fit_counts_global_latents_once_whatever_the_plate_stands_for():
    class Mean(pc.Story):
        def __init__(self, whole):
            super().__init__(n_features=1, n_clusters=1)
            self.whole = whole

        def model(self, x):
            mu = pyro.sample("mu", dist.Normal(torch.zeros(()), 0.1))
            size = {"size": 200, "subsample_size": len(x)} if self.whole else {"size": len(x)}
            with pyro.plate("data", **size):
                pyro.sample("cluster", dist.Categorical(torch.ones(1)), infer={"enumerate": "parallel"})
                pyro.sample("x", dist.Normal(mu, 1.0).expand([1]).to_event(1), obs=x)

        def guide(self, x):
            pass

    x = torch.randn(200, 1) + 1
    mode = float(x.sum() / (200 + 100))
    for whole in (False, True):
        for objective in ("exact", TraceEnum_ELBO(max_plate_nesting=1)):
            story = Mean(whole)
            pc.fit(story, x, recipe=[SVI(epochs=150, learning_rate=0.02, objective=objective, batch_size=50)])
            assert float(story.globals.locs["mu"].detach()) == pytest.approx(mode, abs=0.01)


# Terms


class Terms(Line):
    """The line with values and terms of all kinds."""

    def model(self, x):
        pyro.deterministic("sd", torch.tensor(1.0))
        pyro.factor("ridge", -self.loc.square().sum())
        with self.plate(x):
            k = pyro.sample("cluster", dist.Categorical(torch.tensor([0.3, 0.7])), infer={"enumerate": "parallel"})
            mean = pyro.deterministic("mean", self.loc[k], event_dim=1)
            pyro.factor("bonus", 0.5 * (k == 1) + 0.1 * x[:, 0])
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    conditional = True  # the bonus reads x

    def generative(self, x):
        return self.model(x)


def test_factors_count_where_they_stand_and_deterministic_sites_do_not():
    story = Terms()
    table = truth() + torch.tensor([0.0, 0.5]) + 0.1 * X
    torch.testing.assert_close(pc.log_joint(story, X), table)
    ridge = -float(story.loc.detach().square().sum())
    by_hand = -(float(table.logsumexp(1).sum()) + ridge)
    assert Exact().loss(story.model, story.guide, X) == pytest.approx(by_hand)
    assert TraceEnum_ELBO(max_plate_nesting=1).loss(story.model, story.guide, X) == pytest.approx(by_hand)
    mean = Exact(n_rows=50).per_row(story.model, story.guide, X)[0]
    assert float(mean.detach()) == pytest.approx(float(table.logsumexp(1).mean()) + ridge / 50)


class Values(Line):
    def model(self, x):
        with self.plate(x):
            k = pyro.sample("cluster", dist.Categorical(torch.tensor([0.3, 0.7])), infer={"enumerate": "parallel"})
            mean = pyro.deterministic("mean", self.loc[k], event_dim=1)
            pyro.deterministic("one", torch.tensor(1.0))
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)


def test_stories_with_values_serve_every_function_as_those_without():
    story, plain = Values(), Line()
    draws = pc.sample(story, 50, seed=1)
    torch.testing.assert_close(draws["x"], pc.sample(plain, 50, seed=1)["x"])
    torch.testing.assert_close(draws["mean"], story.loc[draws["cluster"]].detach())
    assert draws["one"].shape == (50,)
    for f in (pc.reconstruct, pc.embed, pc.predict, pc.prototypes):
        assert_same(f(story, X), f(plain, X))
    assert_same(pc.modes(story), pc.modes(plain))
    gaps = X.clone()
    gaps[2] = math.nan
    assert_same(pc.impute(story, gaps, seed=0).x, pc.impute(plain, gaps, seed=0).x)
    assert_same(pc.interpolate(story, 0, 1), pc.interpolate(plain, 0, 1))
    assert pc.compare({"a": story, "b": plain}, X)["difference"].tolist() == [0.0, 0.0]
    one, other = (pc.to_inference_data(each, X, draws=2) for each in (story, plain))
    assert one.posterior_predictive.equals(other.posterior_predictive)
    for each in (story, plain):
        pc.fit(each, X, epochs=2, seed=0)
    torch.testing.assert_close(story.loc, plain.loc)


def assert_same(one, other):
    if isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, other)
    else:
        assert str(one) == str(other)


# Comparisons


class Bonus(Line):
    def model(self, x):
        super().model(x)
        with pyro.plate("data", len(x)):
            pyro.factor("bonus", torch.tensor(5.0))


class Masked(Line):
    def model(self, x):
        with poutine.mask(mask=torch.arange(len(x)) % 2 == 0):
            super().model(x)


class MaskedItself(Line):
    def model(self, x):
        with self.plate(x):
            k = pyro.sample("cluster", dist.Categorical(torch.tensor([0.3, 0.7])))
            pyro.sample("x", dist.Normal(self.loc[k], 1.0).to_event(1).mask(False), obs=x)


@pytest.mark.parametrize(
    ("story", "reason"),
    [
        (lambda: line(on_x=0.1), "site 'x' is scaled"),
        (Tempered, "'cluster' is scaled|'x' is scaled"),
        (Bonus, "pyro.factor 'bonus'"),
        (Masked, "is masked"),
        (MaskedItself, "site 'x' is masked"),
    ],
)
def test_what_is_no_density_is_not_ranked(story, reason):
    with pytest.warns(pc.ComparisonWarning, match=reason):
        table = pc.compare({"honest": Line(), "other": story()}, X)
    assert table.index.tolist() == ["honest", "other"]
    assert math.isnan(table.loc["other", "log_likelihood"])


@pytest.mark.parametrize("attributes", COMMON)
def test_a_common_scale_is_a_density_all_the_same(attributes):
    table = pc.compare({"honest": Line(), "other": line(**attributes)}, X)
    assert table["difference"].abs().max() < 1e-12


def test_an_impossible_cluster_of_the_guide_counts_nothing():
    class Gate(Line):
        def __init__(self):
            super().__init__()
            self.q = nn.Linear(1, 2)

        def guide(self, x):
            with self.plate(x):
                pyro.sample("cluster", dist.Categorical(logits=self.q(x) + torch.tensor([0.0, -math.inf])))

    story = Gate()
    loss = Amortised().differentiable_loss(story.model, story.guide, X)
    torch.testing.assert_close(loss, -truth()[:, 0].sum())
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in story.parameters() if p.grad is not None)


def test_embeddings_of_impossible_clusters_are_finite():
    class Sure(Line):
        def model(self, x):
            with self.plate(x):
                k = pyro.sample("cluster", dist.Categorical(logits=torch.tensor([0.0, -math.inf])))
                pyro.sample("x", dist.Normal(self.loc[k], 1.0).to_event(1), obs=x)

    assert (pc.log_joint(Sure(), X)[:, 1] == -math.inf).all()
    codes = pc.embed(Sure(), X)
    assert torch.isfinite(codes).all()
    assert (codes[:, 0] > codes[:, 1]).all()
    torch.testing.assert_close(codes.sum(1), torch.zeros(len(X)))


@pytest.mark.parametrize("attributes", COMMON[:3])
def test_a_common_scale_changes_no_imputation(attributes):
    gaps = X.clone()
    gaps[1] = math.nan
    one, other = (pc.impute(story, gaps, draws=3, seed=0) for story in (line(**attributes), Line()))
    torch.testing.assert_close(one.x, other.x)
    torch.testing.assert_close(one.responsibilities, other.responsibilities)
    torch.testing.assert_close(one.log_likelihood, other.log_likelihood)


@pytest.mark.parametrize(
    "function",
    [
        lambda story: pc.sample(story, 3),
        pc.modes,
        lambda story: pc.interpolate(story, 0, 1),
        lambda story: pc.impute(story, torch.full((2, 1), math.nan)),
    ],
    ids=["sample", "modes", "interpolate", "impute"],
)
def test_a_broken_story_is_refused_where_no_rows_come_first(function):
    class Loose(Line):
        def model(self, x):
            pyro.sample("cluster", dist.Categorical(torch.ones(2)))
            with self.plate(x):
                pyro.sample("x", dist.Normal(torch.zeros(1), 1.0).to_event(1), obs=x)

    with pytest.raises(pc.ContractError, match="site 'cluster' of the model stands outside the plate"):
        function(Loose())


@pytest.mark.parametrize("name", ["draw", "row", "chain", "feature"])
def test_a_site_with_the_name_of_a_dimension_is_refused_by_arviz_export_only(name):
    class Named(Line):
        def model(self, x):
            with self.plate(x):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(2)))
                pyro.sample(name, dist.Normal(self.loc[k], 1.0).to_event(1), obs=x)

    assert pc.sample(Named(), 3)[name].shape == (3, 1)
    with pytest.raises(ValueError, match=f"site '{name}' has the name of a dimension"):
        pc.to_inference_data(Named(), X, draws=2)
