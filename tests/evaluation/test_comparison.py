from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import probclust as pc
from tests.support.linear_gaussian import exact_log_likelihood, linear_gaussian
from tests.support.stories import CASES, Poissons, SharedFactors

LIKELIHOOD = ["log_likelihood", "se", "difference", "difference_se", "particles", "gain", "ess"]


def blobs(n_rows=300, seed=0):
    x, y = make_blobs(n_rows, n_features=2, centers=[[-6, 0], [0, 6], [6, 0]], random_state=seed)
    return x, y


def bernoulli(n_features=4):
    return pc.models.VaDE(n_features, 2, latent_dim=2, hidden=(3,), likelihood="bernoulli")


def test_the_true_number_of_clusters_wins_on_rows_kept_out():
    x, _ = blobs()
    stories = {f"K={k}": pc.models.GaussianMixture(2, k, "spherical") for k in (1, 2, 3)}
    for story in stories.values():
        pc.fit(story, x, epochs=2, progress=False)
    held_out, y = blobs(seed=1)
    table = pc.compare(stories, held_out, y)
    assert table.index.tolist() == ["K=3", "K=2", "K=1"]
    assert table.index.name == "story"
    assert table.columns.tolist() == [*LIKELIHOOD, "accuracy", "nmi", "ari", "parameters"]
    assert table.loc["K=3", "accuracy"] > 0.99
    assert (table["difference"] <= 0).all()
    assert (table["difference"].iloc[1:] < -3 * table["difference_se"].iloc[1:]).all()
    assert table["parameters"].tolist() == [3 * k + k for k in (3, 2, 1)]  # means and a scale; weights


def test_the_generator_wins_over_mixtures_near_it():
    generator = pc.models.GaussianMixture(2, 3, "diag")
    near = pc.models.GaussianMixture(2, 3, "diag")
    near.load_state_dict(generator.state_dict())
    with torch.no_grad():
        near.loc += 0.3
    x = pc.sample(generator, 2000, seed=0)["x"]
    assert pc.compare({"near": near, "generator": generator}, x).index[0] == "generator"


def test_standard_errors_are_those_by_hand():
    stories = {"a": pc.models.GaussianMixture(2, 2), "b": pc.models.GaussianMixture(2, 2)}
    x, _ = blobs(50)
    table = pc.compare(stories, x)
    rows = {name: pc.log_likelihood(story, x).tolist() for name, story in stories.items()}
    best, other = sorted(rows, key=lambda name: -sum(rows[name]))
    for name in rows:
        mean = math.fsum(rows[name]) / 50
        variance = math.fsum((value - mean) ** 2 for value in rows[name]) / 49
        assert table.loc[name, "log_likelihood"] == pytest.approx(mean)
        assert table.loc[name, "se"] == pytest.approx(math.sqrt(variance / 50))
    differences = [b - a for a, b in zip(rows[best], rows[other], strict=True)]
    mean = math.fsum(differences) / 50
    error = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / 49 / 50)
    assert table.loc[other, ["difference", "difference_se"]].tolist() == pytest.approx([mean, error])
    assert table.loc[best, ["difference", "difference_se"]].tolist() == [0, 0]


def test_the_bound_is_that_of_log_likelihood():
    story, x = CASES[2].build(), CASES[2].rows()
    table = pc.compare({"a": story}, x, particles=7, seed=3)
    expected = pc.log_likelihood(story, x, particles=7, seed=3).double().mean()
    assert table.loc["a", "log_likelihood"] == pytest.approx(float(expected))


@pytest.mark.parametrize("flag", [{"is_density": False}, {"conditional": True}])
def test_what_is_no_density_is_listed_last_with_empty_likelihood(flag):
    scores = type("Scores", (pc.models.GaussianMixture,), flag)(2, 2)
    x, y = blobs(30)
    with pytest.warns(pc.ComparisonWarning, match="'scores' has no likelihood"):
        table = pc.compare({"scores": scores, "gmm": pc.models.GaussianMixture(2, 2)}, x, y)
    assert table.index.tolist() == ["gmm", "scores"]
    assert table.loc["scores", LIKELIHOOD].isna().all()
    assert table.loc["scores", "accuracy"] == pc.metrics.accuracy(y, pc.predict(scores, x).numpy())
    assert table.loc["gmm", "difference"] == 0


def test_only_stories_without_likelihood():
    scores = type("Scores", (Poissons,), {"is_density": False})
    x = torch.poisson(torch.full((5, 4), 2.0))
    with pytest.warns(pc.ComparisonWarning):
        table = pc.compare({"b": scores(4, 2), "a": scores(4, 2)}, x)
    assert table.index.tolist() == ["b", "a"]
    assert table[LIKELIHOOD].isna().all(axis=None)


