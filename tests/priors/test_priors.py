"""Latent priors against references of scipy, their draws against their densities, and clusters that were planted.

Statistical tests have fixed seeds and a false-alarm rate of 1e-4 each (p-values), or 6e-7 (five standard errors).
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
from probclust.dissimilarities import Cosine, Mahalanobis
from probclust.models import VaDE
from probclust.priors import (
    DiagonalGaussian,
    Flow,
    LowRankGaussian,
    StandardNormal,
    StudentT,
    on_sphere,
    prior_named,
)
from probclust.priors.base import Prior

pytestmark = pytest.mark.usefixtures("float64")

CLUSTERS = torch.arange(2)[:, None]
MIN_P = 1e-4
PARTS = {"gaussian": DiagonalGaussian, "low_rank": LowRankGaussian, "student_t": StudentT, "flow": Flow}


@torch.no_grad()
def part(name, d=3):
    """Two clusters of parameters unlike those of the constructor."""
    torch.manual_seed(1)
    made = Flow(d, 2, n_couplings=2, hidden=(6,)) if name == "flow" else prior_named(name, d, 2)
    for parameter in made.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def draws(made, k, n):
    with torch.no_grad():
        return made.density(torch.full((n,), k)).sample()


# Densities


def reference(made, k):
    """scipy's distribution of cluster k; None of a flow."""
    loc, scale = made.loc[k].detach().numpy(), made.scale[k].detach().numpy()
    if isinstance(made, StudentT):
        return stats.multivariate_t(loc, np.diag(scale**2), made.df[k].item())
    factor = made.factor[k].detach().numpy() if isinstance(made, LowRankGaussian) else np.zeros((len(loc), 1))
    return stats.multivariate_normal(loc, factor @ factor.T + np.diag(scale**2))


@pytest.mark.parametrize("name", ["gaussian", "low_rank", "student_t"])
def test_log_prob_is_scipys(name):
    made, x = part(name), torch.randn(7, 3)
    log_prob = made.density(CLUSTERS).log_prob(x).detach()
    for k in range(2):
        np.testing.assert_allclose(log_prob[k], reference(made, k).logpdf(x), rtol=1e-9)


def test_the_standard_normal_is_scipys_whatever_the_cluster():
    x = torch.randn(7, 3)
    log_prob = StandardNormal(3, 2).density(CLUSTERS).log_prob(x)
    np.testing.assert_allclose(log_prob, stats.multivariate_normal(np.zeros(3)).logpdf(x))


@pytest.mark.parametrize("d", [2, 3, 5])
def test_a_flows_density_has_the_jacobian_of_its_map(d):
    """log p(z) = log p(u) - log |det dT/du|, the determinant from autograd's whole Jacobian."""
    made = part("flow", d)
    u = torch.randn(d)

    def forward(u):
        for step in made.transforms():
            u = step(u)
        return u

    jacobian = torch.autograd.functional.jacobian(forward, u)
    assert (jacobian - jacobian.diagonal().diag()).abs().max() > 0.01
    base = torch.distributions.Normal(made.loc[1], made.scale[1]).log_prob(u).sum()
    log_prob = made.density(torch.tensor(1)).log_prob(forward(u).detach())
    torch.testing.assert_close(log_prob, base - torch.linalg.slogdet(jacobian).logabsdet)


def test_a_flow_begins_as_the_identity():
    made, x = Flow(5, 2), torch.randn(7, 5)
    plain = DiagonalGaussian(5, 2)
    plain.load_state_dict({name: value for name, value in made.state_dict().items() if "networks" not in name})
    torch.testing.assert_close(made.density(CLUSTERS).log_prob(x), plain.density(CLUSTERS).log_prob(x))


@pytest.mark.parametrize("name", PARTS)
def test_it_integrates_to_one_in_2d(name):
    made = part(name, 2)
    grid = 60 * torch.linspace(-1, 1, 601) ** 3  # fine about the centres, wide enough for heavy tails
    steps = torch.gradient(grid)[0]
    x = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    with torch.no_grad():
        density = made.density(CLUSTERS).log_prob(x).exp().reshape(2, len(grid), len(grid))
    torch.testing.assert_close(torch.einsum("kij,i,j->k", density, steps, steps), torch.ones(2), atol=0.01, rtol=0)


