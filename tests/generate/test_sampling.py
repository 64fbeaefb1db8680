"""Draws from a story come from the story, cluster by cluster, and go back to where they came from.

Statistical tests draw under fixed seeds; each states how often a right library would fail it under a new seed.
"""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn

import probclust as pc
from probclust.models import GaussianMixture, MixtureOfVAEs, VaDE
from probclust.story.columns import columns, rows_of
from probclust.story.joint import trace_joint
from tests.support.stories import (
    CASE_NAMES,
    CASES,
    LATENT,
    Amortised,
    FactorAnalysers,
    Mixed,
    Poissons,
    SharedFactors,
    VonMises,
)

every_case = pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
FALSE_ALARM = 1e-6


def separated(n_clusters=3, covariance_type="diag"):
    """A Gaussian mixture with unequal weights whose clusters lie far apart."""
    story = GaussianMixture(2, n_clusters, covariance_type)
    with torch.no_grad():
        story.weights.logits.copy_(torch.arange(n_clusters).float().mul(0.5))
        story.loc.copy_(10 * torch.arange(n_clusters).float()[:, None] * torch.tensor([1.0, -1.0]))
    return story


def separated_factors():
    story = FactorAnalysers(4, 3)
    with torch.no_grad():
        story.loc.copy_(12 * torch.eye(4)[:3])
        gain = torch.linalg.pinv(story.loading)
        story.encoder.copy_(gain)
        story.log_scale.fill_(-1.0)
    return story


def separated_poissons():
    story = Poissons(4, 3)
    story.log_rate.data = torch.tensor([[3.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 3.0, 0]])
    return story


def separated_angles():
    story = VonMises(2, 3)
    story.loc.data = torch.tensor([[0.0, 0.0], [2.0, 2.0], [-2.0, -2.0]])
    story.raw_concentration.data.fill_(8.0)
    return story


def separated_mixed():
    story = Mixed(3, 2, 3)
    story.loc.data = 8 * torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.0, 1.0]])
    return story


SEPARATED = [separated, separated_factors, separated_poissons, separated_angles, separated_mixed]


@pytest.mark.parametrize("build", SEPARATED, ids=lambda f: f.__name__)
def test_draws_of_a_cluster_are_predicted_back(build):
    story = build()
    for k in range(story.n_clusters):
        draws = pc.sample(story, 500, cluster=k, seed=k)
        assert (draws["cluster"] == k).all()
        assert (pc.predict(story, rows_of(story, draws)) == k).float().mean() >= 0.95


@pytest.mark.parametrize("planted", ["another cluster's", "clusters ignored"])
def test_predictions_find_planted_errors(planted):
    class Wrong(Poissons):
        def model(self, x):
            with pyro.plate("data", x.shape[0]):
                k = pyro.sample("cluster", dist.Categorical(logits=self.logits))
                if k.dim() == 1:  # drawing, not scoring
                    k = (k + 1) % 3 if planted.startswith("another") else torch.zeros_like(k)
                pyro.sample("x", dist.Poisson(self.log_rate[k].exp()).to_event(1), obs=x)

    story = Wrong(4, 3)
    story.log_rate.data = separated_poissons().log_rate.data
    rates = [(pc.predict(story, pc.sample(story, 200, cluster=k, seed=k)["x"]) == k).float().mean() for k in range(3)]
    assert min(rates) < 0.95


