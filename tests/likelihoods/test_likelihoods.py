"""Likelihoods: log probabilities and draws against scipy, planted parameters found again, wrong data named."""

from __future__ import annotations

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import probclust as pc
from probclust.evaluation.measure import measure_of
from probclust.likelihoods import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Gaussian,
    Laplace,
    LogNormal,
    Mixed,
    Multinomial,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroInflatedNegativeBinomial,
    encoder_inputs,
    likelihood_named,
    n_inputs,
    n_outputs,
    n_view,
    view,
)
from probclust.likelihoods.named import likelihoods_by_name
from probclust.models import MixtureOfVAEs, VaDE


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def softmax(a):
    return np.exp(a) / np.exp(a).sum(-1, keepdims=True)


def continuous_bernoulli(output):
    """Its density is proportional to exp(output * x) on [0, 1]."""
    return stats.truncexpon(b=abs(output), scale=1 / abs(output)) if output < 0 else None


def nbinom(mean, r):
    return stats.nbinom(r, r / (r + mean))


# Each likelihood of one feature, an output vector for it, and scipy's frozen distribution of x.
REFERENCES = [
    (lambda: Gaussian(1, 0.7), [1.3], stats.norm(1.3, 0.7)),
    (lambda: Laplace(1, 0.7), [1.3], stats.laplace(1.3, 0.7)),
    (lambda: StudentT(1, 0.7, degrees=3.5), [1.3], stats.t(3.5, 1.3, 0.7)),
    (lambda: StudentT(1, 0.7, degrees="learned"), [1.3], stats.t(4.0, 1.3, 0.7)),
    (lambda: LogNormal(1, 0.7), [1.3], stats.lognorm(0.7, scale=np.exp(1.3))),
    (lambda: ContinuousBernoulli(1), [-2.0], continuous_bernoulli(-2.0)),
    (lambda: Bernoulli(1), [0.4], stats.bernoulli(sigmoid(0.4))),
    (lambda: Poisson(1), [1.3], stats.poisson(np.exp(1.3))),
    (lambda: NegativeBinomial(1, start=3.0), [1.3], nbinom(np.exp(1.3), 3.0)),
    (lambda: NegativeBinomial(1, 20.0, start=3.0), [1.3], nbinom(20.0, 3.0)),
    (lambda: NegativeBinomial(1, dispersion="row", start=3.0), [1.3, 0.2], nbinom(np.exp(1.3), 3 * np.exp(0.2))),
]
IDS = [f"{type(build()).__name__}-{i}" for i, (build, _, _) in enumerate(REFERENCES)]


@pytest.mark.parametrize(("build", "outputs", "reference"), REFERENCES, ids=IDS)
def test_log_probabilities_and_means_are_scipys(float64, build, outputs, reference):
    fn = build()(torch.tensor(outputs))
    x = reference.rvs(50, random_state=0).astype(float)
    log_prob = getattr(reference, "logpmf", None) or reference.logpdf
    np.testing.assert_allclose(fn.log_prob(torch.as_tensor(x)[:, None]).detach(), log_prob(x), rtol=1e-6)
    assert fn.mean.item() == pytest.approx(reference.mean(), rel=1e-6)


@pytest.mark.parametrize(("build", "outputs", "reference"), REFERENCES, ids=IDS)
def test_draws_are_scipys(float64, build, outputs, reference):
    """20,000 draws; false alarms below 1e-5 each."""
    draws = build()(torch.tensor(outputs)).sample((20_000,)).squeeze(-1).numpy()
    if hasattr(reference, "pdf"):
        assert stats.kstest(draws, reference.cdf).pvalue > 1e-5
        return
    top = int(reference.ppf(0.995))
    found = np.bincount(np.minimum(draws, top + 1).astype(int), minlength=top + 2)
    share = np.append(reference.pmf(np.arange(top + 1)), reference.sf(top))
    keep = share > 0
    assert stats.chisquare(found[keep], 20_000 * share[keep] / share.sum()).pvalue > 1e-5


def test_zero_inflation_adds_zeros(float64):
    fn = ZeroInflatedNegativeBinomial(1, start=3.0)(torch.tensor([1.3, -0.5]))
    base, gate, x = nbinom(np.exp(1.3), 3.0), sigmoid(-0.5), np.arange(200)
    expected = gate * (x == 0) + (1 - gate) * base.pmf(x)
    np.testing.assert_allclose(fn.log_prob(torch.as_tensor(x, dtype=torch.float64)[:, None]).exp().detach(), expected)
    assert fn.mean.item() == pytest.approx((1 - gate) * base.mean())
    zeros = (fn.sample((20_000,)) == 0).double().mean().item()
    assert abs(zeros - expected[0]) < 5 * (expected[0] * (1 - expected[0]) / 20_000) ** 0.5