@pytest.mark.parametrize("name", PARTS)
def test_gradients_are_those_of_finite_differences(name):
    made, x = part(name), torch.randn(5, 3)
    parameters = [p for p in made.parameters() if p.requires_grad]
    assert torch.autograd.gradcheck(lambda *_: made.density(CLUSTERS).log_prob(x), parameters)


# Draws


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("k", [0, 1])
def test_draws_follow_the_density(name, k):
    """The share of 4,000 draws whose log density is below that of a draw of the reference is uniform, and so is that
    of each column: Kolmogorov-Smirnov tests of two samples, the reference by scipy, or the flow's base by its map.
    """
    made = part(name)
    x = draws(made, k, 4000)
    other = torch.as_tensor(reference(made, k).rvs(4000, random_state=0))
    with torch.no_grad():
        for step in made.transforms() if name == "flow" else []:
            other = step(other)
        log_prob = [made.density(torch.tensor(k)).log_prob(rows).numpy() for rows in (x, other)]
    assert stats.ks_2samp(*log_prob).pvalue > MIN_P
    for column in range(3):
        assert stats.ks_2samp(x[:, column].numpy(), other[:, column].numpy()).pvalue > MIN_P


@pytest.mark.parametrize("name", PARTS)
def test_the_mean_log_density_of_draws_is_minus_the_entropy(name):
    """By importance: E_q[p / q] = 1 for q the density widened by half; 40,000 draws, within 5 standard errors."""
    made = part(name, 2)
    wide = part(name, 2)
    with torch.no_grad():
        wide.raw_scale.add_(0.7)
        x = wide.density(torch.zeros(40_000, dtype=torch.long)).sample()
        ratio = (made.density(torch.tensor(0)).log_prob(x) - wide.density(torch.tensor(0)).log_prob(x)).exp()
    error = ratio.std().item() / 200
    assert error < 0.02
    assert ratio.mean().item() == pytest.approx(1, abs=5 * error)


# Starts, and planted parameters


class Mixture(pc.Story):
    """A mixture of priors as densities of x itself: no decoder between them and the rows."""

    def __init__(self, prior):
        super().__init__(n_features=prior.n_features, n_clusters=prior.n_clusters)
        self.prior = prior

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", self.prior.density(cluster), obs=x)

    def guide(self, x):
        pass


def fitted(name, x, labels, learning_rate=0.02, batch_size=500, **settings):
    made = PARTS[name](x.shape[1], 2, **settings)
    made.start(x, labels)
    story = Mixture(made).to(x.dtype)
    pc.fit(story, x, recipe=[pc.SVI(epochs=50, learning_rate=learning_rate, batch_size=batch_size)])
    return story


def test_starts_are_the_moments_of_the_clusters():
    labels = torch.arange(4000) % 2
    truth = part("low_rank")
    x = truth.density(labels).sample()
    for name in PARTS:
        made = prior_named(name, 3, 2)
        made.start(x, labels)
        law = made.density(torch.tensor(0))
        own = x[labels == 0]
        torch.testing.assert_close(made.loc[0], own.mean(0), atol=1e-5, rtol=1e-5)
        if name == "low_rank":
            torch.testing.assert_close(law.covariance_matrix, own.T.cov(), atol=0.1, rtol=0.1)
        elif name != "flow":
            torch.testing.assert_close(law.variance, own.var(0), atol=1e-3, rtol=1e-3)
        empty = prior_named(name, 3, 2)
        empty.start(x, torch.zeros(4000, dtype=torch.long))
        assert torch.isfinite(empty.density(CLUSTERS).log_prob(x)).all()


def test_planted_directions_are_found():
    truth = part("low_rank", 4)
    with torch.no_grad():
        truth.loc.copy_(torch.tensor([[-4.0] * 4, [4.0] * 4]))
        truth.factor.mul_(4)
    labels = torch.arange(2000) % 2
    x = truth.density(labels).sample()
    story = fitted("low_rank", x, labels)
    for k in range(2):
        found, wanted = (m.density(torch.tensor(k)).covariance_matrix for m in (story.prior, truth))
        torch.testing.assert_close(found, wanted, atol=0.15 * wanted.diagonal().max().item(), rtol=0)


