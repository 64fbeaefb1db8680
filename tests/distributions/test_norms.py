"""What `test_dissimilarities` leaves: the power spherical distribution, and rows of length 1."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.nn.functional import normalize

from probclust.distributions.directions import PowerSpherical, VonMisesFisher
from probclust.distributions.norms import unit_length

CONCENTRATIONS = torch.tensor([0.01, 3.0, 200.0])


def power_spherical(d):
    torch.manual_seed(1)
    return PowerSpherical(normalize(torch.randn(3, d), dim=1).double(), CONCENTRATIONS.double())


def test_power_spherical_integrates_to_one():
    angle = torch.linspace(0, 2 * math.pi, 4001, dtype=torch.float64)[:-1]
    circle = torch.stack([angle.cos(), angle.sin()], -1)[:, None]
    mass = power_spherical(2).log_prob(circle).exp().mean(0) * 2 * math.pi
    torch.testing.assert_close(mass, torch.ones(3).double(), atol=1e-6, rtol=0)
    for d in (3, 5):  # 400,000 uniform directions; five standard errors, false alarm 6e-7
        x = normalize(torch.randn(400_000, 1, d).double(), dim=-1)
        area = 2 * math.pi ** (d / 2) / math.gamma(d / 2)
        weights = power_spherical(d).log_prob(x)[:, :2].exp() * area
        assert ((weights.mean(0) - 1).abs() < 5 * weights.std(0) / math.sqrt(len(weights)) + 1e-12).all()


@pytest.mark.parametrize("d", [2, 5, 20])
def test_power_spherical_draws_follow_their_density(d):
    """(1 + <loc, x>) / 2 is a Beta variable. Kolmogorov-Smirnov at 1e-4."""
    q = power_spherical(d)
    x = q.sample([4000])
    assert unit_length.check(x).all()
    for k in range(3):
        height = (1 + (x[:, k] * q.loc[k]).sum(-1)) / 2
        law = stats.beta((d - 1) / 2 + CONCENTRATIONS[k].double(), (d - 1) / 2)
        assert stats.kstest(height.numpy(), law.cdf).pvalue > 1e-4
    error = 5 / math.sqrt(4000)
    torch.testing.assert_close(x.mean(0), q.mean, atol=error, rtol=0)


@pytest.mark.parametrize("d", [2, 5])
def test_power_spherical_draws_have_the_gradient_of_their_mean(d):
    """Of E[<loc, x>] by its concentration, within 5 standard errors: 50 batches of 2000 draws."""
    loc = normalize(torch.ones(d), dim=0).double()

    def gradient(sampled):
        concentration = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
        q = PowerSpherical(loc, concentration)
        value = q.rsample([2000]).mean(0) if sampled else q.mean
        return torch.autograd.grad((value * loc).sum(), concentration)[0]

    sampled = torch.stack([gradient(True) for _ in range(50)])
    assert abs(sampled.mean() - gradient(False)) < 5 * sampled.std() / math.sqrt(50)


@pytest.mark.parametrize("concentration", [1e-4, 4e4])
def test_power_spherical_is_finite_in_float32_at_the_ends(concentration):
    value = torch.full((1000,), concentration, requires_grad=True)
    loc = normalize(torch.randn(1000, 2), dim=1).requires_grad_()
    q = PowerSpherical(loc, value)
    x = q.rsample()
    q.log_prob(x).sum().backward()
    assert torch.isfinite(x).all()
    assert torch.isfinite(value.grad).all()
    assert torch.isfinite(loc.grad).all()


def test_both_are_uniform_at_concentration_zero_and_alike_near_the_mean():
    loc = normalize(torch.randn(4), dim=0).double()
    x = normalize(torch.randn(9, 4).double(), dim=1)
    uniform = math.log(math.gamma(2) / (2 * math.pi**2))
    for family in (VonMisesFisher, PowerSpherical):
        flat = family(loc, torch.tensor(1e-9, dtype=torch.float64)).log_prob(x)
        torch.testing.assert_close(flat, torch.full_like(flat, uniform), atol=1e-7, rtol=0)
    concentration = torch.tensor(1e5, dtype=torch.float64)  # a power spherical one is then half as concentrated
    near = VonMisesFisher(loc, concentration / 2).sample([1000])
    one, other = VonMisesFisher(loc, concentration / 2), PowerSpherical(loc, concentration)
    torch.testing.assert_close(one.log_prob(near), other.log_prob(near), atol=1e-2, rtol=0)


def test_rows_of_length_one_are_told_from_others():
    x = normalize(torch.randn(100, 2000), dim=1)
    assert unit_length.check(x).all()
    assert not unit_length.check(1.001 * x).any()
    with pytest.raises(ValueError, match="divide each row by its length"):
        VonMisesFisher(torch.tensor([1.0, 1.0]), torch.tensor(1.0), validate_args=True)
    with pytest.raises(NotImplementedError, match=r"use sample\(\)"):
        VonMisesFisher(torch.tensor([1.0, 0.0]), torch.tensor(1.0)).rsample()


@pytest.mark.parametrize("family", [VonMisesFisher, PowerSpherical])
def test_the_mode_is_where_no_draw_is_more_probable(family):
    loc = normalize(torch.randn(3, 4), dim=1)
    law = family(loc, torch.tensor(2.0))
    assert torch.equal(law.mode, loc)
    assert (law.log_prob(law.sample([200])) <= law.log_prob(law.mode) + 1e-5).all()