def test_grey_under_a_bernoulli_has_no_likelihood_and_binary_does():
    stories = {"bernoulli": bernoulli(), "gmm": pc.models.GaussianMixture(4, 2)}
    grey = torch.rand(20, 4)
    with pytest.warns(pc.ComparisonWarning, match="outside the support of Bernoulli"):
        table = pc.compare(stories, grey)
    assert table.loc["bernoulli", LIKELIHOOD].isna().all()
    binary = {"bernoulli": stories["bernoulli"], "another": bernoulli()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pc.compare(binary, grey.round())["difference"].notna().all()


def test_another_measure_is_not_ranked():
    stories = {"poisson": Poissons(4, 2), "full": pc.models.GaussianMixture(4, 2)}
    stories["diag"] = pc.models.GaussianMixture(4, 2, "diag")
    x = torch.poisson(torch.full((20, 4), 2.0))
    with pytest.warns(pc.ComparisonWarning, match="'poisson' is not ranked: its density is discrete") as record:
        table = pc.compare(stories, x)
    assert len(record) == 1
    assert record[0].filename == __file__
    assert table.index[-1] == "poisson"
    assert math.isnan(table.loc["poisson", "difference"])
    assert math.isnan(table.loc["poisson", "difference_se"])
    assert table.loc["poisson", "log_likelihood"] == pytest.approx(
        float(pc.log_likelihood(stories["poisson"], x).mean())
    )
    assert table["difference"].notna().sum() == 2


def test_of_measures_as_frequent_the_first_ones_is_ranked():
    stories = {"poisson": Poissons(4, 2), "gmm": pc.models.GaussianMixture(4, 2)}
    x = torch.poisson(torch.full((20, 4), 2.0))
    for names in (["poisson", "gmm"], ["gmm", "poisson"]):
        with pytest.warns(pc.ComparisonWarning):
            table = pc.compare({name: stories[name] for name in names}, x)
        assert table.index.tolist() == names
        assert table["difference"].isna().tolist() == [False, True]


class Uniform(pc.Story):
    """x in [0, 1] under cluster 0 and in [1, 2] under cluster 1, whose weight is `weight`."""

    def __init__(self, n_features, n_clusters, weight):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.weight = weight
        self.scale = torch.nn.Parameter(torch.ones(n_features))

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.tensor([1 - self.weight, self.weight])))
            low = k[..., None] * self.scale
            pyro.sample("x", dist.Uniform(low, low + 1, validate_args=False).to_event(1), obs=x)

    def guide(self, x):
        pass


def test_a_row_outside_one_clusters_support_is_scored_under_the_other():
    x = torch.cat([torch.rand(10, 1), 1 + torch.rand(10, 1)])
    table = pc.compare({"even": Uniform(1, 2, 0.5), "odd": Uniform(1, 2, 0.9)}, x)
    assert table.index.tolist() == ["even", "odd"]
    assert table.loc["even", "log_likelihood"] == pytest.approx(math.log(0.5))
    assert table.loc["odd", "log_likelihood"] == pytest.approx((math.log(0.1) + math.log(0.9)) / 2)


def test_a_row_of_probability_zero_is_infinitely_bad():
    x = torch.cat([torch.rand(10, 1), torch.tensor([[1.5], [2.5]])])
    table = pc.compare({"uniform": Uniform(1, 2, 0.5), "gmm": pc.models.GaussianMixture(1, 2)}, x)
    assert table.index.tolist() == ["gmm", "uniform"]
    assert table.loc["uniform", ["log_likelihood", "difference"]].tolist() == [-math.inf, -math.inf]
    assert table.loc["uniform", ["se", "difference_se"]].isna().all()
    alone = pc.compare({"uniform": Uniform(1, 2, 0.5)}, x)
    assert alone.loc["uniform", "difference":"difference_se"].isna().all()


def test_a_single_row_has_no_standard_error():
    x, y = blobs(1)
    table = pc.compare({"a": pc.models.GaussianMixture(2, 2)}, x, y)
    assert table.loc["a", ["se", "difference_se"]].isna().all()
    assert table.loc["a", "difference"] == 0


def test_labels_may_be_strings_or_a_series():
    x, y = blobs(30)
    table = pc.compare({"a": pc.models.GaussianMixture(2, 3)}, x, pd.Series(y).map({0: "u", 1: "v", 2: "w"}))
    assert 0 < table.loc["a", "accuracy"] <= 1


