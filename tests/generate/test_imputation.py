"""The missing part of a row is drawn from its distribution given the rest, where that is known in closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch.distributions import Laplace, MultivariateNormal, Normal

import probclust as pc
from probclust.distributions.incomplete import incomplete
from probclust.distributions.norms import NormExponential
from probclust.likelihoods import Categorical
from probclust.likelihoods import Mixed as Mixed_
from probclust.likelihoods.named import likelihoods_by_name
from probclust.models import DAMIC, DissimilarityMixture, GaussianMixture, MixtureOfVAEs, VaDE
from probclust.story.columns import rows_of
from tests.support.stories import CASE_NAMES, CASES, LATENT, FactorAnalysers, Mixed, Poissons, SharedFactors

NAN = torch.nan


def with_gaps(x, share=0.4):
    gaps = torch.rand(x.shape) < share
    gaps[0], gaps[1] = True, False  # a row of which nothing is known, and one of which all is
    return torch.where(gaps, NAN, x)


def gaussian_parts(log_weights, loc, covariance, row):
    """By hand, for a mixture of Gaussians: p(k | known), and mean and covariance of the rest given known and k."""
    seen = ~row.isnan()
    score, means, covariances = [], [], []
    for k in range(len(loc)):
        soo, smo = covariance[k][seen][:, seen], covariance[k][~seen][:, seen]
        law = MultivariateNormal(loc[k][seen], soo)
        score.append(log_weights[k] + law.log_prob(row[seen]))
        gain = smo @ torch.linalg.inv(soo)
        means.append(loc[k][~seen] + gain @ (row[seen] - loc[k][seen]))
        covariances.append(covariance[k][~seen][:, ~seen] - gain @ smo.T)
    score = torch.stack(score)
    return score.logsumexp(0), score.softmax(0), torch.stack(means), torch.stack(covariances)


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_a_gaussian_mixture_given_a_part_is_the_known_one(covariance_type, float64):
    """20,000 draws of one row: 2 shares, 4 means and 8 covariances within 5 standard errors (14 checks at 6e-7)."""
    story = GaussianMixture(4, 2, covariance_type)
    with torch.no_grad():
        story.weights.logits.copy_(torch.tensor([0.0, 0.5]))
        if covariance_type == "full":
            story.lower.copy_(0.6 * torch.randn(2, 4, 4))
    laws = [story.component(torch.tensor(k)) for k in range(2)]
    full = covariance_type == "full"
    covariance = torch.stack([law.covariance_matrix if full else torch.diag(law.variance) for law in laws]).detach()
    row = torch.tensor([0.3, NAN, -0.5, NAN])
    total, shares, means, covariances = gaussian_parts(
        story.weights.logits.log_softmax(0).detach(), story.loc.detach(), covariance, row
    )
    found = pc.impute(story, row[None], draws=20_000, seed=0)
    torch.testing.assert_close(found.responsibilities[0], shares)
    torch.testing.assert_close(found.log_likelihood[0], total)
    assert found.effective_size.tolist() == [1.0]
    assert (found.x[:, 0, [0, 2]] == row[[0, 2]]).all()
    for k in range(2):
        mine = found.x[found.cluster[:, 0] == k, 0][:, [1, 3]]
        assert abs(len(mine) / 20_000 - shares[k]) < 5 * (shares[k] * (1 - shares[k]) / 20_000) ** 0.5
        variance = covariances[k].diagonal()
        assert ((mine.mean(0) - means[k]).abs() < 5 * (variance / len(mine)).sqrt()).all()
        spread = ((variance.outer(variance) + covariances[k] ** 2) / len(mine)).sqrt()
        assert ((mine.T.cov() - covariances[k]).abs() < 5 * spread).all()


def linear(kind):
    """A mixture of factor analysers; the guide is right for whole rows (of `FactorAnalysers`) or crude."""
    story = kind(4, 3)
    with torch.no_grad():
        noise = 0.5
        story.log_noise.fill_(float(np.log(noise)))
        precision = torch.eye(2) + story.loading.mT @ story.loading / noise**2
        story.encoder.copy_(torch.linalg.inv(precision) @ story.loading.mT / noise**2)
        story.log_scale.copy_(torch.linalg.inv(precision).diagonal(dim1=1, dim2=2).sqrt().log())
        if kind is SharedFactors:
            story.log_scale.fill_(0.0)
        covariance = story.loading @ story.loading.mT + noise**2 * torch.eye(4)
    return story, covariance.detach()


@pytest.mark.parametrize("kind", [FactorAnalysers, SharedFactors])
def test_latents_are_weighted_right_whatever_the_guide(kind, float64):
    """10 rows, 40 times each: moments and bounds within 6 of their standard errors (40 checks at 5e-7)."""
    story, covariance = linear(kind)
    x = with_gaps(rows_of(story, pc.sample(story, 12, seed=1)))[2:]
    found = pc.impute(story, x.repeat_interleave(40, 0), draws=200, particles=500, seed=0)

    def check(estimates, truth):
        assert ((estimates.mean(0) - truth).abs() < 6 * estimates.std(0) / 40**0.5 + 1e-3).all()

    for i, row in enumerate(x):
        mine, gaps = slice(40 * i, 40 * i + 40), row.isnan()
        total, shares, means, covariances = gaussian_parts(
            story.logits.log_softmax(0).detach(), story.loc.detach(), covariance, row
        )
        check(found.log_likelihood[mine].exp() / total.exp(), torch.ones(()))
        check(found.responsibilities[mine], shares)
        if not gaps.any():
            continue
        check(found.mean[mine][:, gaps], shares @ means)
        second = shares @ (covariances.diagonal(dim1=1, dim2=2) + means**2)
        check(found.x[:, mine][..., gaps].square().mean(0), second)
        assert (found.std[mine][:, ~gaps] == 0).all()


def test_particles_find_the_cluster_that_the_missing_part_would_hide():
    """Two clusters that the known column cannot tell apart get their weights, however far the missing one moves."""
    story = FactorAnalysers(2, 2, latent_dim=1)
    with torch.no_grad():
        story.loc.copy_(torch.tensor([[0.0, -20.0], [0.0, 20.0]]))
        story.loading.zero_()
        story.encoder.zero_()
        story.log_scale.zero_()
        story.logits.copy_(torch.tensor([0.0, 1.0]))
    found = pc.impute(story, torch.tensor([[0.1, NAN]]), draws=4_000, seed=0)
    torch.testing.assert_close(found.responsibilities[0], story.logits.softmax(0).detach(), atol=1e-4, rtol=0)
    assert (found.x[:, 0, 1] > 0).float().mean() == pytest.approx(0.731, abs=0.035)  # five standard errors


def test_columns_of_several_sites_and_of_counts():
    story = Mixed(3, 2, 2)
    row = torch.tensor([[NAN, 1.0, NAN, 0.7, NAN]])
    found = pc.impute(story, row, draws=10_000, seed=0)
    binary = dist.Bernoulli(logits=story.binary_logits[:, 1]).log_prob(torch.tensor(1.0))
    real = Normal(story.loc[:, 0], story.log_scale[:, 0].exp()).log_prob(torch.tensor(0.7))
    shares = (story.logits.log_softmax(0) + binary + real).softmax(0).detach()
    torch.testing.assert_close(found.responsibilities[0], shares)
    expected = shares @ torch.cat([story.binary_logits.sigmoid(), story.loc], 1).detach()
    torch.testing.assert_close(found.mean[0, [0, 2, 4]], expected[[0, 2, 4]], atol=0.06, rtol=0)
    assert set(found.x[..., [0, 1, 2]].unique().tolist()) == {0.0, 1.0}
    counts = pc.impute(Poissons(4, 3), torch.tensor([[1.0, NAN, 2.0, 0.0]]), draws=500, seed=0).x
    assert (counts == counts.round()).all()


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_every_story_imputes(case):
    story, x = case.build(), with_gaps(case.rows())
    before = torch.get_rng_state()
    found = pc.impute(story, x, draws=3, particles=7, seed=0)
    assert torch.equal(before, torch.get_rng_state())
    assert found.x.shape == (3, *x.shape)
    assert found.cluster.shape == (3, len(x))
    known = ~x.isnan()
    assert torch.equal(found.x[:, known], x[known].expand(3, -1))
    assert torch.isfinite(found.x).all()
    torch.testing.assert_close(found.responsibilities.sum(1), torch.ones(len(x)))
    assert (found.effective_size <= (7.001 if case.name in LATENT else 1.0)).all()
    assert torch.equal(found.x, pc.impute(story, x, draws=3, particles=7, seed=0).x)
    assert torch.isfinite(pc.log_joint(story, found.x[0])).all()


def test_a_row_of_which_nothing_is_known_is_a_draw_of_the_story():
    """Kolmogorov-Smirnov on 2 * 4 * 3,000 values: 4 checks at 1e-6."""
    story, _ = linear(FactorAnalysers)
    found = pc.impute(story, torch.full((3_000, 4), NAN), draws=1, particles=40, seed=0)
    plain = pc.sample(story, 3_000, seed=1)["x"]
    for d in range(4):
        assert stats.ks_2samp(found.x[0, :, d].numpy(), plain[:, d].numpy()).pvalue > 1e-6
    torch.testing.assert_close(found.log_likelihood.exp().mean(), torch.tensor(1.0), atol=0.1, rtol=0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: VaDE(6, 3, latent_dim=2, hidden=(5,)),
        lambda: VaDE(6, 3, latent_dim=2, hidden=(5,), prior="cosine", likelihood="bernoulli"),
        lambda: MixtureOfVAEs(6, 3, latent_dim=2, hidden=(5,)),
        lambda: DissimilarityMixture(6, 3, "chebyshev"),
    ],
)
def test_our_stories_impute(build, monkeypatch):
    story, x = build(), with_gaps(torch.rand(9, 6))
    if isinstance(story, VaDE) and story.codec.on_sphere:
        x = torch.where(x.isnan(), x, x.round())
    found = pc.impute(story, x, draws=4, particles=5, seed=0)
    assert torch.isfinite(found.x).all()
    monkeypatch.setattr("probclust.generate.imputation.CHUNK_ELEMENTS", 3 * 64 * 5 * 2)  # two rows at a time
    parts = pc.impute(story, x, draws=4, particles=5, seed=0)
    assert parts.x.shape == found.x.shape
    assert torch.isfinite(parts.responsibilities).all()


def test_a_density_without_marginals_is_integrated(float64):
    """A Manhattan norm's entries are Laplace; 200 proposals, 400 times: within 5 standard errors."""
    law = NormExponential(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([2.0]), 1.0)
    value = torch.tensor([[0.5, NAN, NAN]]).expand(400, 3)
    exact = Laplace(torch.tensor(0.0), 0.5)
    incomplete_law = incomplete(law.expand([400]))
    estimates = incomplete_law.log_prob(value).exp()
    assert abs(estimates.mean() - exact.log_prob(torch.tensor(0.5)).exp()) < 5 * estimates.std() / 20
    drawn = incomplete_law.impute(value)
    assert (drawn[:, 0] == 0.5).all()
    for d in (1, 2):
        assert stats.kstest(drawn[:, d].numpy(), "laplace", (float(d), 0.5)).pvalue > 1e-6


