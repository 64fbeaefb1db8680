"""A tempered distribution has the density of the plain one to the power 1 / T, up to a constant."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch.nn.functional import normalize

import probclust
import probclust as pc
from probclust.distributions.blocks import Blocks
from probclust.distributions.diagonal_normal import DiagonalNormal
from probclust.distributions.directions import PowerSpherical, VonMisesFisher
from probclust.distributions.norms import NormExponential
from probclust.distributions.observed import observed
from probclust.distributions.tempered import tempered
from probclust.distributions.tempered_counts import TemperedCounts
from probclust.likelihoods import Multinomial
from probclust.models import GaussianMixture, MixtureOfVAEs, VaDE
from tests.support.stories import CASE_NAMES, CASES, FactorAnalysers, Poissons

FACTOR = torch.tensor([[1.0, 0.0], [0.7, 0.5]])
CLOSED = {
    "normal": dist.Normal(torch.tensor([1.0, -2.0]), 0.7),
    "independent": dist.Normal(torch.tensor([1.0, -2.0]), 0.7).to_event(1),
    "log-normal": dist.LogNormal(torch.tensor([1.0, -2.0]), 0.7),
    "half-normal": dist.HalfNormal(torch.tensor(0.7)),
    "diagonal": DiagonalNormal(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0])),
    "multivariate": dist.MultivariateNormal(torch.ones(2), scale_tril=FACTOR),
    "low-rank": dist.LowRankMultivariateNormal(torch.ones(3), torch.ones(3, 1), torch.tensor([0.5, 1.0, 2.0])),
    "laplace": dist.Laplace(torch.tensor(1.0), 2.0),
    "student": dist.StudentT(torch.tensor(4.0), 1.0, 2.0),
    "multivariate-student": dist.MultivariateStudentT(torch.tensor(6.0), torch.ones(2), FACTOR),
    "exponential": dist.Exponential(torch.tensor(2.0)),
    "gamma": dist.Gamma(torch.tensor(3.0), 2.0),
    "beta": dist.Beta(torch.tensor(3.0), 2.0),
    "dirichlet": dist.Dirichlet(torch.tensor([2.0, 3.0, 4.0])),
    "uniform": dist.Uniform(torch.tensor(-1.0), 2.0),
    "bernoulli": dist.Bernoulli(torch.tensor(0.3)),
    "continuous-bernoulli": dist.ContinuousBernoulli(torch.tensor(0.3)),
    "categorical": dist.Categorical(torch.tensor([0.2, 0.3, 0.5])),
    "one-hot": dist.OneHotCategorical(torch.tensor([0.2, 0.3, 0.5])),
    "von-mises": dist.VonMises(torch.tensor(1.0), 4.0),
    "von-mises-fisher": VonMisesFisher(normalize(torch.tensor([1.0, 2.0, 3.0]), dim=0), torch.tensor(4.0)),
    "power-spherical": PowerSpherical(normalize(torch.tensor([1.0, 2.0, 3.0]), dim=0), torch.tensor(4.0)),
    "manhattan": NormExponential(torch.tensor([1.0, -2.0]), torch.tensor(2.0), 1.0),
    "some-observed": observed(DiagonalNormal(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0]))),
    "multivariate-some-observed": observed(dist.MultivariateNormal(torch.ones(2), scale_tril=FACTOR)),
    "blocks": Blocks(
        [[1], [0]], [dist.Normal(torch.ones(1), 2.0).to_event(1), dist.Gamma(3.0, torch.ones(1)).to_event(1)]
    ),
    "masked": dist.Normal(torch.tensor([1.0, -2.0]), 0.7).mask(torch.tensor([True, False])),
}


@pytest.mark.parametrize("temperature", [0.3, 2.5])
@pytest.mark.parametrize("name", CLOSED)
def test_the_density_is_a_power(name, temperature):
    plain = CLOSED[name]
    law = tempered(plain, temperature)
    x = plain.sample([50])
    excess = law.log_prob(x) - plain.log_prob(x) / temperature
    torch.testing.assert_close(excess, excess[:1].expand_as(excess), atol=2e-4, rtol=1e-4)
    assert law.batch_shape == plain.batch_shape
    assert law.event_shape == plain.event_shape


@pytest.mark.parametrize("temperature", [0.4, 2.0])
@pytest.mark.parametrize(
    "plain",
    [
        dist.Poisson(torch.tensor(3.0)),
        dist.NegativeBinomial(5.0, torch.tensor(0.4)),
        dist.ZeroInflatedPoisson(torch.tensor(4.0), gate=torch.tensor(0.3)),
        dist.Geometric(torch.tensor(0.4)),
        dist.Binomial(6, torch.tensor(0.4)),
    ],
    ids=lambda law: type(law).__name__,
)
def test_counts_are_drawn_from_the_power(plain, temperature):
    """Chi-square on 20,000 draws against the power of the mass function, tails joined: 10 checks at 1e-6."""
    law = tempered(plain, temperature)
    assert isinstance(law, TemperedCounts)
    counts = law.sample([20_000]).long().bincount(minlength=400)[:400].double()
    top = 6 if isinstance(plain, dist.Binomial) else 399
    mass = (plain.log_prob(torch.arange(top + 1.0)).double() / temperature).softmax(0)
    expected = torch.zeros(400, dtype=torch.float64)
    expected[: top + 1] = 20_000 * mass
    big = expected >= 5
    observed = [*counts[big].tolist(), counts[~big].sum().item()]
    wanted = [*expected[big].tolist(), expected[~big].sum().item()]
    if wanted[-1] < 5:
        observed[-2:], wanted[-2:] = [sum(observed[-2:])], [sum(wanted[-2:])]
    assert stats.chisquare(observed, wanted, sum_check=False).pvalue > 1e-6


@pytest.mark.parametrize("plain", [dist.Weibull(2.0, 1.5), dist.HalfCauchy(1.0), dist.Gumbel(0.0, 1.0)])
def test_families_that_torch_computes_by_a_transform_are_no_flows(plain):
    with pytest.raises(NotImplementedError, match=f"{type(plain).__name__} has no known form"):
        tempered(plain, 0.5)


def test_words_are_tempered_and_totals_are_not():
    law = Multinomial(3, mean_total=200.0)(torch.tensor([[0.2, 0.3, 0.5]]).log().expand(500, 3))
    cold = tempered(law, 0.5).sample()
    shares = (cold / cold.sum(1, keepdim=True).clamp(min=1)).mean(0)
    torch.testing.assert_close(shares, torch.tensor([0.04, 0.09, 0.25]) / 0.38, atol=0.02, rtol=0)
    assert stats.ks_2samp(cold.sum(1).detach().numpy(), law.sample().sum(1).detach().numpy()).pvalue > 1e-6


def test_draws_of_a_gaussian_mixture_have_the_tempered_covariance():
    """20,000 draws, each mean and variance within 5 standard errors: 4 checks at 6e-7."""
    story = GaussianMixture(2, 3, "diag")
    x = pc.sample(story, 20_000, cluster=1, seed=0, temperature=0.25)["x"].double()
    law = story.component(torch.tensor(1))
    variance = 0.25 * law.variance.detach().double()
    assert ((x.mean(0) - law.mean.detach()).abs() < 5 * (variance / 20_000).sqrt()).all()
    assert ((x.var(0) - variance).abs() < 5 * variance * math.sqrt(2 / 20_000)).all()


def test_latents_and_noise_are_both_tempered_or_the_named_one_alone():
    story = FactorAnalysers(4, 3)
    for temperature, of_z, of_x in ((0.25, 0.25, 0.25), ({"z": 0.25}, 0.25, 1), ({"x": 4.0}, 1, 4)):
        draws = pc.sample(story, 5_000, seed=0, temperature=temperature)
        k, z = draws["cluster"], draws["z"]
        mean = story.loc[k] + (story.loading[k] @ z[..., None]).squeeze(-1)
        noise = ((draws["x"] - mean) / story.log_noise.exp()).detach().flatten().numpy()
        assert stats.kstest(noise, "norm", (0, of_x**0.5)).pvalue > 1e-6
        assert stats.kstest(z.flatten().numpy(), "norm", (0, of_z**0.5)).pvalue > 1e-6


def test_clusters_keep_their_weights_unless_named():
    story = Poissons(4, 3)
    story.logits.data = torch.tensor([0.0, 1.0, 2.0])
    for temperature, logits in ((0.5, story.logits), ({"cluster": 0.5}, 2 * story.logits)):
        counts = pc.sample(story, 20_000, seed=0, temperature=temperature)["cluster"].bincount().numpy()
        weights = logits.detach().double().softmax(0).numpy()
        assert stats.chisquare(counts, 20_000 * weights, sum_check=False).pvalue > 1e-6


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_every_story_draws_at_a_temperature(case):
    story = case.build()
    assert torch.equal(
        pc.sample(story, 7, seed=3, temperature=1)[case.observed[0]], pc.sample(story, 7, seed=3)[case.observed[0]]
    )
    draws = pc.sample(story, 7, seed=3, temperature=0.5, min_posterior=0.01)
    assert {len(value) for value in draws.values()} == {7}
    assert {name: value.dtype for name, value in draws.items()} == {
        name: value.dtype for name, value in pc.sample(story, 7, seed=3).items()
    }


@pytest.mark.parametrize(
    "build",
    [
        lambda: VaDE(6, 3, latent_dim=2, hidden=(5,), prior="cosine", likelihood="bernoulli"),
        lambda: VaDE(6, 3, latent_dim=2, hidden=(5,), prior="manhattan"),
        lambda: MixtureOfVAEs(6, 3, latent_dim=2, hidden=(5,)),
    ],
)
def test_cold_draws_of_our_stories_are_their_modes(build):
    story = build()
    draws = pc.sample(story, 3, cluster=[0, 1, 2], seed=0, temperature={"z": 1e-10, "x": 1e-10})
    with torch.no_grad():
        if isinstance(story, VaDE):
            mode = story.codec.decode(story.prior.density(torch.arange(3)).mode).mean
        else:
            mode = story.experts.decode(torch.zeros(3, 2), torch.arange(3)).mean
    if isinstance(story, VaDE) and story.codec.on_sphere:
        mode = mode.round()
    torch.testing.assert_close(draws["x"], mode, atol=1e-3, rtol=0)


@pytest.mark.parametrize("wrong", [0, -1.0, float("inf"), float("nan"), True, "cold", {"z": 0}])
def test_wrong_temperatures_are_refused(wrong):
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        pc.sample(FactorAnalysers(4, 3), 3, temperature=wrong)


def test_what_has_no_power_says_so():
    with pytest.raises(ValueError, match=r"temperature names \['w'\]; the sites are \['cluster', 'x', 'z'\]"):
        pc.sample(FactorAnalysers(4, 3), 3, temperature={"w": 0.5})
    with pytest.raises(ValueError, match="take one below 5"):
        tempered(CLOSED["student"], 6.0)
    with pytest.raises(ValueError, match="take a higher one"):
        tempered(dist.Gamma(torch.tensor(0.5), 1.0), 0.4)

    class Odd(Poissons):
        def model(self, x):
            import pyro

            with pyro.plate("data", x.shape[0]):
                k = pyro.sample("cluster", dist.Categorical(logits=self.logits))
                pyro.sample("x", dist.Cauchy(self.log_rate[k], 1.0).to_event(1), obs=x)

    with pytest.raises(ValueError, match="site 'x': Cauchy has no known form at a temperature"):
        pc.sample(Odd(4, 3), 3, temperature=0.5)


def test_somebodys_own_families_have_the_form_they_say():
    class Doubled(dist.Normal):
        def tempered(self, temperature):
            return dist.Normal(self.loc, 2 * self.scale * temperature)

    class Registered(DiagonalNormal):
        pass

    @probclust.distributions.tempered.tempered.register(Registered)  # as the refusal of an unknown family says
    def _(fn, temperature):
        return dist.Delta(fn.loc, event_dim=1)

    law = Doubled(torch.zeros(3), 1.0)
    assert tempered(law.mask(torch.tensor(True)).to_event(1), 0.25).base_dist.base_dist.scale.tolist() == [0.5] * 3
    assert isinstance(tempered(Registered(torch.zeros(3), torch.ones(1)), 0.25), dist.Delta)