def test_bad_input_is_refused_before_any_work():
    story, (x, y) = pc.models.GaussianMixture(2, 3), blobs(30)
    with pytest.raises(ValueError, match="at least one story, got none"):
        pc.compare({}, x)
    with pytest.raises(TypeError, match="must be a mapping"):
        pc.compare([story], x)
    with pytest.raises(TypeError, match="names of stories must be strings, got 1"):
        pc.compare({1: story}, x)
    with pytest.raises(TypeError, match=r"must be a probclust\.Story"):
        pc.compare({"a": "gmm"}, x)
    with pytest.raises(ValueError, match="the same n_features"):
        pc.compare({"a": story, "b": pc.models.GaussianMixture(3, 3)}, x)
    with pytest.raises(ValueError, match="expected 2 features, got 1"):
        pc.compare({"a": story}, x[:, :1])
    with pytest.raises(ValueError, match="one entry for each row"):
        pc.compare({"a": story}, x, y[:5])
    with pytest.raises(ValueError, match="particles must be an integer"):
        pc.compare({"a": story}, x, particles=0)


# Rescaled rows


def test_a_story_behind_a_scaler_has_the_density_of_the_raw_rows():
    raw = torch.randn(40, 2, dtype=torch.float64) * torch.tensor([3.0, 0.2]) + 5
    scaler = StandardScaler().fit(raw.numpy())
    story = pc.models.GaussianMixture(2, 2).double()
    table = pc.compare({"scaled": (scaler, story)}, raw)
    moved = pc.models.GaussianMixture(2, 2).double()  # the same density, told of the raw rows
    expected = pc.log_likelihood(story, scaler.transform(raw.numpy())) - np.log(scaler.scale_).sum()
    assert table.loc["scaled", "log_likelihood"] == pytest.approx(float(expected.mean()))
    with torch.no_grad():
        scale = torch.as_tensor(scaler.scale_)
        moved.load_state_dict(story.state_dict())
        moved.loc.copy_(story.loc * scale + torch.as_tensor(scaler.mean_))
    assert not np.isclose(float(expected.mean()), float(pc.log_likelihood(moved, raw).mean()), atol=0.1)


def test_scaling_changes_no_rank():
    """One density told in two units: their bounds on log p(x) agree, whatever the scaler."""
    x = blobs(200)[0].astype(np.float32)
    stories = {}
    for name, scaler in {"standard": StandardScaler().fit(x), "min-max": MinMaxScaler((0, 5)).fit(x)}.items():
        story = pc.models.GaussianMixture(2, 3, "full", reg_covar=1e-9).double()
        pc.fit(story, scaler.transform(x), epochs=20, progress=False)
        stories[name] = (scaler, story)
    story = stories["raw"] = pc.models.GaussianMixture(2, 3, "full", reg_covar=1e-9).double()
    pc.fit(story, x, epochs=20, progress=False)
    table = pc.compare(stories, x)
    assert table["log_likelihood"].to_numpy() == pytest.approx(table["log_likelihood"].iloc[0], abs=0.01)
    wrong = pc.log_likelihood(stories["standard"][1], stories["standard"][0].transform(x)).mean()
    assert abs(wrong - table.loc["raw", "log_likelihood"]) > 1  # what it would be without the change of volume


def test_probabilities_of_counts_have_no_volume_to_change():
    x = torch.poisson(torch.full((20, 4), 2.0))
    story = Poissons(4, 2)
    identical = MinMaxScaler((0, 10)).fit([[0.0] * 4, [10.0] * 4])
    doubled = MinMaxScaler((0, 20)).fit([[0.0] * 4, [10.0] * 4])
    table = pc.compare({"raw": story, "same": (identical, story)}, x)
    assert table["log_likelihood"].nunique() == 1
    alone = pc.compare({"doubled": (doubled, story)}, x)
    expected = pc.log_likelihood(story, 2 * x).double().mean()
    assert alone.loc["doubled", "log_likelihood"] == pytest.approx(float(expected))


class Thresholds(pc.Story):
    """Observes whether x exceeds 1/2: a transformation of x."""

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.logits = torch.nn.Parameter(torch.randn(n_clusters, n_features))

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", dist.Bernoulli(logits=self.logits[k]).to_event(1), obs=(x > 0.5).to(x.dtype))

    def guide(self, x):
        pass