def test_guides_that_take_nan_propose_from_it():
    class Masking(SharedFactors):
        def guide(self, x):
            with pyro.plate("data", x.shape[0]):
                self.saw_gaps = getattr(self, "saw_gaps", False) or bool(x.isnan().any())
                loc = x.nan_to_num() @ self.encoder[0].T
                pyro.sample("z", dist.Normal(loc, self.log_scale[0].exp()).to_event(1))

    story = Masking(4, 3)
    x = with_gaps(torch.randn(6, 4))
    assert torch.isfinite(pc.impute(story, x, draws=3, particles=5).x).all()
    assert story.saw_gaps


@pytest.mark.parametrize("likelihood", [*sorted(set(likelihoods_by_name()) - {"multinomial"}), "mixed"])
def test_every_likelihood_imputes(likelihood):
    part = (
        Mixed_([([2], "gaussian"), ([0], Categorical(1, 3)), ([1], "poisson")]) if likelihood == "mixed" else likelihood
    )
    story = VaDE(3, 2, latent_dim=2, hidden=(8,), likelihood=part)
    x = pc.sample(story, 4, seed=0, temperature=0.5)["x"].float()
    shown = torch.where(torch.rand(4, 3) < 0.4, NAN, x)
    found = pc.impute(story, shown, draws=3, particles=8)
    assert torch.isfinite(pc.log_joint(story, found.x.flatten(0, 1))).all()


