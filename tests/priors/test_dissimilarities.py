"""Dissimilarities as densities: they integrate to 1, their draws follow them, and they equal what is known by name.

Statistical tests have fixed seeds and a false-alarm rate of 1e-4 each (p-values), or 6e-7 (five standard errors).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from probclust.dissimilarities import (
    Chebyshev,
    Cosine,
    Custom,
    Euclidean,
    Mahalanobis,
    Manhattan,
    Minkowski,
    SquaredEuclidean,
    dissimilarity_named,
)
from probclust.distributions import norms as distributions

pytestmark = pytest.mark.usefixtures("float64")

CLUSTERS = torch.arange(2)[:, None]
SPACE = ["manhattan", "euclidean", "squared_euclidean", "chebyshev", "minkowski", "minkowski-1.5", "mahalanobis"]
EVERY = [*SPACE, "cosine"]
MIN_P = 1e-4


@torch.no_grad()
def part(name, d):
    """Two clusters of different centres and alphas."""
    torch.manual_seed(1)
    if name == "minkowski-1.5":
        made = Minkowski(d, 2, p=1.5, learn_alpha="cluster")
    else:
        made = dissimilarity_named(name, d, 2, learn_alpha="cluster")
    if name == "mahalanobis":
        made.lower.normal_()
        made.raw_diagonal.normal_()
    else:
        made.log_alpha.copy_(torch.tensor([0.7, 2.5]).log())
    return made


@pytest.fixture(params=EVERY)
def name(request):
    return request.param


@pytest.fixture(params=SPACE)
def space(request):
    return request.param


# Normalisers


def polar_grid(made, n_radii=1000, n_angles=360):
    """Mass, radius and angle about the centre of each cell of a polar grid, for both clusters in 2 dimensions.

    Angles are midpoints, so that no kink of a norm falls between: an even number of them meets each on a border.
    """
    radius = (torch.arange(n_radii) + 0.5) * 30 / n_radii
    angle = (torch.arange(n_angles) + 0.5) * 2 * math.pi / n_angles
    steps = radius[:, None, None] * torch.stack([angle.cos(), angle.sin()], -1)
    with torch.no_grad():
        x = made.loc[:, None, None] + steps
        density = torch.stack([made.density(torch.tensor(k)).log_prob(x[k]).exp() for k in range(2)])
    return density * radius[:, None] * (30 / n_radii) * (2 * math.pi / n_angles), radius, angle


def mass_in_1d(made):
    grid = torch.linspace(-60, 60, 200_001)
    with torch.no_grad():
        densities = [made.density(torch.tensor(k)).log_prob(made.loc[k] + grid[:, None]).exp() for k in range(2)]
    return torch.stack([torch.trapezoid(density, grid) for density in densities])


def mass_on_circle(made):
    angle = torch.linspace(0, 2 * math.pi, 2001)[:-1]
    x = torch.stack([angle.cos(), angle.sin()], -1)
    with torch.no_grad():
        return made.density(CLUSTERS).log_prob(x).exp().mean(1) * 2 * math.pi


def mass_on_ball_surface(made):
    """In 3 dimensions, over a grid of height and azimuth, both uniform for the surface measure."""
    height = torch.linspace(-1, 1, 2001)[:-1] + 1 / 2000
    azimuth = torch.linspace(0, 2 * math.pi, 101)[:-1]
    sine = (1 - height**2).sqrt()
    flat = torch.stack([azimuth.cos(), azimuth.sin()], -1)
    x = torch.cat([sine[:, None, None] * flat, height[:, None, None].expand(-1, 100, 1)], -1)
    with torch.no_grad():
        return made.density(CLUSTERS).log_prob(x.reshape(-1, 3)).exp().mean(1) * 4 * math.pi


def importance_weights(made, n=200_000):
    """(n,) weights of cluster 0 in 5 dimensions, under draws from a wide Student-t about its centre, or uniform."""
    rng = np.random.default_rng(0)
    if made.on_sphere:
        x = rng.standard_normal((n, 5))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        log_q = np.full(n, math.lgamma(2.5) - math.log(2) - 2.5 * math.log(math.pi))
    else:
        shape = 4 * np.eye(5) if made.theta[1:] == () else 2 * (made.factor[0] @ made.factor[0].T).detach().numpy()
        proposal = stats.multivariate_t(made.loc[0].detach().numpy(), shape, df=3)
        x = proposal.rvs(n, random_state=rng)
        log_q = proposal.logpdf(x)
    with torch.no_grad():
        return np.exp(made.density(torch.tensor(0)).log_prob(torch.as_tensor(x)).numpy() - log_q)


def assert_mean_is_one(weights):
    error = weights.std() / math.sqrt(len(weights))
    assert error < 0.01
    assert weights.mean() == pytest.approx(1, abs=5 * error)


def test_it_integrates_to_one_in_1d(space):
    torch.testing.assert_close(mass_in_1d(part(space, 1)), torch.ones(2), atol=1e-5, rtol=0)


def test_it_integrates_to_one_in_2d(space):
    torch.testing.assert_close(polar_grid(part(space, 2))[0].sum((1, 2)), torch.ones(2), atol=5e-4, rtol=0)


def test_it_integrates_to_one_in_5d(name):
    assert_mean_is_one(importance_weights(part(name, 5)))


def test_directions_integrate_to_one_on_circle_and_sphere():
    torch.testing.assert_close(mass_on_circle(part("cosine", 2)), torch.ones(2), atol=1e-8, rtol=0)
    torch.testing.assert_close(mass_on_ball_surface(part("cosine", 3)), torch.ones(2), atol=1e-4, rtol=0)


def test_the_integrals_find_a_planted_normaliser(monkeypatch):
    honest = distributions.log_ball_volume
    monkeypatch.setattr(distributions, "log_ball_volume", lambda d, p: honest(d, p) + 0.05)
    with pytest.raises(AssertionError):
        test_it_integrates_to_one_in_2d("manhattan")
    with pytest.raises(AssertionError):
        test_it_integrates_to_one_in_5d("minkowski")


def test_log_prob_is_minus_alpha_v_less_a_constant(name):
    """Equation 3: beta depends on the cluster alone."""
    made, x = part(name, 4), torch.randn(6, 4)
    x = x / x.norm(dim=1, keepdim=True) if made.on_sphere else x
    log_beta = -(made.density(CLUSTERS).log_prob(x) + made.alpha[:, None] * made(x).T)
    torch.testing.assert_close(log_beta, log_beta[:, :1].expand(2, 6))


# Draws


def draws(made, k, n):
    with torch.no_grad():
        return made.density(torch.full((n,), k)).sample()


@pytest.mark.parametrize("k", [0, 1])
def test_alpha_v_of_draws_is_gamma(space, k):
    made = part(space, 5)
    v = made(draws(made, k, 5000))[:, k] * made.alpha[k]
    assert stats.kstest(v.detach().numpy(), stats.gamma(5 / made.degree).cdf).pvalue > MIN_P


def chi_square(made, x, k, n_sectors=20):
    """The p-value of 20 sectors times 3 rings about the centre, in 2 dimensions."""
    mass, radius, angle = polar_grid(made)
    rings = torch.searchsorted(mass[k].sum(1).cumsum(0), torch.tensor([1 / 3, 2 / 3]))
    borders = radius[rings]
    sector = (angle / (2 * math.pi) * n_sectors).long()
    cells = torch.bucketize(radius, borders)[:, None] * n_sectors + sector
    expected = torch.zeros(3 * n_sectors).index_add(0, cells.flatten(), mass[k].flatten())
    away = x - made.loc[k].detach()
    place = torch.atan2(away[:, 1], away[:, 0]) % (2 * math.pi) / (2 * math.pi) * n_sectors
    ring = torch.bucketize(away.norm(dim=1), borders + 15 / 1000)  # cells end half a step beyond their midpoints
    observed = torch.bincount(ring * n_sectors + place.long().clamp(max=n_sectors - 1), minlength=3 * n_sectors)
    expected = expected / expected.sum() * len(x)
    return stats.chisquare(observed.numpy(), expected.numpy()).pvalue


def test_draws_fill_the_plane_as_the_density_says(space):
    made = part(space, 2)
    assert chi_square(made, draws(made, 0, 20_000), 0) > MIN_P


@pytest.mark.parametrize("planted", ["manhattan", "chebyshev", "minkowski"])
def test_the_cells_find_directions_that_are_not_the_cone_measures(planted):
    """Planted: the right radius, in a uniform direction."""
    made = part(planted, 2)
    x = draws(made, 0, 20_000) - made.loc[0].detach()
    direction = torch.nn.functional.normalize(torch.randn_like(x), dim=1)
    wrong = direction * (made.between(x, torch.zeros(2)) / made.between(direction, torch.zeros(2)))[:, None]
    assert chi_square(made, made.loc[0].detach() + wrong, 0) < MIN_P


def test_the_gamma_law_finds_a_wrong_alpha():
    made = part("euclidean", 5)
    v = 1.1 * (made(draws(made, 0, 5000))[:, 0] * made.alpha[0]).detach()
    assert stats.kstest(v.numpy(), stats.gamma(5).cdf).pvalue < MIN_P


@pytest.mark.parametrize("d", [2, 3, 5, 50])
@pytest.mark.parametrize("alpha", [1e-3, 2.0, 300.0])
def test_directions_follow_their_density(d, alpha):
    """Along the mean by its marginal density (1 - w^2)^((d - 3) / 2) exp(alpha w); about it, uniformly."""
    made = Cosine(d, 1, alpha=alpha)
    x = draws(made, 0, 4000)
    torch.testing.assert_close(x.norm(dim=1), torch.ones(4000))
    cosine = (x @ made.loc[0].detach()).clamp(-1, 1)
    angle = np.linspace(0, math.pi, 400_001)  # of w = cos(angle), whose Jacobian takes the pole at w = 1 away
    density = np.exp(alpha * (np.cos(angle) - 1)) * np.sin(angle) ** (d - 2)
    cdf = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    p = stats.kstest(cosine.arccos().numpy(), lambda a: np.interp(a, angle, cdf / cdf[-1])).pvalue
    assert p > MIN_P
    across = x - cosine[:, None] * made.loc[0].detach()
    torch.testing.assert_close(across.mean(0), torch.zeros(d), atol=5 / math.sqrt(4000 * (d - 1)), rtol=0)
    mean = made.density(torch.tensor(0)).mean.detach()
    torch.testing.assert_close(x.mean(0), mean, atol=5 / math.sqrt(4000), rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [1.0, 1.01, 2.0, 30.0, math.inf])
def test_draws_of_any_norm_are_finite_in_any_precision(p, dtype):
    made = Minkowski(3, 2, p=p, alpha=5.0).to(dtype)
    x = draws(made, 0, 20_000)
    assert x.dtype == dtype
    assert torch.isfinite(x).all()
    distance = made(x)[:, 0].mean().item()
    assert distance == pytest.approx(3 / 5, abs=5 * math.sqrt(3) / 5 / math.sqrt(20_000))


def test_draws_have_a_gradient(space):
    """Of E[V] = shape / alpha and of the mean, in one draw of many rows: exact for V, as radius and direction part."""
    made = part(space, 3)
    if space != "mahalanobis":
        made.density(torch.zeros(1000, dtype=torch.long)).rsample().sub(made.loc.detach()[0]).square().sum().backward()
        assert made.log_alpha.grad[0] < 0  # a larger alpha draws rows nearer
        assert made.log_alpha.grad[1] == 0
    made.zero_grad()
    made.density(torch.zeros(1000, dtype=torch.long)).rsample().mean(0).sum().backward()
    torch.testing.assert_close(made.raw_loc.grad, torch.tensor([[1.0] * 3, [0.0] * 3]))


# Gradients


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1e-30])
def test_gradients_at_a_centre_are_finite(name, dtype, offset):
    made = part(name, 4).to(dtype)
    x = (made.loc.detach() + offset).requires_grad_()
    log_prob = made.density(torch.arange(2)).log_prob(x)
    gradients = torch.autograd.grad(log_prob.sum(), [x, *(p for p in made.parameters() if p.requires_grad)])
    assert torch.isfinite(log_prob).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert torch.isfinite(torch.autograd.grad(made(x).sum(), x)[0]).all()


def test_gradients_are_those_of_finite_differences(name):
    made, x = part(name, 3), torch.randn(5, 3)
    x = x / x.norm(dim=1, keepdim=True) if made.on_sphere else x
    parameters = [p for p in made.parameters() if p.requires_grad]

    def log_prob(*_):
        return made.density(CLUSTERS).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, parameters)


def test_mixed_columns_of_zero_have_finite_gradients():
    """Some differences 0, others not, where powers below 2 have no second derivative."""
    x = torch.tensor([[0.0, 0.0, 1e-3], [0.0, 1.0, 0.0]], requires_grad=True)
    for p in (1.0, 1.2, 2.0, 7.5, 100.0, math.inf):
        assert torch.isfinite(torch.autograd.grad(distributions.p_norm(x, p).sum(), x)[0]).all()
    torch.testing.assert_close(distributions.p_norm(1e-200 * torch.ones(2), 100.0).item(), 1e-200 * 2**0.01)


# Equal to what is known by name


@pytest.mark.parametrize(("p", "peer"), [(1, Manhattan), (2, Euclidean), (math.inf, Chebyshev)])
def test_minkowski_holds_the_other_norms(p, peer):
    torch.manual_seed(0)
    one = Minkowski(4, 3, p=p, alpha=2.0)
    other = peer(4, 3, alpha=2.0)
    other.load_state_dict(one.state_dict())
    x, k = torch.randn(6, 4), torch.arange(3)[:, None]
    torch.testing.assert_close(one.density(k).log_prob(x), other.density(k).log_prob(x))
    by_powers = distributions.p_norm(x, {1: 1 + 1e-9, 2: 2 + 1e-9}.get(p, 1e9))  # the general case, nearly there
    torch.testing.assert_close(by_powers, distributions.p_norm(x, p), rtol=1e-7, atol=0)


def test_known_distributions():
    x = torch.randn(6, 3)
    for k in range(2):
        cluster = torch.tensor(k)

        def check(name, expected, x=x, cluster=cluster):
            log_prob = part(name, 3).density(cluster).log_prob(x)
            np.testing.assert_allclose(log_prob.detach(), expected, rtol=1e-8)

        loc = part("manhattan", 3).loc[k].detach().numpy()
        alpha = [0.7, 2.5][k]
        check("manhattan", stats.laplace.logpdf(x, loc, 1 / alpha).sum(1))
        check("squared_euclidean", stats.multivariate_normal.logpdf(x, loc, 0.5 / alpha))
        factor = part("mahalanobis", 3).factor[k].detach().numpy()
        check("mahalanobis", stats.multivariate_normal.logpdf(x, loc, factor @ factor.T))
        unit = x / x.norm(dim=1, keepdim=True)
        check("cosine", stats.vonmises_fisher(loc / np.linalg.norm(loc), alpha).logpdf(unit), x=unit)


def test_the_mahalanobis_alpha_scales_its_covariance():
    one, other = Mahalanobis(3, 2), Mahalanobis(3, 2, alpha=2.0)
    other.load_state_dict(one.state_dict() | {"log_alpha": other.log_alpha})
    cluster = torch.tensor(1)
    torch.testing.assert_close(
        other.density(cluster).covariance_matrix * 4, one.density(cluster).covariance_matrix, check_dtype=False
    )


# Under enumeration, in a plate


def test_clusters_broadcast_and_expand_copies_nothing(name):
    made, x = part(name, 4), torch.randn(7, 4)
    x = x / x.norm(dim=1, keepdim=True) if made.on_sphere else x
    density = made.density(CLUSTERS)
    assert density.batch_shape == (2, 1)
    wide = density.expand([2, 7])
    assert (wide.batch_shape, wide.event_shape) == ((2, 7), (4,))
    table = wide.log_prob(x)
    assert table.shape == (2, 7)
    rows = torch.arange(7) % 2
    torch.testing.assert_close(made.density(rows).log_prob(x), table[rows, torch.arange(7)])
    assert wide.log_prob(x[0]).shape == (2, 7)
    assert wide.sample([3]).shape == (3, 2, 7, 4)
    assert wide.mean.shape == (2, 7, 4)
    if hasattr(wide, "_rate"):
        assert wide.loc is density.loc


# Starts


def test_a_start_has_the_most_likely_alpha(name):
    torch.manual_seed(3)
    truth = part(name, 4)
    labels = torch.arange(3000) % 2
    x = truth.density(labels).sample()
    made = part(name, 4)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 if parameter.requires_grad else 0)
    made.start(x, labels)
    if name == "cosine":
        torch.testing.assert_close(made.loc, truth.loc, atol=0.15, rtol=0)
    else:
        torch.testing.assert_close(made.loc, truth.loc, atol=0.5, rtol=0)
    if name == "mahalanobis":
        torch.testing.assert_close(made.factor, truth.factor, atol=0.15, rtol=0)
    else:
        torch.testing.assert_close(made.alpha, truth.alpha, rtol=0.1, atol=0)


def test_a_shared_alpha_weighs_clusters_by_their_rows():
    made = SquaredEuclidean(2, 2)
    x = torch.cat([torch.randn(300, 2), 5 + 3 * torch.randn(100, 2)])
    labels = (torch.arange(400) >= 300).long()
    made.start(x, labels)
    own = made(x)[torch.arange(400), labels].mean()
    torch.testing.assert_close(made.alpha * own, torch.ones(2))


def test_a_start_stands_empty_clusters_fixed_alphas_and_columns_that_do_not_vary():
    x = torch.cat([torch.randn(20, 2), torch.ones(20, 1)], 1)
    for made in (
        Manhattan(3, 4, learn_alpha=False),
        Mahalanobis(3, 4),
        Custom(lambda a, b: (a - b).abs().sum(-1), 3, 4),
    ):
        alpha = made.alpha.clone()
        made.start(x, torch.arange(20) % 3)
        assert torch.equal(made.alpha, alpha)
        assert torch.isfinite(made.density(torch.arange(4)[:, None]).log_prob(x)).all()


# What is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Manhattan(2, 3, alpha=0.0), "alpha must lie between 1e-10 and 1e[+]10, got 0.0"),
        (lambda: Manhattan(2, 3, alpha=math.nan), "alpha must lie between"),
        (lambda: Manhattan(2, 3, learn_alpha="each"), "learn_alpha must be True, False, 'shared' or 'cluster'"),
        (lambda: Minkowski(2, 3, p=0.5), "p must be at least 1"),
        (lambda: Mahalanobis(2, 3, floor=0.0), "floor must be positive"),
        (lambda: Cosine(1, 3), "at least 2 features, got n_features=1"),
        (lambda: dissimilarity_named("hamming", 2, 3), "must be one of .*'manhattan'.* got 'hamming'"),
        (lambda: dissimilarity_named(Manhattan(2, 4), 2, 3), "n_clusters=3, got one for n_features=2 and n_clusters=4"),
        (lambda: dissimilarity_named(Manhattan(2, 3), 2, 3, alpha=1.0), "give it to its constructor"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_kinds_are_refused():
    with pytest.raises(TypeError, match="expected the name of a dissimilarity or a part, got int"):
        dissimilarity_named(3, 2, 3)
    with pytest.raises(TypeError, match="function must be callable"):
        Custom("manhattan", 2, 3)
    with pytest.raises(NotImplementedError, match="no normaliser"):
        Custom(lambda a, b: (a - b).abs().sum(-1), 2, 3).density(torch.tensor(0)).sample()
