"""Entries that were not observed: marginals against scipy and brute force, imputation, and every door."""

from __future__ import annotations

import warnings

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from sklearn.datasets import make_spd_matrix

import probclust as pc
from probclust.distributions.base import typical
from probclust.distributions.diagonal_normal import DiagonalNormal
from probclust.distributions.observed import ObservedFeatures, ObservedNormal, filled, observed
from probclust.likelihoods import Categorical, Gaussian, Missing, Mixed, Multinomial, NegativeBinomial
from probclust.models import GaussianMixture, MixtureOfVAEs, VaDE
from probclust.starts.labels import neighbour_filled

NAN = float("nan")


def with_holes(x, share=0.3, seed=0):
    missing = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < share
    return x.masked_fill(missing, NAN), missing


def test_features_count_where_they_are_observed(float64):
    loc, scale, x = torch.randn(2, 5, 3), torch.rand(3) + 0.5, torch.randn(5, 3)
    shown, missing = with_holes(x)
    expected = torch.where(missing, 0.0, dist.Normal(loc, scale).log_prob(x)).sum(-1)
    for fn in (DiagonalNormal(loc, scale), dist.Normal(loc, scale).to_event(1)):
        torch.testing.assert_close(observed(fn).log_prob(shown), expected)
        torch.testing.assert_close(observed(fn).log_prob(x), fn.log_prob(x))
    assert observed(fn).log_prob(torch.full((5, 3), NAN)).eq(0).all()


@pytest.fixture
def normal(float64):
    covariance = torch.as_tensor(make_spd_matrix(4, random_state=0))
    return dist.MultivariateNormal(torch.randn(4), covariance)


def test_the_marginal_of_a_multivariate_normal_is_scipys(normal):
    shown, missing = with_holes(normal.sample((6,)), 0.4)
    fn = observed(normal)
    for row, gone, value in zip(shown, missing, fn.log_prob(shown), strict=True):
        seen = (~gone).numpy()
        if not seen.any():
            assert value == 0
            continue
        marginal = stats.multivariate_normal(
            normal.loc.numpy()[seen], normal.covariance_matrix.numpy()[np.ix_(seen, seen)]
        )
        assert value.item() == pytest.approx(marginal.logpdf(row.numpy()[seen]))
    small = type("Small", (ObservedNormal,), {"max_elements": 40})(normal.loc, normal.scale_tril)
    torch.testing.assert_close(small.log_prob(shown), fn.log_prob(shown))  # a few rows at a time
    assert small.impute(shown).shape == shown.shape


def test_a_multivariate_normal_draws_what_is_missing_given_the_rest(normal):
    """Mean and covariance of 200,000 draws against the closed form; 5 standard errors, false alarms under 1e-5."""
    row, n = torch.tensor([0.5, NAN, -1.0, NAN]), 200_000
    seen, gone = [0, 2], [1, 3]
    s = normal.covariance_matrix
    gain = s[gone][:, seen] @ torch.linalg.inv(s[seen][:, seen])
    mean = normal.loc[gone] + gain @ (row[seen] - normal.loc[seen])
    covariance = s[gone][:, gone] - gain @ s[seen][:, gone]
    torch.testing.assert_close(observed(normal).impute(row[None], draw=False)[0, gone], mean)
    draws = observed(normal).impute(row.expand(n, 4))
    assert torch.equal(draws[:, seen], row[seen].expand(n, 2))
    error = (covariance.diagonal() / n).sqrt()
    assert ((draws[:, gone].mean(0) - mean).abs() < 5 * error).all()
    torch.testing.assert_close(draws[:, gone].T.cov(), covariance, rtol=0.03, atol=0.01)


def test_features_are_drawn_or_set_to_their_mean():
    fn = observed(dist.Poisson(torch.tensor([4.0, 50.0])).to_event(1))
    x = torch.tensor([[1.0, NAN]]).expand(5000, 2)
    draws = fn.impute(x)
    assert (draws[:, 0] == 1).all()
    assert abs(draws[:, 1].mean() - 50) < 5 * (50 / 5000) ** 0.5
    assert fn.impute(x, draw=False)[0].tolist() == [1, 50]


def test_no_gradient_is_nan():
    loc = torch.zeros(3, requires_grad=True)
    factor = torch.eye(3).requires_grad_()
    x = torch.tensor([[1.0, NAN, 2.0], [NAN, NAN, NAN]])
    for fn in (DiagonalNormal(loc, torch.ones(1)), dist.MultivariateNormal(loc, scale_tril=factor)):
        observed(fn).log_prob(x).sum().backward()
    assert loc.grad.tolist() == [2, 0, 4]
    assert torch.isfinite(factor.grad).all()


def test_what_has_no_known_marginal_is_refused():
    with pytest.raises(ValueError, match=r"Dirichlet does not allow missing entries.*Impute x first"):
        observed(dist.Dirichlet(torch.ones(3)))
    for likelihood in (Multinomial(4), NegativeBinomial(4, size_factor="total")):
        with pytest.raises(ValueError, match="does not allow missing entries"):
            VaDE(4, 2, hidden=(3,), likelihood=likelihood, missing=True)