@pytest.mark.parametrize("build", [GaussianMixture, VaDE, MixtureOfVAEs])
def test_stories_that_were_fitted_to_gaps_impute(build):
    story = build(4, 3, missing=True)
    found = pc.impute(story, with_gaps(torch.rand(5, 4)), draws=3, particles=8)
    assert torch.isfinite(found.x).all()


def test_blocks_that_were_fitted_to_gaps_impute(float64):
    """A constant decoder: a missing entry has the law of its block, and its draws that law's mean and variance."""
    blocks = Mixed_([([2], "poisson"), ([0, 1], "gaussian")])
    story = VaDE(3, 2, latent_dim=2, hidden=(4,), likelihood=blocks, missing=True).double()
    with torch.no_grad():
        for parameter in story.codec.decoder.parameters():
            parameter.zero_()
    law = story.codec.likelihood.base(torch.zeros(1, blocks.n_outputs))
    n = 4000
    found = pc.impute(story, [[0.3, NAN, NAN]], draws=n, particles=8)
    drawn = found.x[:, 0, 1:]
    assert (found.x[:, 0, 0] == 0.3).all()
    error = (drawn.mean(0) - law.mean[0, 1:]).abs() / drawn.std(0) * n**0.5
    assert (error < 4.5).all()  # false alarms: 1 in 70,000
    assert drawn[:, 1].var().item() == pytest.approx(law.mean[0, 2].item(), rel=0.15)  # a Poisson's


