"""Columns of wild scale are warned of by name, where a story assumes about unit scale and nowhere else."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch import nn

import probclust as pc
from probclust.fitting import fitting
from probclust.likelihoods import Mixed

SMALL = {"hidden": (4,), "latent_dim": 2}
QUICK = {"recipe": [pc.SVI(epochs=1, learning_rate=1e-3)]}


@pytest.fixture
def quiet(monkeypatch):
    """Only warnings of scale count."""
    for name in ("warn_of_clusters", "warn_of_truncation"):
        monkeypatch.setattr(fitting, name, lambda *_, **__: None)


def wine():
    bunch = load_wine(as_frame=True)
    return bunch.data


def test_columns_are_named(quiet):
    x = wine()
    with pytest.warns(
        pc.FitWarning, match=r"columns 4 \('magnesium'\), 12 \('proline'\) \(root mean square 8\d\d in column 12"
    ):
        pc.fit(pc.models.VaDE(13, 3, **SMALL), x, **QUICK)
    with pytest.warns(pc.FitWarning, match=r"in columns 0, 1, 2, 3, 4 and 4 more \(.*divide pixels by 255"):
        pc.fit(pc.models.VaDE(9, 3, **SMALL), np.random.default_rng(0).integers(0, 256, (50, 9), np.uint8), **QUICK)
    with pytest.warns(pc.FitWarning, match=r"in column 1 \(range"):
        pc.fit(pc.models.VaDE(2, 3, **SMALL), np.random.default_rng(0).normal(size=(50, 2)) * [1, 1e-5], **QUICK)


class Normals(pc.Story):
    """A mixture as a stranger writes it."""

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", dist.Normal(self.loc[k][..., :2], 1.0).to_event(1), obs=x[:, :2])
            pyro.sample("counts", dist.Poisson(self.loc[k][..., 2:].exp()).to_event(1), obs=x[:, 2:])

    def guide(self, x):
        pass


STORIES = {
    "VaDE": lambda d: pc.models.VaDE(d, 3, **SMALL),
    "DEC": lambda d: pc.models.DEC(d, 3, **SMALL),
    "DAMIC": lambda d: pc.models.DAMIC(d, 3, **SMALL),
    "without EM": lambda d: pc.models.GaussianMixture(d, 3),
    "without k-means": lambda d: pc.models.DissimilarityMixture(d, 3),
}


@pytest.mark.parametrize("name", STORIES)
def test_stories_that_assume_unit_scale_warn_of_raw_columns_and_not_of_standardised_ones(name, quiet):
    with pytest.warns(pc.FitWarning, match="'proline'"):
        pc.fit(STORIES[name](13), wine(), **QUICK)
    pc.fit(STORIES[name](13), StandardScaler().fit_transform(wine()), **QUICK)


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_mixtures_that_start_from_the_rows_take_any_scale(covariance_type, quiet):
    pc.fit(pc.models.GaussianMixture(13, 3, covariance_type), wine())
    pc.fit(pc.models.DissimilarityMixture(13, 3), wine())


def test_counts_categories_and_binary_columns_have_their_own_scale(quiet):
    rng = np.random.default_rng(0)
    counts = rng.poisson(300.0, (60, 4))
    pc.fit(pc.models.VaDE(4, 3, likelihood="poisson", **SMALL), counts, **QUICK)
    table = np.c_[rng.normal(size=60), counts[:, :2], rng.integers(0, 90, 60)]
    blocks = [([0], "gaussian"), ([1, 2], "poisson"), ([3], pc.likelihoods.Categorical(1, 90))]
    pc.fit(pc.models.VaDE(4, 3, likelihood=Mixed(blocks), **SMALL), table, **QUICK)
    pc.fit(Normals(4, 3), np.c_[rng.normal(size=(60, 2)), counts[:, :2]], **QUICK)
    with pytest.warns(pc.FitWarning, match=r"in column 1 \("):
        pc.fit(Normals(4, 3), np.c_[rng.normal(size=(60, 2)) * [1, 100], counts[:, :2]], **QUICK)
    table[:, 0] *= 1000
    with pytest.warns(pc.FitWarning, match=r"in column 0 \('a'\)"):
        pc.fit(pc.models.VaDE(4, 3, likelihood=Mixed(blocks), **SMALL), pd.DataFrame(table, columns=[*"abcd"]), **QUICK)


@pytest.mark.parametrize("name", ["digits", "mnist", "usps", "har", "reuters10k"])
def test_the_data_sets_of_the_library_raise_no_alarm(name, quiet):
    if name != "digits" and "PROBCLUST_DATA" not in os.environ:
        pytest.skip("would be fetched")
    x = pc.data.load(name).x
    x = x[:500]
    pc.fit(pc.models.VaDE(x.shape[1], 3, **SMALL), x, **QUICK)