def test_planted_degrees_of_freedom_are_found_and_outliers_do_not_move_the_centres():
    truth = StudentT(2, 2, df=3.0)
    with torch.no_grad():
        truth.loc.copy_(torch.tensor([[-6.0, 0.0], [6.0, 0.0]]))
    labels = torch.arange(2000) % 2
    x = truth.density(labels).sample()
    story = fitted("student_t", x, labels, df=10.0)
    torch.testing.assert_close(story.prior.df, truth.df, atol=0.9, rtol=0)
    torch.testing.assert_close(story.prior.loc, truth.loc, atol=0.15, rtol=0)
    torch.testing.assert_close(story.prior.scale, truth.scale, atol=0.12, rtol=0)
    gaussian = fitted("gaussian", x, labels)
    assert pc.log_likelihood(story, x).mean() > pc.log_likelihood(gaussian, x).mean() + 0.1


def bananas(n, seed):
    """Two bent clusters, their labels, and the mean log density, as good as that of each row's own cluster."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(n, 2, generator=generator)
    labels = torch.arange(n) % 2
    loc = torch.tensor([[-3.0, 0.0], [3.0, 0.0]])[labels]
    bend = torch.where(labels == 0, 0.5, -0.5) * u[:, 0].square()
    unit = torch.tensor([3.2, 1.1])
    x = (loc + torch.stack([u[:, 0], 0.3 * u[:, 1] + bend], 1)) / unit
    log_density = -u.square().sum(1) / 2 - math.log(2 * math.pi) - math.log(0.3) - math.log(2) + unit.log().sum()
    return x, labels, log_density.mean()


def test_a_flow_finds_planted_bananas():
    """On held-out rows it makes good more than half of what a Gaussian loses to the truth, and never beats that."""
    torch.set_default_dtype(torch.float32)
    (x, labels, _), (held_out, _, truth) = bananas(2000, 0), bananas(2000, 1)
    story = fitted("flow", x, labels, learning_rate=0.01, batch_size=250)
    lost = truth - pc.log_likelihood(fitted("gaussian", x, labels), held_out).mean()
    assert lost > 0.5
    assert -0.05 < truth - pc.log_likelihood(story, held_out).mean() < 0.5 * lost
    assert pc.metrics.accuracy(labels, pc.predict(story, x)) > 0.98


# Names, and the user's own


def test_names_and_wrong_settings():
    assert isinstance(prior_named("mahalanobis", 3, 2), Mahalanobis)
    cosine = prior_named("cosine", 3, 2)
    assert isinstance(cosine, Cosine)
    assert cosine.log_alpha.shape == (2,)
    assert on_sphere("cosine")
    assert on_sphere(cosine)
    assert not on_sphere("gaussian")
    with pytest.raises(ValueError, match="rank must lie between 1 and n_features - 1 = 2, got 3"):
        LowRankGaussian(3, 2, rank=3)
    with pytest.raises(ValueError, match="df must be above 1"):
        StudentT(3, 2, df=1.0)
    with pytest.raises(ValueError, match="needs at least 2 columns"):
        Flow(1, 2)
    with pytest.raises(ValueError, match="n_couplings must be even"):
        Flow(3, 2, n_couplings=3)
    with pytest.raises(ValueError, match="floor must be positive"):
        DiagonalGaussian(3, 2, floor=0.0)
    with pytest.raises(ValueError, match="built for n_features=3 and n_clusters=2, got one for n_features=2"):
        prior_named(StudentT(2, 2), 3, 2)


@pc.register
class Laplace(Prior):
    """The user's own, as its docstring has it."""

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features, n_clusters)
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))

    def density(self, cluster):
        return dist.Laplace(self.loc[cluster], 1.0).to_event(1)


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")  # so short a fit may leave a cluster empty
@pytest.mark.parametrize(
    "build",
    [
        lambda: Laplace(2, 3),
        lambda: StudentT(2, 3, df=4.0, learn_df=False),
        lambda: Flow(2, 3, n_couplings=2, hidden=[8]),
        lambda: LowRankGaussian(2, 3),
    ],
)
def test_a_story_with_a_part_is_fitted_sampled_saved_and_drawn_anew(build, tmp_path):
    torch.set_default_dtype(torch.float32)
    story, x = VaDE(4, 3, latent_dim=2, hidden=(8,), prior=build()), torch.rand(40, 4)
    pc.fit(story, x, recipe={"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 1}, n_init=2)
    assert pc.sample(story, 5, cluster=1, seed=0)["z"].shape == (5, 2)
    assert pc.modes(story).shape == (3, 4)
    pc.save(story, tmp_path / "story")
    loaded = pc.load(tmp_path / "story")
    assert torch.equal(pc.log_joint(loaded, x), pc.log_joint(story, x))