def test_clusters_are_drawn_by_their_weights():
    """Chi-square test on 20,000 draws."""
    story = separated(4)
    counts = pc.sample(story, 20_000, seed=0)["cluster"].bincount(minlength=4).numpy()
    weights = story.weights.logits.softmax(0).detach().double().numpy()
    assert stats.chisquare(counts, 20_000 * weights / weights.sum()).pvalue > FALSE_ALARM
    uniform = np.full(4, 5_000.0)
    assert stats.chisquare(counts, uniform).pvalue < FALSE_ALARM, "planted: the weights ignored"


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_draws_have_the_moments_of_their_cluster(covariance_type):
    """20,000 draws; each mean and covariance within 5 standard errors: 8 checks at 6e-7."""
    story = GaussianMixture(2, 2, covariance_type)
    if covariance_type == "full":
        story.lower.data[:, 1, 0] = 0.7
    x = pc.sample(story, 20_000, cluster=1, seed=0)["x"].double()
    law = story.component(torch.tensor(1))
    scale_tril = law.scale_tril if covariance_type == "full" else torch.diag(law.stddev)
    covariance = (scale_tril @ scale_tril.T).detach().double()
    mean_error = covariance.diagonal().sqrt() / math.sqrt(20_000)
    assert ((x.mean(0) - law.mean.detach()).abs() < 5 * mean_error).all()
    spread = (covariance.diagonal().outer(covariance.diagonal()) + covariance**2).sqrt() / math.sqrt(20_000)
    assert ((x.T.cov() - covariance).abs() < 5 * spread).all()


def test_latents_are_drawn_with_the_rows():
    """x less its mean given z is the noise: Kolmogorov-Smirnov test on 4 * 5,000 values."""
    story = FactorAnalysers(4, 3)
    draws = pc.sample(story, 5_000, seed=0)
    k, z = draws["cluster"], draws["z"]
    mean = story.loc[k] + (story.loading[k] @ z[..., None]).squeeze(-1)
    noise = ((draws["x"] - mean) / story.log_noise.exp()).detach().flatten().numpy()
    assert stats.kstest(noise, "norm").pvalue > FALSE_ALARM
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > FALSE_ALARM


@every_case
def test_draws_of_every_site_repeat_and_fit_back(case):
    story = case.build()
    random = torch.get_rng_state()
    draws = pc.sample(story, 9, seed=3)
    assert torch.equal(torch.get_rng_state(), random)
    assert list(draws) == ["cluster", *(["z"] if case.name in LATENT else []), *case.observed]
    assert all(len(value) == 9 and not value.requires_grad for value in draws.values())
    again = pc.sample(story, 9, seed=3)
    assert all(torch.equal(value, again[name]) for name, value in draws.items())
    assert torch.isfinite(pc.log_joint(story, rows_of(story, draws))).all()
    pc.sample(story, 9)
    assert not torch.equal(torch.get_rng_state(), random), "seed=None draws from the caller's state"


@every_case
def test_each_row_may_have_its_cluster(case):
    wanted = [2, 0, 1, 1, 0]
    for given in (wanted, tuple(wanted), np.array(wanted), torch.tensor(wanted)):
        assert pc.sample(case.build(), 5, cluster=given, seed=0)["cluster"].tolist() == wanted


@pytest.mark.parametrize(
    ("cluster", "error", "message"),
    [
        (3, ValueError, r"cluster must lie in 0\.\.2, got \[3\]"),
        (-1, ValueError, r"cluster must lie in 0\.\.2"),
        ([0, 1], ValueError, r"one integer or n=5 of them, got shape \(2,\)"),
        ([[0, 1, 2, 0, 1]], ValueError, "one integer or n=5"),
        (0.5, TypeError, "cluster must be an integer"),
        (True, TypeError, "cluster must be an integer"),
    ],
)
def test_wrong_clusters_are_refused(cluster, error, message):
    with pytest.raises(error, match=message):
        pc.sample(Poissons(4, 3), 5, cluster=cluster)


@pytest.mark.parametrize("n", [0, -1, 2.5, True])
def test_wrong_numbers_are_refused(n):
    with pytest.raises(ValueError, match="n must be an integer of at least 1"):
        pc.sample(Poissons(4, 3), n)


def test_what_cannot_be_sampled_says_so():
    class Gated(Poissons):
        conditional = True

    with pytest.raises(ValueError, match="conditions on x"):
        pc.sample(Gated(4, 3), 5)
    with pytest.raises(TypeError, match=r"expected a probclust\.Story"):
        pc.sample(Poissons, 5)


def test_a_conditional_story_draws_from_its_own_generative_model():
    class Gated(Poissons):
        conditional = True

        def generative(self, x):
            return self.model(x)

    story = Gated(4, 3)
    plain = Poissons(4, 3)
    plain.load_state_dict(story.state_dict())
    assert torch.equal(pc.sample(story, 5, cluster=2, seed=0)["x"], pc.sample(plain, 5, cluster=2, seed=0)["x"])


