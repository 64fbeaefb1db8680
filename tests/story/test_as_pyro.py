"""Distributions of `torch.distributions` in a story count as Pyro's; what is none is refused by its site."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import distributions as td
from torch import nn

import probclust as pc
from probclust.story.as_pyro import as_pyro

NORMAL = td.Normal(torch.zeros(3), torch.ones(3))
LAWS = [
    NORMAL,
    td.Independent(NORMAL, 1),
    td.Categorical(logits=torch.tensor([0.0, 1.0])),
    td.LogNormal(torch.zeros(2), 1.0),
    td.TransformedDistribution(NORMAL, [td.ExpTransform()]),
    td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.Independent(td.Normal(torch.zeros(2, 3), 1.0), 1)),
    td.MultivariateNormal(torch.zeros(3), torch.eye(3)),
    td.Dirichlet(torch.ones(3)),
    td.Independent(td.Poisson(torch.ones(3)), 1),
    td.Uniform(torch.zeros(3), torch.arange(1.0, 4.0)),
    td.Gamma(torch.ones(3), 2.0),
    td.Beta(torch.ones(3), 2.0),
    td.StudentT(torch.full((3,), 4.0)),
    td.Binomial(5, logits=torch.zeros(3)),
    td.NegativeBinomial(5.0, logits=torch.zeros(3)),
    td.Multinomial(5, logits=torch.zeros(3)),
    td.OneHotCategorical(logits=torch.zeros(3)),
    td.RelaxedBernoulli(torch.tensor(0.5), logits=torch.zeros(3)),
    td.HalfCauchy(torch.ones(3)),
    td.Weibull(torch.ones(3), 2.0),
    td.Kumaraswamy(torch.ones(3), 2.0),
    td.LowRankMultivariateNormal(torch.zeros(3), torch.ones(3, 1), torch.ones(3)),
    td.LKJCholesky(3, torch.tensor(2.0)),
    td.VonMises(torch.tensor(0.0), torch.tensor(2.0)),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_pyros_distribution_has_the_same_draws_and_densities(law):
    alike = as_pyro(law, "x")
    assert isinstance(alike, dist.TorchDistribution | dist.torch_distribution.TorchDistributionMixin)
    assert type(law).__module__.startswith("torch.")
    torch.manual_seed(0)
    drawn = law.sample((5,))
    torch.manual_seed(0)
    assert torch.equal(alike.sample((5,)), drawn)
    assert torch.equal(alike.log_prob(drawn), law.log_prob(drawn))
    assert alike.expand((4, *law.batch_shape)).batch_shape == (4, *law.batch_shape)
    assert as_pyro(alike, "x") is alike


class Told(pc.Story):
    """A mixture with a latent for each row, all distributions from one of the two packages."""

    def __init__(self, laws=dist):
        super().__init__(n_features=3, n_clusters=2)
        self.laws = laws
        self.loc = nn.Parameter(torch.tensor([[-1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]))
        self.encoder = nn.Linear(3, 1)
        with torch.no_grad():
            for parameter in self.encoder.parameters():
                parameter.fill_(0.3)

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", self.laws.Categorical(torch.ones(2)))
            z = pyro.sample("z", self.laws.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", self.laws.Independent(self.laws.Normal(self.loc[k] + z[..., None], 1.0), 1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.laws.Normal(self.encoder(x).squeeze(1), 0.5))


FUNCTIONS = {
    "log_joint": pc.log_joint,
    "log_likelihood": lambda story, x: pc.log_likelihood(story, x, particles=5),
    "sample": lambda story, x: pc.sample(story, 6, seed=0)["x"],
    "sample colder": lambda story, x: pc.sample(story, 6, seed=0, temperature=0.5)["x"],
    "reconstruct": pc.reconstruct,
    "embed": pc.embed,
    "modes": lambda story, x: pc.modes(story),
    "impute": lambda story, x: pc.impute(story, x.masked_fill(x > 1, torch.nan), draws=3).x,
    "sample_posterior": lambda story, x: pc.sample_posterior(story, x, seed=0)["z"],
    "fit": lambda story, x: torch.tensor(pc.fit(story, x, epochs=3).losses()),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_every_function_takes_torchs_distributions_as_pyros(function):
    x = torch.randn(20, 3)
    assert torch.equal(function(Told(td), x), function(Told(dist), x))


class Normal(td.Normal):
    """Somebody's own, which is not torch's."""


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda loc: torch.randn, r"site 'x' draws from a builtin.*, which is no distribution; pass one of Pyro's"),
        (lambda loc: loc, r"site 'x' draws from a Tensor, which is no distribution"),
        (lambda loc: Normal(loc, 1.0), r"site 'x' draws from .*\.Normal, which is no Pyro distribution; derive"),
    ],
)
def test_what_is_no_distribution_is_refused_by_site(fn, words):
    class Wrong(Told):
        def model(self, x):
            with pyro.plate("data", len(x)):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(2)))
                pyro.sample("x", fn(self.loc[k]), obs=x)

        def guide(self, x):
            pass

    for function in (pc.log_joint, lambda story, x: pc.sample(story, 3), lambda story, x: pc.fit(story, x, epochs=1)):
        with pytest.raises(pc.ContractError, match=words):
            function(Wrong(), torch.randn(6, 3))