def test_a_rescaled_transformation_of_x_has_no_likelihood():
    x = torch.rand(20, 3)
    scaler = StandardScaler().fit(x.numpy())
    with pytest.warns(pc.ComparisonWarning, match="change of volume under the scaler is unknown"):
        assert pc.compare({"bent": (scaler, Thresholds(3, 2))}, x)["log_likelihood"].isna().all()


# Particles


@pytest.mark.usefixtures("float64")
def test_the_bound_meets_the_exact_value_within_its_standard_error():
    """Within that of the rows, and within 4 of the far smaller one that the draws alone give, plus what is missing."""
    story = linear_gaussian(spread=1.5)
    x = pc.sample(story, 300, seed=1)["x"]
    exact = exact_log_likelihood(story, x).mean()
    tables = [pc.compare({"story": story}, x, particles=100, seed=seed).loc["story"] for seed in range(5)]
    assert all(abs(row["log_likelihood"] - exact) < row["se"] for row in tables)
    bounds = np.array([row["log_likelihood"] for row in tables])
    error = bounds.std(ddof=1) / math.sqrt(5)
    gain = tables[0]["gain"]
    assert abs(bounds.mean() - exact) < 4 * error + gain
    assert error < 0.02
    assert gain < 0.01
    assert 30 < tables[0]["ess"] < 100


@pytest.mark.usefixtures("float64")
def test_with_the_exact_posterior_one_particle_is_enough():
    story = linear_gaussian()
    x = pc.sample(story, 50, seed=1)["x"]
    table = pc.compare({"story": story}, x, particles=6)
    assert table.loc["story", "log_likelihood"] == pytest.approx(exact_log_likelihood(story, x).mean(), abs=1e-9)
    assert table.loc["story", "gain"] == pytest.approx(0, abs=1e-9)
    # each draw is of every cluster's own posterior, so that all weights are equal
    assert table.loc["story", "ess"] == pytest.approx(6)


def test_too_few_particles_are_warned_of():
    story = linear_gaussian(SharedFactors, spread=3.0)  # one z for all clusters, at cluster 0's posterior
    x = pc.sample(story, 200, seed=1)["x"]
    with pytest.warns(pc.ComparisonWarning, match="the bound of 'story' is not settled"):
        table = pc.compare({"story": story}, x, particles=2)
    assert table.loc["story", "gain"] > table.loc["story", "se"]


def test_an_order_that_more_particles_may_turn_is_warned_of():
    story, poor = linear_gaussian(), linear_gaussian(spread=1.6)  # one density, two guides
    x = pc.sample(story, 200, seed=1)["x"]
    with pytest.warns(pc.ComparisonWarning, match="more particles may put 'poor' first"):
        table = pc.compare({"poor": poor, "good": story}, x, particles=2)
    assert table.index.tolist() == ["good", "poor"]


def test_an_exact_story_needs_one_particle():
    table = pc.compare({"a": pc.models.GaussianMixture(2, 2)}, blobs(30)[0])
    assert table.loc["a", ["particles", "gain", "ess"]].tolist() == [1, 0, 1]


def test_seconds_are_those_of_the_records():
    x, _ = blobs(60)
    story = pc.models.GaussianMixture(2, 2)
    records = {"a": pc.fit(story, x, epochs=2, progress=False)}
    assert pc.compare({"a": story}, x, records=records).loc["a", "seconds"] == records["a"].seconds
    with pytest.raises(ValueError, match=r"records must have the names of the stories, \['a'\], got \['b'\]"):
        pc.compare({"a": story}, x, records={"b": records["a"]})


# The generator wins


def simulated(seed, n_rows):
    """A mixture of factor analysers, and rivals fitted to its rows: mixtures of Gaussians, as flexible and less."""
    generator = linear_gaussian(spread=1.2, seed=seed)
    train, held_out = (pc.sample(generator, n_rows, seed=s)["x"] for s in (2 * seed, 2 * seed + 1))
    stories = {}
    for k, shape in ((2, "full"), (3, "full"), (3, "diag")):
        story = stories[f"{k} {shape}"] = pc.models.GaussianMixture(4, k, shape)
        pc.fit(story, train, seed=seed, epochs=2, progress=False)
    return stories | {"generator": generator}, held_out


def ranks_first(seed, n_rows, particles):
    stories, held_out = simulated(seed, n_rows)
    return pc.compare(stories, held_out, particles=particles).index[0] == "generator"


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
def test_the_generator_ranks_first_in_each_of_3_simulated_sets():
    assert all(ranks_first(seed, 300, 50) for seed in range(3))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
def test_the_generator_ranks_first_in_19_of_20_simulated_sets():
    assert sum(ranks_first(seed, 300, 50) for seed in range(20)) >= 19
