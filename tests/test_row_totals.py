"""Counts given their total: totals learnt by every fit, the row's own in reconstructions, none in what networks see."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import optimize, stats

import probclust as pc
from probclust.likelihoods import (
    Mixed,
    Multinomial,
    NegativeBinomial,
    ZeroInflatedNegativeBinomial,
    n_outputs,
)
from probclust.likelihoods.totals import Totals

pytestmark = pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")  # one epoch settles no clusters

BUILDS = {
    "multinomial": Multinomial,
    "negative-binomial": lambda d: NegativeBinomial(d, size_factor="total"),
    "zero-inflated": lambda d: ZeroInflatedNegativeBinomial(d, size_factor="total"),
}


def counts_of_depth(depth, n_rows=200, n_features=30, seed=0):
    """Two types of rows, of totals that vary about `depth` by a factor of two, whatever the type."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_rows) % 2
    shares = rng.dirichlet(np.full(n_features, 0.5), 2)
    size = depth * rng.lognormal(0, 0.7, n_rows)
    return torch.as_tensor(rng.poisson(shares[y] * size[:, None]), dtype=torch.float32), y


class Plain(pc.Story):
    """A stranger's story: a part of its own attribute, no recipe, one set of outputs for each cluster."""

    def __init__(self, n_features, n_clusters, part):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.part = part
        self.outputs = torch.nn.Parameter(torch.randn(n_clusters, n_outputs(part, n_features)) / 3)

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", self.part(self.outputs[k]), obs=x)

    def guide(self, x):
        pass


@pytest.mark.parametrize("depth", [1e3, 1e6])
@pytest.mark.parametrize("name", BUILDS)
def test_any_fit_learns_the_totals_of_all_rows(name, depth, tmp_path):
    """The mean of 4,000 drawn totals is that of the rows' within 5 of its errors; a saved story keeps it."""
    x, _ = counts_of_depth(depth)
    story = Plain(30, 2, BUILDS[name](30))
    pc.fit(story, x, recipe=[pc.SVI(epochs=1)], batch_size=64, n_init=2, progress=False)
    pc.save(story, tmp_path / "story")
    for one in (story, pc.load(tmp_path / "story", Plain)):
        found = pc.sample(one, 4000, seed=0)["x"].sum(1)
        assert abs(found.mean() - x.sum(1).mean()) < 5 * found.std() / 4000**0.5
        assert found.std() > 0.3 * x.sum(1).std()


@pytest.mark.parametrize("totals", [stats.nbinom(2.0, 0.01), stats.poisson(300.0), stats.nbinom(0.3, 0.2)])
def test_the_totals_learnt_are_the_likeliest(totals):
    x = totals.rvs(500, random_state=1).astype(float)

    def loss(log_r):
        r = np.exp(log_r)
        return -stats.nbinom(r, r / (r + x.mean())).logpmf(x).mean()

    best = optimize.minimize_scalar(loss, bounds=(-5, 12), method="bounded").fun
    part = Totals(3.0)
    part.learn(torch.as_tensor(x))
    fn = part()
    assert -fn.log_prob(torch.as_tensor(x)).mean().item() <= best + 2e-5
    assert fn.mean.item() == pytest.approx(x.mean(), rel=1e-5)


def test_totals_that_do_not_vary_are_poissons():
    part = Totals(3.0)
    part.learn(torch.full((9,), 50.0))
    assert part().variance.item() == pytest.approx(50, rel=1e-4)


def test_a_further_fit_learns_the_totals_of_its_rows_and_frozen_ones_stay():
    story = Plain(30, 2, Multinomial(30))
    for depth in (1e3, 1e5):
        x, _ = counts_of_depth(depth)
        pc.fit(story, x, recipe=[pc.SVI(epochs=1)], progress=False)
        assert story.part.totals().mean.item() == pytest.approx(x.sum(1).mean().item(), rel=1e-4)
    story = Plain(30, 2, Multinomial(30, mean_total=7.0))
    story.part.requires_grad_(False)
    pc.fit(story, x, recipe=[pc.SVI(epochs=1)], progress=False)
    assert story.part.totals().mean.item() == pytest.approx(7.0)


def test_a_block_of_counts_learns_its_own_totals():
    counts, _ = counts_of_depth(1e4)
    x = torch.cat([torch.randn(200, 1), counts], 1)
    table = Mixed([([0], "gaussian"), (range(1, 31), NegativeBinomial(30, size_factor="total"))])
    story = Plain(31, 2, table)
    pc.fit(story, x, recipe=[pc.SVI(epochs=1)], progress=False)
    assert table.parts[1].totals().mean.item() == pytest.approx(counts.sum(1).mean().item(), rel=1e-4)
    torch.testing.assert_close(pc.reconstruct(story, x)[:, 1:].sum(1), counts.sum(1), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", BUILDS)
def test_reconstructions_have_the_rows_own_totals(name):
    x, _ = counts_of_depth(1e4)
    x[3] = 0
    story = Plain(30, 2, BUILDS[name](30))
    pc.fit(story, x, recipe=[pc.SVI(epochs=1)], progress=False)
    torch.testing.assert_close(pc.reconstruct(story, x).sum(1), x.sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pc.modes(story).sum(1), x.sum(1).mean().expand(2), rtol=1e-4, atol=0)
    assert torch.isfinite(pc.log_likelihood(story, x)).all()


@pytest.mark.parametrize("name", BUILDS)
def test_networks_and_starts_see_no_depth(name):
    """Rows ten times as deep look the same, and a row of nothing has a view."""
    part, (x, _) = BUILDS[name](30), counts_of_depth(1e3)
    torch.testing.assert_close(part.view(10 * x), part.view(x))
    assert torch.equal(part.view(torch.zeros(2, 30)), torch.zeros(2, 30))
    part.totals.learn(x.sum(1))
    scaled = part.view(x).expm1()
    torch.testing.assert_close(scaled.sum(1), x.sum(1).mean().expand(200), rtol=1e-3, atol=0)


def test_probabilities_that_fall_short_of_one_are_ranked_among_their_like():
    """Given a total that they have on average only, counts have less of it than those that are of no total."""
    x, _ = counts_of_depth(100.0)
    parts = {
        "total": NegativeBinomial(30, "total"),
        "shared": NegativeBinomial(30, "total", dispersion="shared"),
        "plain": NegativeBinomial(30),
    }
    with pytest.warns(pc.ComparisonWarning, match="'plain' is not ranked: its density is discrete, that of the others"):
        table = pc.compare({name: Plain(30, 2, part) for name, part in parts.items()}, x)
    assert table["difference"].isna().to_dict() == {"total": False, "shared": False, "plain": True}
    with pytest.warns(pc.ComparisonWarning, match="'total' is not ranked: its density is discrete given the total"):
        pc.compare({name: Plain(30, 2, parts[name]) for name in ("plain", "total")}, x)
