"""Columns far from zero: float32 would lose the digits that tell rows apart, so that fits run in float64."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import sparse
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch import nn
from typer.testing import CliRunner

import probclust as pc
from probclust.data import stored
from probclust.data.named import opened
from probclust.data.rounding import far_columns

N = 400


def plots(offset=(4.5e6, 5e5)):
    """Two plots, a metre apart, in metres of a map."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, N)
    return np.c_[y + rng.normal(0, 0.1, N), rng.normal(0, 0.1, N)] + offset, y


def fitted(x, *arguments, **settings):
    story = pc.models.GaussianMixture(x.shape[1], 2)
    with pytest.warns(pc.PrecisionWarning, match="put into float64"):
        record = pc.fit(story, x, *arguments, **settings)
    return story, record


def test_a_mixture_of_map_metres_is_scikit_learns():
    x, y = plots()
    story, record = fitted(x)
    peer = SklearnMixture(2, random_state=0).fit(x)
    assert story.dtype == torch.float64
    assert adjusted_rand_score(y, pc.predict(story, x)) == 1
    np.testing.assert_allclose(pc.log_likelihood(story, x), peer.score_samples(x), atol=0.02)
    assert record.bound > peer.score(x) - 1e-9
    with pytest.warns(pc.PrecisionWarning):
        estimator = pc.DeepMixture("gmm", n_clusters=2, random_state=0).fit(x)
    assert adjusted_rand_score(y, estimator.labels_) == 1
    assert estimator.score(x) > peer.score(x) - 1e-3


@pytest.mark.parametrize(
    "arguments", [{"covariance_type": "diag"}, {"covariance_type": "spherical"}, {"missing": True}]
)
@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
def test_the_same_holds_of_other_mixtures(arguments):
    x, y = plots()
    story = pc.models.GaussianMixture(2, 2, **arguments)
    pc.fit(story, x)
    assert adjusted_rand_score(y, pc.predict(story, x)) == 1


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (lambda x: pd.DataFrame(x, columns=["north", "east"]), r"columns 0 \('north'\), 1 \('east'\)"),
        (sparse.csr_matrix, "columns 0, 1"),
        (torch.as_tensor, "columns 0, 1"),
        (np.ndarray.tolist, "columns 0, 1"),
        (lambda x: (x * 1000).astype(np.int64), "columns 0, 1"),
    ],
    ids=["frame", "sparse", "tensor", "list", "integers"],
)
def test_whatever_holds_the_rows_its_columns_are_named(kind, names):
    x, y = plots()
    rows = kind(x)
    story = pc.models.GaussianMixture(2, 2)
    with pytest.warns(pc.PrecisionWarning, match=names):
        pc.fit(story, rows)
    assert adjusted_rand_score(y, pc.predict(story, rows)) == 1


@pytest.mark.filterwarnings("ignore::probclust.errors.PrecisionWarning")  # the command line prints it
def test_rows_in_a_file_and_the_command_line_do_the_same(tmp_path, monkeypatch):
    x, y = plots()
    pd.DataFrame(x, columns=["north", "east"]).to_csv(tmp_path / "plots.csv", index=False)
    np.save(tmp_path / "plots.npy", x)
    monkeypatch.setattr(stored, "RESIDENT_BYTES", 0)
    story, _ = fitted(np.load(tmp_path / "plots.npy", mmap_mode="r"))
    assert adjusted_rand_score(y, pc.predict(story, x)) == 1
    from probclust.cli.main import app

    data, run = str(tmp_path / "plots.csv"), str(tmp_path / "run")
    done = CliRunner().invoke(app, ["fit", "gmm", "--data", data, "--clusters", "2", "--out", run])
    assert done.exit_code == 0, done.output
    saved = pc.load(tmp_path / "run" / "story.safetensors")
    assert saved.dtype == torch.float64
    assert adjusted_rand_score(y, pc.predict(saved, x)) == 1


