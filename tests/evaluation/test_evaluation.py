from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import entr
from sklearn.preprocessing import StandardScaler

import probclust as pc
from tests.support.stories import CASES, FactorAnalysers, Poissons

N_ROWS, PARTICLES = 500, 12


class Counted(FactorAnalysers):
    """Counts the rows that its model is run on."""

    seen = 0

    def model(self, x):
        self.seen += len(x)
        super().model(x)


def passes(story):
    """How often the model was run on all rows since it was last asked; a few rows more do not count."""
    found, story.seen = story.seen // N_ROWS, 0
    return found


@pytest.fixture
def counted():
    torch.manual_seed(0)
    story = Counted(4, 3)
    pc.predict(story, torch.zeros(1, 4))  # its contract is checked the first time
    story.seen = 0
    return story


@pytest.fixture(scope="module")
def blobs():
    return pc.data.blobs(n_rows=150, n_features=4, n_clusters=3, seed=2)


@pytest.fixture(scope="module")
def mixture(blobs):
    story = pc.models.GaussianMixture(4, 3)
    pc.fit(story, blobs.x, epochs=1)
    return story


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_evaluation_has_what_the_functions_give(case):
    story, x, y = case.build(), case.rows(40), np.arange(40) % 3
    found = pc.evaluate(story, x, y, particles=7, seed=3)
    assert torch.equal(found.log_joint, pc.log_joint(story, x))
    assert torch.equal(found.clusters, pc.predict(story, x))
    assert torch.equal(found.responsibilities, pc.responsibilities(story, x))
    torch.testing.assert_close(found.bound.to(story.dtype), pc.log_likelihood(story, x, particles=7, seed=3))
    for name in ("accuracy", "nmi", "ari"):
        assert getattr(found, name) == getattr(pc.metrics, name)(y, pc.predict(story, x))
    assert found.why_no_density is None
    assert found.story == type(story).__name__
    assert (len(found), found.n_clusters, found.n_features, found.seed) == (40, 3, story.n_features, 3)
    table = pc.compare({"one": story}, x, y, particles=7, seed=3)
    pd.testing.assert_frame_equal(pc.compare({"one": found}), table)
    assert table.loc["one", ["log_likelihood", "se"]].tolist() == [found.log_likelihood, found.se]


def test_facts_are_those_of_their_functions(mixture, blobs):
    found = pc.evaluate(mixture, blobs.x, blobs.y).facts()
    rows = pc.log_likelihood(mixture, blobs.x).double().numpy()
    assert found["log_likelihood"] == pytest.approx(rows.mean())
    assert found["se"] == pytest.approx(rows.std(ddof=1) / 150**0.5)
    assert found["accuracy"] == pc.metrics.accuracy(blobs.y, pc.predict(mixture, blobs.x))
    assert sum(found["sizes"]) == found["rows"] == 150
    weights = pc.responsibilities(mixture, blobs.x).numpy()
    assert found["entropy"] == pytest.approx(entr(weights).sum(1).mean(), abs=1e-6)
    assert list(json.loads(json.dumps(found))) == [
        *("log_likelihood", "se", "accuracy", "nmi", "ari", "sizes", "entropy", "rows")
    ]


def test_a_story_that_is_no_density_has_no_bound(blobs):
    story = pc.models.VaDE(4, 3, latent_dim=2, hidden=(5,), likelihood="bernoulli")
    found = pc.evaluate(story, (blobs.x - blobs.x.min()) / np.ptp(blobs.x))
    assert (found.bound, found.gain, found.ess, found.particles, found.measure) == (None,) * 5
    assert math.isnan(found.log_likelihood)
    assert math.isnan(found.se)
    assert found.facts()["log_likelihood"] is None
    assert found.facts()["why_no_density"] == found.why_no_density
    assert "outside the support of Bernoulli" in found.why_no_density
    assert "accuracy" not in found.facts()
    assert "log p(x)" not in repr(found)


def test_a_single_row_has_no_standard_error(mixture, blobs):
    found = pc.evaluate(mixture, blobs.x[:1])
    assert math.isnan(found.se)
    assert found.facts()["se"] is None


def test_it_tells_itself_in_a_line(mixture, blobs):
    assert repr(pc.evaluate(mixture, blobs.x, blobs.y)).startswith(
        "Evaluation of GaussianMixture on 150 rows, 3 clusters: log p(x) ≥ "
    )


def test_an_evaluation_does_not_change(mixture, blobs):
    found = pc.evaluate(mixture, blobs.x[:5])
    with pytest.raises(AttributeError):
        found.accuracy = 1.0


def test_a_scaled_story_is_scored_on_the_rows_before_the_scaler():
    raw = torch.randn(40, 2, dtype=torch.float64) * torch.tensor([3.0, 0.2]) + 5
    scaler = StandardScaler().fit(raw.numpy())
    story = pc.models.GaussianMixture(2, 2).double()
    found = pc.evaluate((scaler, story), raw)
    z = scaler.transform(raw.numpy())
    assert found.bound.numpy() == pytest.approx(
        pc.log_likelihood(story, z).numpy() - np.log(scaler.scale_).sum(), abs=1e-9
    )
    assert torch.equal(found.clusters, pc.predict(story, z))
    pd.testing.assert_frame_equal(
        pc.compare({"scaled": found, "raw": story}, raw), pc.compare({"scaled": (scaler, story), "raw": story}, raw)
    )


