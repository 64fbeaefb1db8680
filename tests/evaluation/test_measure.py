from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import probclust as pc
from probclust.evaluation.measure import measure_of, why_no_density
from tests.support.stories import CASES, Poissons

MEASURES = {"poissons": "discrete", "mixed": "columns 3 discrete, 2 continuous"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_measure_is_told_column_by_column(case):
    story, x = case.build(), case.rows()
    assert str(measure_of(story, x)) == MEASURES.get(case.name, "continuous")
    assert why_no_density(story, x) is None


class Log(pc.Story):
    """Observes a transformation of x, or a part of it."""

    def __init__(self, n_features, n_clusters, part=False):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.part = part
        self.loc = torch.nn.Parameter(torch.randn(n_clusters, 1 if part else n_features))

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            observed = x[:, 1:2] if self.part else (x > 0.5).to(x.dtype)
            pyro.sample("x", dist.Normal(self.loc[k], 1.0).to_event(1), obs=observed)

    def guide(self, x):
        pass


def test_a_transformation_of_x_is_a_measure_of_its_own():
    x = torch.rand(6, 3)
    assert "transformation of x by Log" in str(measure_of(Log(3, 2), x))
    assert measure_of(Log(3, 2), x) == measure_of(Log(3, 4), x)


def test_columns_that_no_site_observes_are_told():
    assert measure_of(Log(3, 2, part=True), torch.rand(6, 3)).kinds == ("unobserved", "continuous", "unobserved")


def test_grey_under_a_bernoulli_is_no_density_wherever_it_stands():
    story = pc.models.VaDE(4, 2, latent_dim=2, hidden=(3,), likelihood="bernoulli")
    x = torch.bernoulli(torch.full((50, 4), 0.5))
    assert why_no_density(story, x) is None
    x[40, 2] = 0.25
    assert why_no_density(story, x) == "site 'x' observes 0.25, outside the support of Bernoulli"


@pytest.mark.parametrize(("flag", "value"), [("is_density", False), ("conditional", True)])
def test_a_story_says_that_it_is_no_density(flag, value):
    cls = type("Scores", (Poissons,), {flag: value})
    assert flag in why_no_density(cls(4, 2), torch.ones(5, 4))