@pytest.mark.parametrize("dispersion", [0.1, 5.0, 1e4, 1e6])
@pytest.mark.parametrize("depth", [10.0, 1e4, 1e7])
def test_large_counts_keep_their_digits_in_float32(dispersion, depth):
    """Rows within some deviations of their means, and rows of half the mean: to 1e-5, or a thousandth of a nat."""
    rng = np.random.default_rng(0)
    log_mean = torch.tensor(np.log(depth * rng.dirichlet(np.ones(5)))).float()
    mean = np.exp(log_mean.double().numpy())
    x = np.concatenate([rng.poisson(mean, (20, 5)), rng.poisson(mean / 2, (20, 5))]).astype(float)
    rows, total = torch.as_tensor(x).float(), x.sum(1)
    plain = nbinom(mean, dispersion).logpmf(x).sum(1)
    multinomial = Multinomial(5, depth)
    of_total = stats.nbinom(1, 1 / (1 + depth)).logpmf(total)
    cases = [
        (Poisson(5)(log_mean), stats.poisson(mean).logpmf(x).sum(1)),
        (NegativeBinomial(5, start=dispersion)(log_mean), plain),
        (ZeroInflatedNegativeBinomial(5, start=dispersion)(torch.cat([log_mean, torch.full((5,), -90.0)])), plain),
        (multinomial(log_mean), stats.multinomial.logpmf(x, total, mean / mean.sum()) + of_total),
    ]
    for fn, expected in cases:
        np.testing.assert_allclose(fn.log_prob(rows).detach(), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("build", [Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial])
def test_means_are_cut_far_beyond_any_count_and_come_back(build):
    outputs = torch.full((build(1).n_outputs,), 20.0).requires_grad_()
    mean = build(1)(outputs).mean.item()
    assert mean == pytest.approx(np.exp(20.0) * (sigmoid(-20.0) if build is ZeroInflatedNegativeBinomial else 1))
    outputs = torch.full((build(1).n_outputs,), 1e6).requires_grad_()
    build(1)(outputs).log_prob(torch.tensor([3.0])).backward()
    assert torch.isfinite(outputs.grad).all()
    assert outputs.grad[0] < 0


def test_categories_have_heads_of_their_own_width(float64):
    likelihood = Categorical(3, [2, 4, 3])
    outputs = torch.randn(5, 9)
    fn, x = likelihood(outputs), torch.tensor([[1.0, 3.0, 0.0]]).expand(5, 3)
    parts = [part.log_softmax(-1)[:, int(code)] for part, code in zip(outputs.split([2, 4, 3], 1), x[0], strict=True)]
    torch.testing.assert_close(fn.log_prob(x), sum(parts))
    assert likelihood.n_outputs == n_outputs(likelihood, 3) == 9
    assert view(likelihood, x)[0].tolist() == [0, 1, 0, 0, 0, 1, 1, 0, 0]
    draws = likelihood(outputs[0]).sample((20_000,))
    for d, part in enumerate(outputs[0].split([2, 4, 3])):
        share = part.softmax(0).numpy()
        assert stats.chisquare(np.bincount(draws[:, d].int(), minlength=len(share)), 20_000 * share).pvalue > 1e-5


def test_the_multinomial_is_a_probability_of_whole_rows(float64):
    """Given the total it is scipy's; over all rows it sums to 1; draws have both."""
    likelihood, outputs = Multinomial(3, mean_total=4.0), torch.tensor([0.3, -0.4, 0.1])
    fn, shares = likelihood(outputs), softmax(outputs.numpy())
    rows = torch.tensor([r for r in itertools.product(range(40), repeat=3) if sum(r) < 40], dtype=torch.float64)
    log_prob = fn.log_prob(rows).detach()
    total = likelihood.totals()
    expected = stats.multinomial.logpmf(rows.numpy(), rows.sum(1).numpy(), shares)
    torch.testing.assert_close(log_prob, torch.as_tensor(expected) + total.log_prob(rows.sum(1)).detach())
    assert log_prob.exp().sum().item() == pytest.approx(1 - stats.nbinom(1.0, 1 / 5).sf(39), abs=1e-6)
    draws = fn.sample((20_000,))
    given = draws[draws.sum(1) == 4]
    found = np.bincount(given[:, 0].int(), minlength=5)
    assert stats.chisquare(found, len(given) * stats.binom(4, shares[0]).pmf(range(5))).pvalue > 1e-5
    error = draws.std(0) / 20_000**0.5
    assert ((draws.mean(0) - fn.mean).abs() < 5 * error).all()


@pytest.mark.parametrize("build", [NegativeBinomial, ZeroInflatedNegativeBinomial])
def test_counts_given_their_total_bound_a_log_probability(float64, build):
    """p(total) p(x | total) with a total that the counts only have on average: the sum over rows is below 1."""
    likelihood = build(2, size_factor="total")
    outputs = torch.randn(likelihood.n_outputs)
    fn = likelihood(outputs)
    rows = torch.tensor(list(itertools.product(range(60), repeat=2)), dtype=torch.float64)
    assert 0.05 < fn.log_prob(rows).exp().sum().item() < 1
    row = torch.tensor([3.0, 5.0])
    shares = softmax(outputs[:2].numpy())
    if build is ZeroInflatedNegativeBinomial:
        drawn = 1 - sigmoid(outputs[2:].numpy())
        parts = nbinom(8 * shares / (shares * drawn).sum(), 5.0).logpmf(row.numpy()) + np.log(drawn)
    else:
        parts = nbinom(8 * shares, 5.0).logpmf(row.numpy())
    expected = parts.sum() + likelihood.totals().log_prob(torch.tensor(8.0)).item()
    assert fn.log_prob(row).item() == pytest.approx(expected)
    assert torch.isfinite(fn.log_prob(torch.zeros(1, 2))).all()
    draws = fn.sample((50_000,))
    assert ((draws.mean(0) - fn.mean).abs() < 5 * draws.std(0) / 50_000**0.5).all()


def test_blocks_are_their_parts(float64):
    blocks = [([2, 0], Gaussian(2, 0.5)), ([1], Poisson(1)), ([3], Categorical(1, 3))]
    table, outputs = Mixed(blocks), torch.randn(4, 5, 6)
    fn = table(outputs)
    draws = fn.sample()
    parts = zip(blocks, outputs.split([2, 1, 3], -1), strict=True)
    expected = sum(part(own).log_prob(draws[..., columns]) for (columns, part), own in parts)
    torch.testing.assert_close(fn.log_prob(draws), expected)
    torch.testing.assert_close(fn.mean[..., 1], outputs[..., 2].exp())
    torch.testing.assert_close(fn.mean[..., [2, 0]], outputs[..., :2])
    assert torch.equal(fn.typical[..., 3], outputs[..., 3:].argmax(-1).double())
    assert table.view(draws).shape == (4, 5, n_view(table, 4)) == (4, 5, 6)
    assert fn.expand([4, 5]).log_prob(draws).shape == (4, 5)


@pytest.mark.parametrize("blocks", [[([0, 1], "gaussian"), ([1], "poisson")], [([1], "gaussian")], []])
def test_every_column_stands_in_one_block(blocks):
    with pytest.raises(ValueError, match=r"each column 0\.\.D-1 once, got columns"):
        Mixed(blocks)


class Table(pc.Story):
    """Each cluster's outputs are parameters: the least story that a likelihood can stand in."""

    def __init__(self, n_features, n_clusters, likelihood):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.likelihood = likelihood
        self.outputs = torch.nn.Parameter(0.5 * torch.randn(n_clusters, n_outputs(likelihood, n_features)))

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", self.likelihood(self.outputs[k]), obs=x)

    def guide(self, x):
        pass


PLANTED = {
    "gaussian": (lambda: Gaussian(3, "feature", start=0.5), 2.0),
    "gaussian-row": (lambda: Gaussian(3, "row", start=0.5), 1.5),
    "laplace": (lambda: Laplace(3, start=0.5), 2.0),
    "student-t": (lambda: StudentT(3, start=0.5), 2.0),
    "log-normal": (lambda: LogNormal(3, start=0.5), 2.0),
    "bernoulli": (lambda: Bernoulli(12), 3.0),
    "continuous-bernoulli": (lambda: ContinuousBernoulli(12), 6.0),
    "poisson": (lambda: Poisson(3), 2.0),
    "negative-binomial": (lambda: NegativeBinomial(3), 2.0),
    "negative-binomial-total": (lambda: NegativeBinomial(12, "total"), 2.0),
    "zero-inflated": (lambda: ZeroInflatedNegativeBinomial(6), 2.0),
    "multinomial": (lambda: Multinomial(12), 2.0),
    "categorical": (lambda: Categorical(8, [2, 3] * 4), 3.0),
    "mixed": (lambda: Mixed([([0, 1], "gaussian"), ([3], "poisson"), ([2], Categorical(1, 4))]), 2.0),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_parameters_are_found_again(name):
    """1,500 rows of two clusters, from a start about the truth: the means are found within 6 standard errors or 2%."""
    build, spread = PLANTED[name]
    torch.manual_seed(3)
    likelihood = build()
    planted = Table(likelihood.n_features, 2, likelihood)
    with torch.no_grad():
        planted.outputs.copy_(
            spread * torch.randn_like(planted.outputs).sign() * (0.5 + torch.rand_like(planted.outputs) / 2)
        )
        if name in ("gaussian-row", "zero-inflated"):
            planted.outputs[:, likelihood.n_features :] = 0.3
        if name == "mixed":
            planted.outputs[:, 0] = torch.tensor([-1.0, 1.0])
    draws = pc.sample(planted, 1500, seed=0)
    x, y = draws["x"].float(), draws["cluster"]
    assert pc.sample(planted, 3, cluster=1, seed=0)["x"].shape == (3, likelihood.n_features)
    story = Table(likelihood.n_features, 2, build())
    with torch.no_grad():
        story.outputs.copy_(planted.outputs + 0.5 * torch.randn_like(planted.outputs))
    pc.fit(story, x, epochs=100, batch_size=1500, learning_rate=0.05, seed=0, progress=False)
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > pc.metrics.accuracy(y, pc.predict(planted, x)) - 0.02
    with torch.no_grad():
        found, true = (s.likelihood(s.outputs).mean for s in (story, planted))
    error = torch.stack([x[y == k].std(0) / (y == k).sum() ** 0.5 for k in (0, 1)])
    assert ((found - true).abs() < 6 * error + 0.02 * true.abs().clamp(min=0.3)).all()
    if name in ("gaussian", "laplace", "student-t", "log-normal"):
        torch.testing.assert_close(story.likelihood.scale, planted.likelihood.scale, rtol=0.1, atol=0)
    if name == "negative-binomial":
        torch.testing.assert_close(10 * story.likelihood.raw_dispersion, torch.full((3,), 5.0).log(), atol=0.7, rtol=0)
    if name == "multinomial":
        assert story.likelihood.totals().mean.item() == pytest.approx(12.0, rel=0.15)


WRONG = [
    ("poisson", 2.5, "Poisson"),
    ("negative-binomial", -1.0, "NegativeBinomial"),
    ("zero-inflated-negative-binomial", 0.5, "ZeroInflatedNegativeBinomial"),
    ("multinomial", -2.0, "GivenTotal"),
    ("log-normal", -1.0, "LogNormal"),
    ("continuous-bernoulli", 1.5, "ContinuousBernoulli"),
    ("bernoulli", 2.0, "Bernoulli"),
    (Categorical(4, [2, 2, 5, 2]), 5.0, "ColumnCategorical"),
    (Mixed([([3, 0], "gaussian"), ([1, 2], "poisson")]), 1.5, "Poisson"),
]


@pytest.mark.parametrize(("likelihood", "wrong", "name"), WRONG, ids=[w[2] + str(w[1]) for w in WRONG])
@pytest.mark.parametrize("missing", [False, True])
def test_data_outside_the_support_is_named_by_column_and_value(likelihood, wrong, name, missing):
    if missing and likelihood == "multinomial":
        return
    story = VaDE(4, 2, latent_dim=1, hidden=(3,), likelihood=likelihood, missing=missing)
    x = torch.ones(60, 4)
    x[:30] = 0 if likelihood != "log-normal" else 2
    x[50, 2] = wrong
    with pytest.raises(pc.ContractError, match=rf"value {wrong} lies outside the support of {name} .*column 2"):
        pc.fit(story, x, recipe=[pc.SVI(epochs=1)])


@pytest.mark.parametrize("name", likelihoods_by_name())
def test_stories_take_every_name(name, tmp_path):
    torch.manual_seed(0)
    x = torch.randint(0, 2, (30, 4)).float() + (name == "log-normal")
    for build in (VaDE, MixtureOfVAEs):
        story = build(4, 2, latent_dim=2, hidden=(5,), likelihood=name)
        assert torch.isfinite(pc.log_joint(story, x)).all()
        assert pc.sample(story, 3, seed=0)["x"].shape == (3, 4)
        assert torch.isfinite(pc.reconstruct(story, x)).all()
        pc.save(story, tmp_path / "story")
        assert torch.equal(pc.log_joint(pc.load(tmp_path / "story"), x), pc.log_joint(story, x))
    loss = -pc.objectives.Exact().per_row(story.model, story.guide, x)[0]
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in story.parameters() if p.grad is not None)


def test_recipes_take_counts():
    """Rates of order 100: networks see their logarithms."""
    y = torch.arange(600) % 3
    rates = torch.tensor([[300.0, 20, 5, 50], [20, 300, 50, 5], [5, 50, 300, 20]])
    x = torch.poisson(rates[y])
    story = VaDE(4, 3, latent_dim=2, hidden=(32,), likelihood="negative-binomial")
    pc.fit(story, x, seed=0, recipe={"pretrain_epochs": 15, "fit_epochs": 30, "epochs": 1}, progress=False)
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > 0.95
    assert pc.log_likelihood(story, x, particles=10).mean() > -40


def test_columns_of_a_mixed_table_have_measures_of_their_own():
    table = Mixed([([2, 0], "gaussian"), ([1], "poisson")])
    story = VaDE(3, 2, latent_dim=1, hidden=(3,), likelihood=table)
    assert measure_of(story, torch.ones(9, 3)).kinds == ("continuous", "discrete", "continuous")


class Old:
    """A likelihood of the user's with the small interface alone."""

    n_heads = 2

    def __call__(self, outputs):
        loc, raw = outputs.chunk(2, -1)
        return dist.Cauchy(loc, torch.nn.functional.softplus(raw)).to_event(1)


@pytest.mark.parametrize("build", [VaDE, MixtureOfVAEs])
def test_the_users_small_interface_is_enough(build):
    story, x = build(3, 2, latent_dim=1, hidden=(4,), likelihood=Old()), torch.randn(20, 3)
    recipe = [pc.SVI(epochs=2, learning_rate=1e-3)]
    pc.fit(story, x, recipe=recipe, progress=False)
    assert torch.isfinite(pc.log_joint(story, x)).all()
    assert pc.sample(story, 4, seed=0)["x"].shape == (4, 3)
    assert n_outputs(Old(), 3) == 6
    assert n_inputs(Old(), 3) == n_view(Old(), 3) == 3
    assert encoder_inputs(Old(), x) is x


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Gaussian(3, "column"), "scale must be 'feature', 'shared', 'row' or a positive number, got 'column'"),
        (lambda: Laplace(3, -1.0), "scale must be positive"),
        (lambda: Laplace(3, floor=0.5, start=0.1), "0 <= floor < start"),
        (lambda: StudentT(3, degrees=1.0), "degrees must be above 1 or 'learned', got 1.0"),
        (lambda: StudentT(3, degrees="many"), "degrees must be above 1 or 'learned'"),
        (lambda: NegativeBinomial(3, "rows"), "size_factor must be None, 'total' or a positive number, got 'rows'"),
        (lambda: NegativeBinomial(3, np.ones(3)), r"None, 'total' or a positive number, got an array of shape \(3,\)"),
        (lambda: NegativeBinomial(3, torch.ones(3, 2)), r"got an array of shape \(3, 2\)"),
        (lambda: NegativeBinomial(3, np.nan), "size_factor must be None, 'total' or a positive number, got nan"),
        (lambda: NegativeBinomial(3, True), "size_factor must be None, 'total' or a positive number, got True"),
        (lambda: NegativeBinomial(3, start=np.inf), "start must be positive, got inf"),
        (lambda: Multinomial(3, 0), "mean_total must be positive, got 0"),
        (lambda: NegativeBinomial(3, dispersion="all"), "dispersion must be"),
        (lambda: NegativeBinomial(3, start=0.0), "start must be positive"),
        (lambda: Categorical(2, [3]), "one entry per column, n_features=2, got 1"),
        (lambda: Categorical(2, [3, 1]), "n_categories must be at least 2, got 1"),
        (lambda: likelihood_named("normal", 3), r"one of \['bernoulli', .*'student-t'"),
    ],
)
def test_wrong_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