@pytest.mark.filterwarnings("ignore::probclust.errors.ComparisonWarning")  # few particles, and that is said
def test_each_number_is_computed_once(counted):
    x, y = pc.sample(counted, N_ROWS, seed=1)["x"], np.arange(N_ROWS) % 3
    counted.seen = 0
    found = pc.evaluate(counted, x, y, particles=PARTICLES)
    assert passes(counted) == 2 + PARTICLES  # the log joint, the supports of the observed sites, the bound
    pc.compare({"one": counted}, x, y, particles=PARTICLES)
    assert passes(counted) == 2 + PARTICLES
    pc.compare({"one": found, "two": found}, y=y)
    pc.stability({"one": found, "two": found})
    assert passes(counted) == 0


@pytest.mark.filterwarnings("ignore::probclust.errors.ComparisonWarning")  # few particles, and that is said
def test_a_page_costs_no_more_than_its_evaluations(counted, tmp_path):
    pytest.importorskip("matplotlib")
    x, y = pc.sample(counted, N_ROWS, seed=1)["x"], np.arange(N_ROWS) % 3
    counted.seen = 0
    pc.report({"one": counted}, x, y, tmp_path / "page.html", particles=PARTICLES)
    assert passes(counted) == 2 + PARTICLES


def test_stability_takes_evaluations(mixture, blobs):
    other = pc.models.GaussianMixture(4, 2)
    x = blobs.x
    asked, ready = (
        pc.stability({"a": a, "b": b}, *rows)
        for a, b, *rows in ((mixture, other, x), (pc.evaluate(mixture, x), pc.evaluate(other, x)))
    )
    pd.testing.assert_frame_equal(asked.ari, ready.ari)
    assert ready.consensus.tolist() == asked.consensus.tolist()
    with pytest.raises(ValueError, match="leave x out"):
        pc.stability([pc.evaluate(mixture, x), pc.evaluate(other, x)], x)


def test_evaluations_of_other_rows_are_not_compared(mixture, blobs):
    one, other = pc.evaluate(mixture, blobs.x), pc.evaluate(mixture, blobs.x[::-1].copy())
    with pytest.raises(ValueError, match="on the same rows, got others for 'b' than for 'a'"):
        pc.compare({"a": one, "b": other})
    with pytest.raises(ValueError, match="on the same rows, got others for 'b' than for 'a'"):
        pc.compare({"a": other, "b": mixture}, blobs.x)
    with pytest.raises(ValueError, match="leave x out"):
        pc.compare({"a": one}, blobs.x)
    with pytest.raises(ValueError, match=r"need the rows .*: compare\(stories, x\)"):
        pc.compare({"a": one, "b": mixture})
    with pytest.raises(TypeError, match=r"must be a probclust\.Story"):
        pc.compare({"a": (StandardScaler(), one)}, blobs.x)


def test_rows_are_the_same_whatever_the_dtype_and_the_order_of_named_columns(mixture, blobs):
    double, named = (pc.models.GaussianMixture(4, 3) for _ in range(2))
    frame = pd.DataFrame(blobs.x, columns=list("abcd"))
    pc.fit(named, frame[list("dbca")], epochs=1)
    digests = {pc.evaluate(story, frame).digest for story in (mixture, double.double(), named)}
    assert len(digests) == 1


def test_labels_may_be_given_to_the_comparison_alone(mixture, blobs):
    found, marked = pc.evaluate(mixture, blobs.x), pc.evaluate(mixture, blobs.x, blobs.y)
    table = pc.compare({"a": found}, y=blobs.y)
    pd.testing.assert_frame_equal(table, pc.compare({"a": marked}))
    assert "accuracy" not in pc.compare({"a": found})
    mixed = pc.compare({"a": found, "b": marked})
    assert mixed["accuracy"].isna().tolist() == [True, False]
    assert mixed.columns.tolist() == table.columns.tolist()


def test_wrong_arguments_are_refused_before_any_work(mixture, blobs, monkeypatch):
    monkeypatch.setattr(type(mixture), "model", None)
    x, y = blobs.x, blobs.y
    with pytest.raises(ValueError, match="particles must be an integer"):
        pc.evaluate(mixture, x, particles=0)
    with pytest.raises(ValueError, match="seed must be an integer"):
        pc.evaluate(mixture, x, seed=-1)
    with pytest.raises(ValueError, match="one entry for each row"):
        pc.evaluate(mixture, x, y[:5])
    with pytest.raises(ValueError, match="expected 4 features"):
        pc.evaluate(mixture, x[:, :3])
    with pytest.raises(TypeError, match=r"expected a probclust\.Story"):
        pc.evaluate("gmm", x)
    with pytest.raises(TypeError, match="pair \\(scaler, story\\)"):
        pc.evaluate((mixture,), x)


def test_a_count_is_no_density_of_real_numbers():
    assert str(pc.evaluate(Poissons(4, 2), torch.poisson(torch.full((9, 4), 2.0))).measure) == "discrete"