def test_min_posterior_keeps_the_sure_draws_and_counts_the_others():
    story = GaussianMixture(2, 3, "diag")  # overlapping
    draws = pc.sample(story, 300, cluster=[0, 1, 2] * 100, seed=0, min_posterior=0.6)
    assert draws["cluster"].tolist() == [0, 1, 2] * 100
    own = pc.responsibilities(story, draws["x"]).gather(1, draws["cluster"][:, None])
    assert (own >= 0.6).all()
    plain = pc.sample(story, 3000, cluster=[0, 1, 2] * 1000, seed=1)
    sure = pc.responsibilities(story, plain["x"]).gather(1, plain["cluster"][:, None]) >= 0.6
    # Draws until 300 are kept: 300 (1 - p) / p rejected for one p; p differs between clusters, so add them up.
    expected = sum(100 / sure[k::3].float().mean() for k in range(3)) - 300
    assert draws.rejected == pytest.approx(float(expected), rel=0.35)
    assert pc.sample(story, 10, seed=0, min_posterior=0.0).rejected == 0
    assert pc.sample(story, 10, seed=0).rejected == 0


def test_min_posterior_out_of_reach_stops():
    story = Poissons(4, 2)
    story.log_rate.data[1] = story.log_rate.data[0]
    story.logits.data.zero_()
    with pytest.raises(RuntimeError, match=r"only 0 of \d+ draws reach min_posterior=0.9"):
        pc.sample(story, 5, seed=0, min_posterior=0.9)
    for wrong in (-0.1, 1.0, 2):
        with pytest.raises(ValueError, match=r"min_posterior must be a number in \[0, 1\)"):
            pc.sample(story, 5, min_posterior=wrong)


# Columns, reconstructions, embeddings


class Permuted(Mixed):
    """Its two sites read columns in an order of their own, and leave one out."""

    BINARY, REAL = (4, 0), (3, 1, 5)

    def __init__(self):
        super().__init__(2, 3, n_clusters=3)
        self.n_features = 6

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(logits=self.logits))
            binary = dist.Bernoulli(logits=self.binary_logits[k]).to_event(1)
            pyro.sample("answers", binary, obs=x[:, self.BINARY])
            real = dist.Normal(self.loc[k], self.log_scale[k].exp()).to_event(1)
            pyro.sample("measures", real, obs=x[:, self.REAL])


def test_permuted_columns_find_their_places():
    story = Permuted()
    found = columns(story)
    assert {name: where.tolist() for name, where in found.items()} == {"answers": [4, 0], "measures": [3, 1, 5]}
    x = torch.randn(7, 6)
    x[:, (0, 4)] = torch.bernoulli(torch.full((7, 2), 0.5))
    k = pc.predict(story, x)
    expected = torch.zeros(7, 6)
    expected[:, (4, 0)] = story.binary_logits[k].sigmoid().detach()
    expected[:, (3, 1, 5)] = story.loc[k].detach()
    torch.testing.assert_close(pc.reconstruct(story, x), expected)
    draws = pc.sample(story, 4, seed=0)
    rows = rows_of(story, draws)
    assert torch.equal(rows[:, (4, 0)], draws["answers"])
    assert torch.equal(rows[:, (3, 1, 5)], draws["measures"])
    assert (rows[:, 2] == 0).all()


@pytest.mark.parametrize("n_features", [1, 2, 5])
@pytest.mark.parametrize(
    "transformation",
    [lambda x: 2 * x, lambda x: x + 1, lambda x: (x > 0.5).to(x), lambda x: x / 255, torch.log1p, lambda x: -x],
)
def test_a_transformation_does_not_pass_for_columns(transformation, n_features):
    class Transformed(Poissons):
        def model(self, x):
            super().model(transformation(x))

    with pytest.raises(ValueError, match="site 'x' observes a transformation of x"):
        columns(Transformed(n_features, 3))


