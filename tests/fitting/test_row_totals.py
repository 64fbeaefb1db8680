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
from probclust.models import DAMIC, DCN, GMVAE, MixtureOfVAEs, VaDE

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


def test_what_is_missing_has_the_total_that_the_rest_tells(float64):
    """Multinomial: the negative multinomial's closed form. Negative binomial: a sum over all totals."""
    outputs = torch.tensor([0.3, -0.4, 0.1, 1.0])
    shares, row = outputs.softmax(0), torch.tensor([500.0, 700, torch.nan, 2100])
    seen = ~row.isnan()
    totals = torch.tensor([2000.0, 4000, 6000, 10_000, 3000])
    words, counts = Multinomial(4), NegativeBinomial(4, "total", start=2.0)
    for part in (words, counts):
        part.totals.learn(totals)
    mean, r = words.totals().mean, words.totals().total_count
    known, shown = shares[seen].sum(), row[seen].sum()
    fn = words(outputs).incomplete()
    expected = stats.nbinom(r.item(), (r / (r + mean * known)).item()).logpmf(shown.item())
    expected += stats.multinomial.logpmf(row[seen].numpy(), shown.item(), (shares[seen] / known).numpy())
    assert fn.log_prob(row).item() == pytest.approx(expected, abs=1e-6)
    size = (r + shown) / (r / mean + known)
    torch.testing.assert_close(fn.impute(row, draw=False)[2], size * shares[2], rtol=1e-6, atol=0)
    draws = fn.impute(row.expand(20_000, 4))
    assert torch.equal(draws[:, seen], row[seen].expand(20_000, 3))
    variance = size * shares[2] + (size * shares[2]) ** 2 / (r + shown)
    assert abs(draws[:, 2].mean() - size * shares[2]) < 5 * (variance / 20_000) ** 0.5
    assert draws[:, 2].var().item() == pytest.approx(variance.item(), rel=0.05)
    fn = counts(outputs).incomplete()
    total = torch.arange(1.0, 100_000)
    log_joint = counts.totals().log_prob(total)
    for d in (0, 1, 3):
        log_joint = log_joint + torch.as_tensor(stats.nbinom(2, 2 / (2 + total * shares[d])).logpmf(row[d].item()))
    assert fn.log_prob(row).item() == pytest.approx(log_joint.logsumexp(0).item(), abs=1e-3)
    expected = (log_joint.softmax(0) * total).sum() * shares[2]
    assert fn.impute(row, draw=False)[2].item() == pytest.approx(expected.item(), rel=1e-3)
    complete, nothing = torch.tensor([5.0, 7, 2, 9]), torch.full((4,), torch.nan)
    torch.testing.assert_close(fn.log_prob(complete), counts(outputs).log_prob(complete))
    torch.testing.assert_close(fn.impute(nothing, draw=False), mean * shares, rtol=1e-3, atol=0)
    assert fn.log_prob(nothing).item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", [*BUILDS, "mixed"])
def test_imputed_rows_are_as_deep_as_what_is_known_of_them(name):
    """Half of each row hidden: what is drawn is within a third of what was, on average over rows ten times as deep."""
    x, _ = counts_of_depth(1e4)
    part = Mixed([(range(30), BUILDS["negative-binomial"](30))]) if name == "mixed" else BUILDS[name](30)
    story = Plain(30, 2, part)
    pc.fit(story, x, recipe=[pc.SVI(epochs=150, learning_rate=0.05)], progress=False)
    shown = x.clone()
    shown[:, ::2] = torch.nan
    found = pc.impute(story, shown, draws=30).mean[:, ::2].sum(1)
    ratio = found / x[:, ::2].sum(1)
    deep = x.sum(1) > x.sum(1).median()
    for rows in (deep, ~deep):
        assert 0.75 < ratio[rows].median() < 1.33


def test_paths_lead_from_one_total_to_the_other():
    x, _ = counts_of_depth(1e4)
    story = Plain(30, 2, BUILDS["negative-binomial"](30))
    pc.fit(story, x, recipe=[pc.SVI(epochs=1)], progress=False)
    path = pc.interpolate(story, x[0], x[1], n=3)
    torch.testing.assert_close(path[[0, 2]], pc.reconstruct(story, x[:2]), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(path[1].sum(), x[:2].sum(1).mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(pc.interpolate(story, 1, x[0], n=2)[0], pc.modes(story)[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("build", [VaDE, MixtureOfVAEs, GMVAE, DCN, DAMIC])
@pytest.mark.parametrize("known", [False, True])
def test_starts_and_clusters_are_of_types_and_not_of_depth(build, known):
    """Two types, their depths far apart within each: every recipe's start finds the types, and its fit keeps them."""
    x, y = counts_of_depth(1e4, n_rows=160)
    x[::4], x[1::4] = (x[::4] / 20).round(), (x[1::4] / 20).round()
    sizes = {"gate_hidden": (16,)} if build is DAMIC else {"latent_dim": 5}
    story = build(30, 2, hidden=(16,), likelihood=Multinomial(30), **sizes)
    labels = np.where(np.arange(160) < 20, y, -1) if known else None
    record = pc.fit(story, x, labels, seed=0, recipe={"pretrain_epochs": 20, "epochs": 1}, progress=False)
    assert pc.metrics.accuracy(y, record.memory["start"]) > 0.95
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > 0.95


def test_a_hand_written_loop_learns_the_totals_too():
    """Before `pc.fit`, they are parameters like others: Pyro's SVI with our objective moves their mean to the rows'."""
    x, _ = counts_of_depth(300.0)
    story = Plain(30, 2, Multinomial(30))
    svi = pyro.infer.SVI(
        story.model, story.guide, pyro.optim.Adam({"lr": 0.02}), loss=pc.objectives.Exact(n_rows=len(x))
    )
    for _ in range(100):
        svi.step(x)
    assert story.part.totals().mean.item() == pytest.approx(x.sum(1).mean().item(), rel=0.1)


@pytest.mark.parametrize("name", BUILDS)
def test_recorded_graphs_give_what_eager_steps_give(name):
    x, _ = counts_of_depth(1e3, n_rows=60, n_features=8)
    found = []
    for engine in ("eager", "staged"):
        torch.manual_seed(0)
        story = VaDE(8, 2, 2, hidden=(8,), likelihood=BUILDS[name](8))
        pc.fit(story, x, recipe=[pc.SVI(epochs=2)], batch_size=20, engine=engine, progress=False)
        found.append(story.state_dict())
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-5, atol=1e-6)