def test_fillings():
    x = torch.tensor([[1.0, NAN], [3.0, 4.0]])
    assert neighbour_filled(x).tolist() == [[1, 4], [3, 4]]
    near = torch.tensor([[0.0, NAN], [0.1, 5.0], [9.0, 1.0]])
    assert neighbour_filled(near, n_neighbours=1)[0].tolist() == [0, 5]
    assert filled(x, torch.tensor([7.0, 8.0])).tolist() == [[1, 8], [3, 4]]
    with pytest.raises(ValueError, match="column 1 of x has no observed entry"):
        neighbour_filled(torch.tensor([[1.0, NAN]]))


def test_expanded_distributions_are_the_same():
    x = torch.tensor([[1.0, NAN], [NAN, 2.0], [0.0, 0.0]])
    for fn in (dist.Normal(torch.zeros(2), 1.0).to_event(1), dist.MultivariateNormal(torch.zeros(2), torch.eye(2))):
        fn = observed(fn)
        wide = fn.expand([3])
        assert wide.batch_shape == (3,)
        assert wide.sample((2,)).shape == (2, 3, 2)
        assert torch.equal(wide.log_prob(x), fn.log_prob(x))
        assert wide.mean.shape == typical(wide).shape == (3, 2)
    assert isinstance(observed(dist.Normal(torch.zeros(2), 1.0).to_event(1)), ObservedFeatures)


def blobs(n=240, d=12, seed=0):
    """Three clusters, each a short line in space: there is more to a row than its cluster's mean."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    centres, lines = (torch.randn(3, d, generator=generator) for _ in range(2))
    place = torch.rand(n, 1, generator=generator) - 0.5
    return centres[y] + place * lines[y] + 0.05 * torch.randn(n, d, generator=generator), y


STORIES = {
    "vade": lambda **more: VaDE(12, 3, 2, hidden=(64,), **more),
    "mixture-of-vaes": lambda **more: MixtureOfVAEs(12, 3, 2, hidden=(32,), **more),
    "gmm": lambda **more: GaussianMixture(12, 3, "diag", 1e-3, **more),
    "gmm-full": lambda **more: GaussianMixture(12, 3, "full", 1e-3, **more),
}
RECIPES = {
    "vade": {"pretrain_epochs": 10, "fit_epochs": 60, "epochs": 2},
    "mixture-of-vaes": {"pretrain_epochs": 3, "fit_epochs": 100, "epochs": 2},
}


@pytest.fixture(scope="module", params=STORIES)
def fitted(request):
    torch.manual_seed(0)
    x, y = blobs()
    shown, missing = with_holes(x)
    story = STORIES[request.param](missing=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pc.FitWarning)
        pc.fit(story, shown, seed=0, recipe=RECIPES.get(request.param), progress=False)
    return request.param, story, x, shown, missing, y


def test_clusters_are_found_though_a_third_is_missing(fitted):
    _, story, _, shown, _, y = fitted
    assert pc.metrics.accuracy(y, pc.predict(story, shown)) > 0.95


def test_imputation_beats_the_cluster_mean(fitted):
    name, story, x, shown, missing, y = fitted
    means = torch.stack([shown[y == k].nanmean(0) for k in range(3)])[y]
    guesses = pc.reconstruct(story, shown), means, shown.nanmean(0)
    error, of_means, of_columns = ((guess - x)[missing].square().mean() for guess in guesses)
    assert error < 0.3 * of_columns
    if name != "vade":  # which needs more training than a test has: see benchmarks/missing.py
        assert error < (1.01 if name.startswith("gmm") else 0.7) * of_means  # reconstructions of a GMM are its means


@pytest.mark.filterwarnings("ignore::UserWarning")  # ArviZ's own
def test_every_function_takes_missing_entries(fitted, tmp_path):
    _, story, _, shown, _, y = fitted
    assert torch.isfinite(pc.log_joint(story, shown)).all()
    assert torch.isfinite(pc.log_joint(story, shown, particles=2)).all()
    assert (
        pc.elbo(story, shown, particles=5).mean() <= pc.log_likelihood(story, shown, particles=50).mean() + 1e-4
    ).all()
    table = pc.compare({"one": story, "same": story}, shown, y, particles=2)
    assert np.isfinite(table["log_likelihood"]).all()
    assert pc.sample_posterior(story, shown, seed=0)["cluster"].shape == (1, 240)
    assert torch.isfinite(pc.embed(story, shown)).all()
    assert torch.isfinite(pc.sample(story, 7, seed=0)["x"]).all()
    data = pc.to_inference_data(story, shown[:5], draws=2)
    assert np.isfinite(data.posterior_predictive["x"]).all()
    imputed = pc.impute(story, shown[:6], draws=10, particles=10).x
    assert torch.isfinite(imputed).all()
    assert torch.equal(imputed[3][~shown[:6].isnan()], shown[:6][~shown[:6].isnan()])
    pc.save(story, tmp_path / "story")
    assert torch.equal(pc.log_joint(pc.load(tmp_path / "story"), shown), pc.log_joint(story, shown))
    nothing = torch.full((1, 12), NAN)
    if isinstance(story, GaussianMixture):
        assert pc.log_likelihood(story, nothing).item() == pytest.approx(0, abs=1e-5)  # the probability of no news


@pytest.mark.parametrize("build", STORIES.values(), ids=STORIES)
def test_without_permission_nan_is_refused(build):
    x, _ = blobs(20)
    x[3, 1] = NAN
    for use in (pc.fit, pc.predict, pc.elbo, pc.log_likelihood):
        with pytest.raises(ValueError, match=r"NaN, first in row 3, column 1: .* story with missing=True"):
            use(build(), x)
    x[3, 1] = torch.inf
    with pytest.raises(ValueError, match="infinity, first in row 3, column 1"):
        pc.predict(build(missing=True), x)


def test_complete_rows_score_as_without_permission():
    x, _ = blobs(20)
    plain, permitted = GaussianMixture(12, 3), GaussianMixture(12, 3, missing=True)
    permitted.load_state_dict(plain.state_dict())
    torch.testing.assert_close(pc.log_joint(permitted, x), pc.log_joint(plain, x))


def test_encoders_see_zeros_and_the_mask():
    seen = []
    story = VaDE(2, 2, 1, hidden=(3,), missing=True)
    story.codec.encoder.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    story.guide(torch.tensor([[0.5, NAN], [NAN, NAN]]))
    assert seen[0].tolist() == [[0.5, 0, 1, 0], [0, 0, 0, 0]]


def test_planted_parameters_are_recovered_from_what_is_left():
    """1,000 rows, a third missing: an estimate's standard error is about 0.03; fails for means of filled columns."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(1000) % 2
    loc = torch.tensor([[0.0, 0.0, 2.0], [2.0, -1.0, 0.0]])
    factor = torch.tensor([[0.5, 0.0, 0.0], [0.4, 0.3, 0.0], [0.0, 0.0, 0.4]])
    x = loc[y] + torch.randn(1000, 3, generator=generator) @ factor.T
    story = GaussianMixture(3, 2, missing=True)
    pc.fit(story, with_holes(x)[0], seed=0, batch_size=500, progress=False)
    order = story.loc[:, 0].argsort()
    torch.testing.assert_close(story.loc[order], loc, atol=0.15, rtol=0)
    fn = dist.MultivariateNormal(story.loc, scale_tril=(story.lower.tril(-1) + torch.diag_embed(story.scale)))
    torch.testing.assert_close(fn.covariance_matrix, (factor @ factor.T).expand(2, 3, 3), atol=0.05, rtol=0)