def test_a_single_column_without_an_event_is_found():
    class OneColumn(Poissons):
        def model(self, x):
            with pyro.plate("data", x.shape[0]):
                k = pyro.sample("cluster", dist.Categorical(logits=self.logits))
                pyro.sample("count", dist.Poisson(self.log_rate[k, 0].exp()), obs=x[:, 0])
                pyro.sample("kind", dist.Categorical(logits=self.log_rate[k]), obs=x[:, 1].long())

    story, x = OneColumn(4, 3), torch.randint(0, 4, (6, 4)).float()
    assert {name: where.tolist() for name, where in columns(story).items()} == {"count": [0], "kind": [1]}
    k = pc.predict(story, x)
    rebuilt = pc.reconstruct(story, x)
    torch.testing.assert_close(rebuilt[:, 0], story.log_rate[k, 0].exp().detach())
    assert torch.equal(rebuilt[:, 1].long(), story.log_rate[k].argmax(1)), "the mode, as a category has no mean"
    assert rows_of(story, pc.sample(story, 5, seed=0)).shape == (5, 4)


def test_reconstructions_go_through_the_guides_mean():
    story, x = separated_factors(), torch.randn(6, 4)
    k = pc.predict(story, x)
    z = (story.encoder[k] @ (x - story.loc[k])[..., None]).detach()
    torch.testing.assert_close(pc.embed(story, x), z.squeeze(-1))
    torch.testing.assert_close(pc.reconstruct(story, x), (story.loc[k] + (story.loading[k] @ z).squeeze(-1)).detach())


def test_a_story_without_latents_embeds_by_its_log_joint():
    story, x = Poissons(4, 3), torch.ones(6, 4)
    table = pc.log_joint(story, x)
    torch.testing.assert_close(pc.embed(story, x), table - table.mean(1, keepdim=True))


def test_several_latents_stand_side_by_side():
    class Two(SharedFactors):
        def model(self, x):
            super().model(x)
            with pyro.plate("data", x.shape[0]):
                pyro.sample("w", dist.Normal(0.0, 1.0))

        def guide(self, x):
            super().guide(x)
            with pyro.plate("data", x.shape[0]):
                pyro.sample("w", dist.Normal(x[:, 0], 1.0))

    story, x = Two(4, 3), torch.randn(5, 4)
    assert pc.embed(story, x).shape == (5, 3)
    torch.testing.assert_close(pc.embed(story, x)[:, 2], x[:, 0])
    assert pc.sample_posterior(story, x, draws=2)["w"].shape == (2, 5)


# Posterior draws


@every_case
def test_posterior_draws_have_their_shapes_and_repeat(case):
    story, x = case.build(), case.rows()
    draws = pc.sample_posterior(story, x, draws=4, seed=0)
    assert draws["cluster"].shape == (4, len(x))
    assert ("z" in draws) == (case.name in LATENT)
    if "z" in draws:
        assert draws["z"].shape == (4, len(x), 2)
    again = pc.sample_posterior(story, x, draws=4, seed=0)
    assert all(torch.equal(value, again[name]) for name, value in draws.items())


def test_posterior_clusters_are_drawn_by_the_responsibilities():
    """4,000 draws of 5 rows, each share within 5 standard errors: 15 checks at 6e-7."""
    story, x = Poissons(4, 3), torch.poisson(torch.full((5, 4), 1.5))
    probabilities = pc.responsibilities(story, x)
    draws = pc.sample_posterior(story, x.repeat(400, 1), draws=10, seed=0)["cluster"].reshape(-1, 5)
    shares = nn.functional.one_hot(draws, 3).float().mean(0)
    error = (probabilities * (1 - probabilities) / 4_000).sqrt()
    assert ((shares - probabilities).abs() <= 5 * error + 1e-3).all()


def test_posterior_latents_that_all_clusters_share_follow_the_guide():
    """Kolmogorov-Smirnov test on 2 * 6,000 values."""
    story, x = SharedFactors(4, 3), torch.randn(3, 4)
    z = pc.sample_posterior(story, x.repeat(200, 1), draws=10, seed=0)["z"].reshape(-1, 3, 2)
    standard = (z - x @ story.encoder[0].T) / story.log_scale[0].exp()
    assert stats.kstest(standard.detach().flatten().numpy(), "norm").pvalue > FALSE_ALARM