def test_a_fit_that_was_stopped_goes_on_in_float64(tmp_path, monkeypatch):
    from tests.support.stopping import stopped_after

    x, _ = plots()
    whole, _ = fitted(x)
    with pytest.warns(pc.PrecisionWarning), stopped_after(2, monkeypatch):
        pc.fit(pc.models.GaussianMixture(2, 2), x, checkpoint=tmp_path / "fit")
    again, _ = fitted(x, checkpoint=tmp_path / "fit", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
@pytest.mark.parametrize(
    "name",
    [
        *["DissimilarityMixture", "VaDE", "DMAE", "DEC", "GMVAE"],
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("MixtureOfVAEs", "DAMIC")),  # their networks are wide
    ],
)
def test_every_story_is_fitted_in_float64_with_the_networks_of_its_recipe(name):
    x, _ = plots((4.5e4, 0))
    small = {} if name == "DissimilarityMixture" else {"hidden": (4,), "latent_dim": 2}
    story = getattr(pc.models, name)(2, 2, **small)
    few = {"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 1}
    taken = inspect.signature(story.recipe).parameters
    pc.fit(story, x, recipe={key: value for key, value in few.items() if key in taken})
    assert {p.dtype for p in story.parameters()} == {torch.float64}


class Single(pc.Story):
    """Computes in float32 whatever its parameters are."""

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))
        self.mixing = torch.eye(n_features)

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", dist.Normal(self.loc[k] @ self.mixing, 1.0).to_event(1), obs=x)

    def guide(self, x):
        pass


def test_a_story_that_cannot_compute_in_float64_is_refused_and_left_as_it_was():
    story = Single(2, 2)
    with pytest.raises(
        ValueError, match=r"columns 0, 1 .* Single does not compute in float64 .*subtract these columns"
    ):
        pc.fit(story, plots()[0])
    assert story.dtype == torch.float32


def test_scores_in_float32_say_that_they_do_not_tell_rows_apart():
    x, _ = plots()
    centred = x - x.mean(0)
    story = pc.models.GaussianMixture(2, 2)
    pc.fit(story, centred)
    assert story.dtype == torch.float32
    for score in (pc.predict, pc.log_likelihood, pc.responsibilities, pc.elbo):
        score(story, centred)
        with pytest.warns(pc.PrecisionWarning, match=r"columns 0, 1: take story\.double\(\)"):
            score(story, x)
    pc.predict(story.double(), x)


def columns(*values):
    return opened(np.stack([np.asarray(v, dtype=np.float64) for v in values], 1))


RNG = np.random.default_rng(1)
CALM = {
    "unit": RNG.normal(size=5000),
    "years": RNG.integers(1950, 2020, 5000),
    "a thousand, one apart": 1000 + RNG.normal(size=5000),
    "pixels": RNG.integers(0, 256, 5000),
    "cauchy": RNG.standard_cauchy(5000),
    "log-normal": np.exp(8 * RNG.normal(size=5000)),
    "one outlier": np.r_[1e9, RNG.normal(size=4999)],
    "constant": np.full(5000, 1e7),
    "constant but for rounding": 0.1 + 1e-17 * RNG.normal(size=5000),
    "few values but for rounding": 100 + RNG.integers(0, 5, 5000) * (1 + 1e-15 * RNG.normal(size=5000)),
    "counts": RNG.poisson(1e5, 5000),
    "thousands of kilometres": RNG.uniform(4e6, 6e6, 5000),
}
FAR = {
    "map metres": 4.5e6 + RNG.normal(size=5000),
    "seconds of a day": 1.7e9 + RNG.uniform(0, 86_400, 5000),
    "tight plots, kilometres apart": 4.5e6 + 1e3 * RNG.integers(0, 50, 5000) + RNG.normal(0, 0.05, 5000),
    "next to constant": 1e6 + 1e-3 * RNG.normal(size=5000),
    "below zero": -4.5e6 + RNG.normal(size=5000),
    "some missing": np.where(RNG.random(5000) < 0.3, np.nan, 4.5e6 + RNG.normal(size=5000)),
}


@pytest.mark.parametrize("name", CALM)
def test_columns_that_float32_holds_well_enough_raise_no_alarm(name):
    assert far_columns(columns(RNG.normal(size=5000), CALM[name])) == []


@pytest.mark.parametrize("name", FAR)
def test_columns_that_it_does_not_are_found(name):
    assert far_columns(columns(RNG.normal(size=5000), FAR[name])) == [1]
