from __future__ import annotations

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import probclust as pc
from tests.support.stories import CASES, LATENT, Bayesian, Poissons

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz as az

GROUPS = {"posterior", "posterior_predictive", "predictions", "log_likelihood", "sample_stats", "observed_data"}


def case_named(name):
    return next(case for case in CASES if case.name == name)


def loo(data):
    with warnings.catch_warnings():  # equal draws have no tail, of which ArviZ warns
        warnings.filterwarnings("ignore", "Estimated shape parameter", UserWarning)
        return az.loo(data, pointwise=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_story_gives_every_group_with_its_dims(case):
    story, x = case.build(), case.rows()
    data = pc.to_inference_data(story, x, draws=5, particles=3)
    assert set(data.groups()) == GROUPS
    assert data.posterior["cluster"].dims == ("chain", "draw", "row")
    assert data.posterior["cluster"].shape == (1, 5, len(x))
    assert ("z" in data.posterior) == (case.name in LATENT)
    assert set(data.posterior_predictive) == set(case.observed) == set(data.observed_data)
    for name in case.observed:
        assert data.posterior_predictive[name].shape == (1, 5, *data.observed_data[name].shape)
        assert data.predictions[name].dims[:3] == ("chain", "draw", "component")
        assert data.predictions[name].shape == (1, 5, 3, *data.observed_data[name].shape[1:])
    seen = np.concatenate([data.observed_data[name].values for name in case.observed], 1)
    np.testing.assert_array_equal(seen, x.numpy())
    likelihood = data.log_likelihood[case.observed[0] if len(case.observed) == 1 else "x"]
    assert likelihood.dims == ("chain", "draw", "row")
    assert (data.sample_stats["entropy"].values >= 0).all()
    assert data.attrs["story"] == type(story).__name__


@pytest.mark.parametrize("name", ["poissons", "von-mises", "mixed", "bayesian-map", "factor-analysers"])
def test_under_points_loo_is_the_plug_in_log_likelihood(name):
    story, x = case_named(name).build(), case_named(name).rows()
    expected = pc.log_likelihood(story, x).double()
    result = loo(pc.to_inference_data(story, x, draws=30))
    np.testing.assert_allclose(result.loo_i.values, expected.numpy(), rtol=1e-9)
    assert result.p_loo == pytest.approx(0, abs=1e-6)


def test_under_a_distribution_of_globals_each_draw_has_its_own_log_likelihood():
    story, x = Bayesian(4, 3, global_guide="normal"), case_named("bayesian-normal").rows()
    data = pc.to_inference_data(story, x, draws=40)
    weights, loc, precision = (torch.as_tensor(data.posterior[n].values[0]) for n in ("weights", "loc", "precision"))
    rows = x[:, None]  # by hand: (draws, rows, clusters)
    density = torch.distributions.Normal(loc[:, None], precision[:, None].rsqrt()).log_prob(rows).sum(-1)
    expected = (density + weights[:, None].log()).logsumexp(-1)
    np.testing.assert_allclose(data.log_likelihood["x"].values[0], expected.numpy(), rtol=1e-4)
    assert loo(data).p_loo > 0


def test_globals_carry_the_names_of_the_components():
    data = pc.to_inference_data(Bayesian(4, 3), case_named("bayesian-map").rows(), draws=2)
    assert data.posterior["weights"].dims == ("chain", "draw", "component")
    assert data.posterior["loc"].dims == ("chain", "draw", "component", "loc_dim_1")


def test_clusters_come_at_the_rates_of_the_responsibilities():
    story, x = Poissons(4, 3), case_named("poissons").rows()
    clusters = pc.to_inference_data(story, x, draws=1000).posterior["cluster"].values[0]
    rates = np.stack([(clusters == k).mean(0) for k in range(3)], 1)
    # 33 shares of 1,000 draws: a standard error of at most 0.016, five of them
    np.testing.assert_allclose(rates, pc.responsibilities(story, x).numpy(), atol=0.08)


def test_replicates_follow_the_cluster_drawn_with_them():
    story = pc.models.GaussianMixture(2, 2, covariance_type="spherical")
    with torch.no_grad():
        story.loc.copy_(torch.tensor([[-50.0, -50.0], [50.0, 50.0]]))
    data = pc.to_inference_data(story, torch.tensor([[-50.0, -50.0], [50.0, 50.0]] * 3), draws=10)
    clusters, replicates = data.posterior["cluster"].values, data.posterior_predictive["x"].values
    np.testing.assert_array_equal(replicates.mean(-1) > 0, clusters == 1)


def test_columns_of_a_frame_name_the_features():
    x = pd.DataFrame(case_named("mixed").rows().numpy(), columns=list("abcde"))
    data = pc.to_inference_data(case_named("mixed").build(), x, draws=2)
    assert data.observed_data["answers"].coords["answers_feature"].values.tolist() == ["a", "b", "c"]
    assert data.observed_data["measures"].coords["measures_feature"].values.tolist() == ["d", "e"]
    frame = pd.DataFrame(torch.randn(6, 2).numpy(), columns=["width", "height"])
    data = pc.to_inference_data(pc.models.GaussianMixture(2, 2), frame, draws=2)
    assert data.observed_data["x"].coords["feature"].values.tolist() == ["width", "height"]


def test_one_seed_gives_one_result_and_leaves_the_random_state_alone():
    story, x = case_named("factor-analysers").build(), case_named("factor-analysers").rows()
    before = torch.get_rng_state()
    one, two, other = (pc.to_inference_data(story, x, draws=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert one.posterior.equals(two.posterior)
    assert not one.posterior.equals(other.posterior)


def test_chunks_of_rows_are_put_together(monkeypatch):
    story, x = case_named("mixed").build(), case_named("mixed").rows(50)
    whole = pc.to_inference_data(story, x, draws=3)
    monkeypatch.setattr("probclust.story.chunks.CHUNK_ELEMENTS", 7 * 3 * 64)
    parts = pc.to_inference_data(story, x, draws=3)
    assert parts.observed_data.equals(whole.observed_data)
    np.testing.assert_allclose(parts.log_likelihood["x"].values, whole.log_likelihood["x"].values, rtol=1e-5)
    np.testing.assert_allclose(parts.sample_stats["entropy"].values, whole.sample_stats["entropy"].values, atol=1e-5)


def test_what_is_no_density_has_no_log_likelihood():
    story = pc.models.VaDE(4, 2, latent_dim=2, hidden=(3,), likelihood="bernoulli")
    assert set(pc.to_inference_data(story, torch.rand(6, 4), draws=2).groups()) == GROUPS - {"log_likelihood"}


def test_arviz_compares_stories_by_what_it_gets():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(40, 2) - 4, torch.randn(40, 2) + 4])
    stories = {str(k): pc.models.GaussianMixture(2, k) for k in (1, 2)}
    data = {}
    for name, story in stories.items():
        pc.fit(story, x, epochs=2, progress=False)
        data[name] = pc.to_inference_data(story, x, draws=20)
    with warnings.catch_warnings():  # equal draws have neither tail nor variance; ArviZ's calls of pandas are old
        warnings.simplefilter("ignore")
        table = az.compare(data)
        summary = az.summary(data["2"], var_names=["cluster"])
    assert table.index[0] == "2"
    assert len(summary) == len(x)


def test_predictions_are_rows_of_their_clusters():
    """1,000 draws: Kolmogorov-Smirnov on 3 * 4 values at 1e-6."""
    story = pc.models.GaussianMixture(4, 3, covariance_type="diag")
    data = pc.to_inference_data(story, torch.randn(5, 4), draws=1000)
    for k in range(3):
        drawn = data.predictions["x"].sel(component=k).values[0]
        law = story.component(torch.tensor(k))
        for d in range(4):
            at = (law.mean[d].item(), law.variance[d].sqrt().item())
            assert stats.kstest(drawn[:, d], "norm", at).pvalue > 1e-6


def test_conditional_stories_have_no_predictions():
    data = pc.to_inference_data(pc.models.DEC(4, 2, latent_dim=2, hidden=(3,)), torch.rand(6, 4), draws=2)
    assert set(data.groups()) == GROUPS - {"predictions", "log_likelihood"}


# Restarts: a chain each


def renumbered(story, order):
    """The same story with its clusters numbered anew."""
    again = copy.deepcopy(story)
    with torch.no_grad():
        for value in again.state_dict().values():
            if value.shape[:1] == (len(order),):
                value.copy_(value[order])
    return again


@pytest.mark.parametrize("name", ["poissons", "factor-analysers", "bayesian-map", "bayesian-normal"])
def test_clusters_of_restarts_are_numbered_as_the_firsts(name):
    case = case_named(name)
    story, x = case.build(), case.rows(20)
    if name.startswith("bayesian"):
        story.globals.locs["weights"].data.zero_()  # equal weights; others cannot be renumbered before they are broken
    order = [2, 0, 1]
    data = pc.to_inference_data([story, renumbered(story, order)], x, draws=200)
    one, other = (data.sel(chain=chain) for chain in (0, 1))
    shares = [
        np.stack([(chain.posterior["cluster"].values == k).mean(0) for k in range(3)], 1) for chain in (one, other)
    ]
    np.testing.assert_allclose(*shares, atol=0.26)  # 60 differences of standard error 0.05 at most
    for variable in set(data.posterior) - {"cluster", "z"}:
        means = [chain.posterior[variable].mean("draw").values for chain in (one, other)]
        np.testing.assert_allclose(*means, atol=1e-6 if name == "bayesian-map" else 0.08)
    entropies = [chain.sample_stats["entropy"].mean("draw") for chain in (one, other)]
    np.testing.assert_allclose(*entropies, atol=0.15 if name == "bayesian-normal" else 1e-5)
    [site] = case.observed
    means = [chain.predictions[site].mean("draw").values for chain in (one, other)]
    error = one.predictions[site].std("draw").values / 200**0.5
    assert (np.abs(means[0] - means[1]) < 6 * 2**0.5 * error).all()
    plain = pc.to_inference_data(renumbered(story, order), x, draws=200)
    wrong = [(plain.posterior["cluster"].values[0] == k).mean(0) for k in range(3)]
    assert np.abs(np.stack(wrong, 1) - shares[0]).max() > 0.5, "planted: not aligned"


def test_the_first_chain_is_the_story_alone_and_chains_differ():
    case = case_named("factor-analysers")
    stories, x = [case.build() for _ in range(3)], case.rows()
    data, alone = pc.to_inference_data(stories, x, draws=4), pc.to_inference_data(stories[0], x, draws=4)
    assert data.posterior["z"].shape == (3, 4, len(x), 2)
    for group in GROUPS - {"observed_data"}:
        assert data[group].sel(chain=[0]).equals(alone[group]), group
    assert data.observed_data.equals(alone.observed_data)
    assert not data.log_likelihood["x"].sel(chain=0).equals(data.log_likelihood["x"].sel(chain=1))


def test_arviz_takes_an_ensemble():
    plots = pytest.importorskip("matplotlib.pyplot")
    torch.manual_seed(0)
    x = torch.cat([torch.randn(40, 2) - 4, torch.randn(40, 2) + 4])
    data = {}
    for k in (1, 2):
        restarts = []
        for seed in range(3):
            torch.manual_seed(seed)
            story = Bayesian(2, k, global_guide="normal")
            story.globals.locs["loc"].data = torch.tensor([[-2.0, -2.0], [2.0, 2.0]])[[seed % 2, (seed + 1) % 2][:k]]
            pc.fit(story, x, seed=seed, epochs=40, learning_rate=0.1, progress=False)
            restarts.append(story)
        data[str(k)] = pc.to_inference_data(restarts, x, draws=30)
    with warnings.catch_warnings():  # ArviZ's calls of pandas and matplotlib are old
        warnings.simplefilter("ignore")
        table = az.compare(data)
        result = az.loo(data["2"])
        summary = az.summary(data["2"], var_names=["weights", "loc"], round_to=3)
        axes = az.plot_ppc(data["2"], num_pp_samples=5, random_seed=0)
        plots.close("all")
    assert axes is not None
    assert table.index[0] == "2"
    assert np.isfinite(table["elpd_loo"]).all()
    plug_in = data["2"].log_likelihood["x"].mean(("chain", "draw")).sum().item()
    assert result.elpd_loo == pytest.approx(plug_in, rel=0.05)
    assert (summary["r_hat"] < 1.3).all(), "aligned restarts of an easy problem agree"
    centres = data["2"].posterior["loc"].mean(("chain", "draw")).values
    np.testing.assert_allclose(np.sort(centres[:, 0]), [-4, 4], atol=0.8)


def test_what_is_no_set_of_restarts_is_refused():
    x = torch.ones(5, 4)
    for wrong in ([], "story", [Poissons(4, 2), 3], None):
        with pytest.raises(TypeError, match="a sequence of them"):
            pc.to_inference_data(wrong, x)
    with pytest.raises(ValueError, match="of one class, n_features and n_clusters"):
        pc.to_inference_data([Poissons(4, 2), Poissons(4, 3)], x)


@pytest.mark.parametrize(("argument", "value"), [("draws", 0), ("draws", 1.5), ("particles", 0)])
def test_wrong_counts_are_refused(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be an integer"):
        pc.to_inference_data(Poissons(4, 2), torch.ones(5, 4), **{argument: value})