def test_tables_of_mixed_columns_may_have_holes():
    table = Mixed([([0, 3], "gaussian"), ([1], "bernoulli"), ([2], Categorical(1, 4))])
    story = VaDE(4, 2, 1, hidden=(5,), likelihood=table, missing=True)
    x = torch.tensor([[0.5, 1.0, 3.0, NAN], [NAN, NAN, NAN, 1.0], [1.0, 0.0, NAN, 2.0]])
    assert torch.isfinite(pc.log_joint(story, x)).all()
    assert torch.isfinite(pc.reconstruct(story, x)).all()
    x[0, 2] = 4
    with pytest.raises(pc.ContractError, match=r"observed value 4.0 .* of ColumnCategorical .* column 2"):
        pc.fit(story, x, recipe=[pc.SVI(epochs=1)])


def test_the_users_likelihood_may_be_wrapped():
    class Plain:
        n_heads = 1

        def __call__(self, outputs):
            return dist.Normal(outputs, 1.0).to_event(1)

    story = VaDE(3, 2, 1, hidden=(4,), likelihood=Missing(Plain(), 3), missing=True)
    assert torch.isfinite(pc.log_joint(story, torch.tensor([[0.5, NAN, 1.0]] * 4))).all()
    assert isinstance(VaDE(3, 2, 1, hidden=(4,), likelihood=Missing(Gaussian(3), 3)).codec.likelihood.base, Gaussian)


def test_the_estimator_takes_missing_entries():
    x, y = blobs()
    shown = with_holes(x)[0].numpy()
    with pytest.raises(ValueError, match="contains NaN"):
        pc.DeepMixture("gmm", 3).fit(shown)
    mixture = pc.DeepMixture(
        "gmm", 3, story_arguments={"missing": True, "covariance_type": "diag", "reg_covar": 1e-3}, random_state=0
    )
    assert pc.metrics.accuracy(y, mixture.fit_predict(shown)) > 0.97
    assert np.isfinite(mixture.score_samples(shown)).all()
    assert mixture.__sklearn_tags__().input_tags.allow_nan
