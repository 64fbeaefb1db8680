"""p-values are uniform where the story is true, and find what is wrong with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist

import probclust as pc
from probclust.evaluation.predictive_checks import energy_test
from probclust.models import DAMIC, DEC, GaussianMixture
from probclust.story.columns import rows_of
from tests.support.stories import CASE_NAMES, CASES, FactorAnalysers, Poissons


def overlapping():
    story = GaussianMixture(2, 2, "diag")
    with torch.no_grad():
        story.loc.copy_(torch.tensor([[0.0, 0.0], [1.5, 0.5]]))
    return story


def poissons():
    story = Poissons(2, 2)
    story.logits.data.zero_()
    story.log_rate.data = torch.tensor([[0.0, 0.5], [1.0, 0.0]])
    return story


def factors():
    """Local latents, and a guide that is too wide."""
    story = FactorAnalysers(2, 2, latent_dim=1)
    with torch.no_grad():
        story.loc.copy_(torch.tensor([[0.0, 0.0], [2.0, 0.5]]))
        story.encoder.copy_(0.3 * story.loading.mT)
        story.logits.zero_()
        story.log_noise.zero_()
        story.log_scale.zero_()
    return story


@pytest.mark.parametrize("build", [overlapping, poissons, factors])
def test_p_values_are_uniform_under_the_true_generator(build):
    """50 simulated sets; Kolmogorov-Smirnov against the uniform on 3 kinds of p-values at 1e-3, for fixed seeds."""
    story = build()
    found = []
    for seed in range(50):
        x = rows_of(story, pc.sample(story, 60, seed=1_000 + seed))
        table = pc.predictive_check(story, x, seed=seed, permutations=49, particles=10)
        found.append([table.loc[at, "p_value"] for at in [(1, 0), (0, "all"), ("all", 1)]])
    for p_values in np.array(found).T:
        assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_rows_given_to_their_most_probable_cluster_would_not_be(monkeypatch):
    """Planted: what the docstring warns of."""
    monkeypatch.setattr(
        "probclust.evaluation.predictive_checks._drawn_clusters",
        lambda story, rows, *_: pc.predict(story, rows).numpy(),
    )
    story = overlapping()
    x = pc.sample(story, 400, seed=0)["x"]
    assert pc.predictive_check(story, x).loc[(0, 0), "p_value"] < 1e-3


def test_a_planted_misfit_is_found_where_it_is():
    torch.manual_seed(0)
    story = GaussianMixture(3, 2, "diag")
    with torch.no_grad():
        story.loc.copy_(torch.tensor([[-8.0] * 3, [8.0] * 3]))
    scale = story.scale.detach()
    draws = pc.sample(story, 800, seed=0)
    x, k = draws["x"], draws["cluster"]
    x[k == 1, 2] = 8.0 + scale[1, 2] * (2.0 * (torch.rand(int((k == 1).sum())) < 0.5) - 1)  # two peaks, same moments
    correlated = torch.randn(int((k == 0).sum()))
    x[k == 0, 0], x[k == 0, 1] = -8.0 + scale[0, 0] * correlated, -8.0 + scale[0, 1] * correlated
    table = pc.predictive_check(story, pd.DataFrame(x.numpy(), columns=["a", "b", "c"]), seed=0)
    small = set(table.index[table["p_adjusted"] < 0.05])
    assert {(1, "c"), (1, "all"), (0, "all")} <= small
    assert small <= {(1, "c"), (1, "all"), (0, "all"), ("all", "c"), ("all", "all")}
    wrong = table.loc[(1, "c")]
    assert wrong["real_std"] == pytest.approx(wrong["generated_std"], rel=0.1)
    assert wrong["n_real"] == (k == 1).sum()


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_every_story_is_checked(case):
    story, x = case.build(), case.rows(40)
    before = torch.get_rng_state()
    table = pc.predictive_check(story, x, particles=2, permutations=9)
    assert torch.equal(before, torch.get_rng_state())
    assert table.index[-1] == ("all", "all")
    assert table["p_value"].between(0, 1).all()
    assert (table["p_adjusted"] >= table["p_value"] - 1e-12).all()
    of_clusters = table.drop("all", level="cluster").xs("all", level="feature")
    assert of_clusters["n_real"].sum() <= 40
    assert table.equals(pc.predictive_check(story, x, particles=2, permutations=9))


def test_the_energy_distance_is_the_definition():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(30, 3)), rng.normal(0.3, 1, size=(50, 3))
    scale = np.concatenate([one, two]).std(0)
    expected = 2 * cdist(one / scale, two / scale).mean() - sum(cdist(a / scale, a / scale).mean() for a in (one, two))
    constant = [np.column_stack([a, np.ones(len(a))]) for a in (one, two)]
    for a, b in ((one, two), constant):
        statistic, p_value = energy_test(a, b, 99, rng)
        assert statistic == pytest.approx(expected)
        assert p_value * 100 == pytest.approx(round(p_value * 100))


def test_small_clusters_and_missing_entries_are_left_out():
    story = GaussianMixture(2, 2, "diag", missing=True)
    with torch.no_grad():
        story.loc.copy_(torch.tensor([[0.0, 0.0], [50.0, 50.0]]))
    x = torch.randn(60, 2)
    x[:2, 0] = torch.nan
    x[2:, 1] = torch.nan
    table = pc.predictive_check(story, x)
    assert set(table.index.get_level_values(0)) == {0, "all"}
    assert table.loc[(0, 0), "n_real"] == 58
    assert np.isnan(table.loc[(0, 1), "p_value"])
    assert np.isnan(table.loc[(0, "all"), "p_adjusted"])


def test_conditional_stories_are_checked_where_they_can_be_sampled():
    x = torch.rand(40, 4)
    damic = DAMIC(4, 3, 2, hidden=(8,), gate_hidden=(8,))
    damic.fit_codes(x)
    assert len(pc.predictive_check(damic, x, permutations=9))
    with pytest.raises(ValueError, match="conditions on x"):
        pc.predictive_check(DEC(4, 3, latent_dim=2, hidden=(8,)), x)
    for name in ("particles", "permutations"):
        with pytest.raises(ValueError, match=f"{name} must be an integer"):
            pc.predictive_check(overlapping(), torch.rand(9, 2), **{name: 0})
    with pytest.raises(ValueError, match="x must have at least 5 rows to be tested, got 4"):
        pc.predictive_check(overlapping(), torch.rand(4, 2))
    assert set(pc.predictive_check(overlapping(), torch.rand(5, 2)).loc["all", "n_real"]) == {5}