def test_posterior_latents_belong_to_their_cluster():
    """z and the cluster together: the mean of z where cluster = k is E[r_k z_k], r the softmax of the log joint.

    40,000 draws of one row against as many passes, within 5 standard errors: 6 checks at 6e-7.
    """
    story, x = Amortised(4, 3), torch.randn(1, 4).expand(40_000, 4)
    draws = pc.sample_posterior(story, x, seed=0)
    chosen = nn.functional.one_hot(draws["cluster"][0], 3)[..., None] * draws["z"][0][:, None]  # (rows, K, L)
    with torch.no_grad():
        joint = trace_joint(story.model, story.guide, x)
        expected = joint.table.softmax(1)[..., None] * joint.guide["z"].value.transpose(0, 1)
        error = (chosen.var(0) + expected.var(0)).sqrt() / 200
        assert ((chosen.mean(0) - expected.mean(0)).abs() < 5 * error).all()
        other = joint.table.softmax(1)[..., None] * joint.guide["z"].value.roll(1, 0).transpose(0, 1)
        assert ((chosen.mean(0) - other.mean(0)).abs() > 5 * error).any(), "planted: another cluster's z"


@pytest.mark.parametrize(
    "build",
    [
        lambda: VaDE(6, 3, latent_dim=2, hidden=(5,)),
        lambda: MixtureOfVAEs(6, 3, latent_dim=2, hidden=(5,)),
        lambda: MixtureOfVAEs(6, 3, latent_dim=2, hidden=(5,), likelihood="bernoulli"),
    ],
)
def test_our_deep_stories_sample_reconstruct_and_embed(build):
    story, x = build(), torch.rand(8, 6)
    draws = pc.sample(story, 8, cluster=[0, 1, 2, 0, 1, 2, 0, 1], seed=0)
    assert {name: tuple(value.shape) for name, value in draws.items()} == {"cluster": (8,), "z": (8, 2), "x": (8, 6)}
    assert pc.reconstruct(story, x).shape == (8, 6)
    assert pc.embed(story, x).shape == (8, 2)
    assert pc.sample_posterior(story, x, 3)["z"].shape == (3, 8, 2)


class OwnGuide(pc.Story):
    """A global latent with a wide guide of the user's own."""

    def __init__(self, n_clusters=2):
        super().__init__(n_features=1, n_clusters=n_clusters)

    def model(self, x):
        mu = pyro.sample("mu", dist.Normal(0.0, 100.0))
        with pyro.plate("data", len(x)):
            pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            z = pyro.sample("z", dist.Normal(mu, 0.01).expand([1]).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.01).to_event(1), obs=x)

    def guide(self, x):
        mu = pyro.sample("mu", dist.Normal(0.0, 100.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(mu, 0.01).expand([len(x), 1]).to_event(1))


@pytest.mark.parametrize("arguments", [{}, {"min_posterior": 0.0}])
def test_one_sample_has_one_draw_of_the_global_latents_whatever_its_size(arguments, monkeypatch):
    monkeypatch.setattr("probclust.story.chunks.CHUNK_ELEMENTS", 64 * 64)  # a few rows for each chunk
    story = OwnGuide(n_clusters=16)
    x = pc.sample(story, 200, seed=0, **arguments)["x"]
    assert x.std() < 0.1
    other = pc.sample(story, 200, seed=1, **arguments)["x"]
    assert (other.mean() - x.mean()).abs() > 0.1


def test_one_posterior_draw_has_one_draw_of_the_global_latents_for_all_rows(monkeypatch):
    monkeypatch.setattr("probclust.story.chunks.CHUNK_ELEMENTS", 64 * 64)
    z = pc.sample_posterior(OwnGuide(n_clusters=16), torch.randn(200, 1), draws=3, seed=0)["z"]
    assert (z.std(1) < 0.1).all()
    assert z.mean(1).std() > 0.1