def test_frames_and_arrays_with_gaps_are_taken():
    story = Poissons(4, 3)
    frame = pd.DataFrame({"a": [1, None], "b": [2.0, 3.0], "c": [np.nan, 0.0], "d": [1, 1]}).convert_dtypes()
    from_frame = pc.impute(story, frame, draws=2, seed=0)
    assert torch.equal(from_frame.x, pc.impute(story, [[1, 2, NAN, 1], [NAN, 3, 0, 1]], draws=2, seed=0).x)
    assert from_frame.mean.shape == from_frame.std.shape == (2, 4)


def test_what_cannot_be_imputed_says_so():
    with pytest.raises(ValueError, match="conditions on x"):
        pc.impute(DAMIC(4, 3, 2, hidden=(8,), gate_hidden=(8,)), torch.ones(2, 4))
    with pytest.raises(ValueError, match="VonMisesFisher does not allow missing entries"):
        pc.impute(DissimilarityMixture(3, 2, "cosine"), torch.tensor([[0.6, 0.8, NAN]]))
    with pytest.raises(ValueError, match="expected 4 features"):
        pc.impute(Poissons(4, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="infinity"):
        pc.impute(Poissons(4, 3), torch.full((2, 4), torch.inf))
    for name in ("draws", "particles"):
        with pytest.raises(ValueError, match=f"{name} must be an integer"):
            pc.impute(Poissons(4, 3), torch.ones(2, 4), **{name: 0})

    class Twice(Poissons):
        def model(self, x):
            super().model(x)
            with pyro.plate("data", x.shape[0]):
                pyro.sample("again", dist.Poisson(1.0), obs=x[:, 1])

    assert pc.impute(Twice(4, 3), torch.tensor([[NAN, 1.0, 1.0, 1.0]])).x.shape == (100, 1, 4)
    with pytest.raises(ValueError, match="column 1 of x has missing entries, and 2 sites of Twice observe it"):
        pc.impute(Twice(4, 3), torch.tensor([[1.0, NAN, 1.0, 1.0]]))


def test_impossible_rows_are_named():
    class Half(pc.Story):
        def model(self, x):
            with pyro.plate("data", x.shape[0]):
                pyro.sample("cluster", dist.Categorical(torch.ones(2)))
                pyro.sample("a", dist.Exponential(1.0), obs=x[:, 0])
                pyro.sample("b", dist.Uniform(0.0, 1.0, validate_args=False), obs=x[:, 1])

        def guide(self, x):
            pass

    x = torch.tensor([[1.0, 0.5], [NAN, 0.2]] * 5 + [[NAN, 3.0]])
    with pytest.raises(pc.NonFiniteError, match="known entries of row 10 of x have probability 0"):
        pc.impute(Half(n_features=2, n_clusters=2), x)


class Scaled(Poissons):
    """All sites under one scale, as a plate that stands for more rows has it."""

    def model(self, x):
        with pyro.poutine.scale(scale=3.0):
            super().model(x)


def test_a_scale_that_all_sites_share_changes_nothing():
    story = Poissons(3, 2)
    scaled = Scaled(3, 2)
    scaled.load_state_dict(story.state_dict())
    x = with_gaps(torch.poisson(torch.full((8, 3), 2.0)))
    plain, other = (pc.impute(s, x, draws=2) for s in (story, scaled))
    torch.testing.assert_close(other.responsibilities, plain.responsibilities)
    torch.testing.assert_close(other.log_likelihood, plain.log_likelihood)


class PointOfADraw(pc.Story):
    """z ~ N(0, 1), w ~ N(z, 1/2), x ~ N(w, 1); the guide draws z, and takes w at a point given z."""

    def __init__(self):
        super().__init__(n_features=1, n_clusters=1)
        self.shift = torch.nn.Parameter(torch.zeros(()))

    def model(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("cluster", dist.Categorical(torch.ones(1)))
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            w = pyro.sample("w", dist.Normal(z, 0.5).to_event(1))
            pyro.sample("x", dist.Normal(w, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.4 * x + self.shift, 0.9).to_event(1))
            pyro.sample("w", dist.Delta(0.8 * z + 0.2 * x, event_dim=1))


def test_a_point_given_another_draw_is_that_draws_own():
    """800 rows of 20 particles: their mean weight within 5 standard errors (one check at 6e-7)."""
    z = np.linspace(-8, 8, 4001)
    w = 0.8 * z + 0.2 * 2.0
    integrand = stats.norm.pdf(z) * stats.norm.pdf(w, z, 0.5) * stats.norm.pdf(2.0, w, 1.0)
    right = np.trapezoid(integrand, z)
    weights = pc.impute(PointOfADraw(), torch.full((800, 1), 2.0), draws=1, particles=20).log_likelihood.exp()
    error = weights.std() / 800**0.5
    assert abs(weights.mean() - right) < 5 * error < 0.02 * right
