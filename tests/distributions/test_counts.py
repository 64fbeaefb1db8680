"""Counts' log probabilities and slopes against fifty digits, in float32 and float64; draws against moments."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
import torch

from probclust.distributions.counts import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from probclust.likelihoods.totals import LARGEST_LOG_DISPERSION

LOG_MEANS = [-80.0, -12.0, -1.0, 0.0, 3.0, 9.0, 16.1, 30.0]
LOG_DISPERSIONS = [-LARGEST_LOG_DISPERSION, -8.0, -1.0, 1.6, 6.0, 14.0, LARGEST_LOG_DISPERSION]


def cells(dtype):
    """(log mean, log dispersion, count): counts far from the mean, and within some deviations of it, up to 1e7."""
    found = []
    for log_mean, log_r in itertools.product(LOG_MEANS, LOG_DISPERSIONS):
        mean, r = np.exp(log_mean), np.exp(log_r)
        near = [mean + shift * np.sqrt(mean + mean**2 / r) for shift in (-3, -1, -0.1, 0, 0.1, 1, 3)]
        counts = [0, 1, 2, 7, 8, 100, 12_345, 1_000_003, 10_000_000, *near]
        found += [(log_mean, log_r, np.floor(min(max(c, 0), 1.6e7))) for c in counts]
    return torch.tensor(found, dtype=dtype).unbind(1)


def exact(log_mean, log_r, x):
    """The log probability of a negative binomial and its slopes; of a Poisson where log_r is None."""
    with mpmath.workdps(50):
        b, x = mpmath.mpf(log_mean), mpmath.mpf(x)
        m = mpmath.exp(b)
        if log_r is None:
            return x * b - m - mpmath.loggamma(x + 1), x - m
        r = mpmath.exp(mpmath.mpf(log_r))
        value = mpmath.loggamma(r + x) - mpmath.loggamma(r) - mpmath.loggamma(x + 1)
        value += x * b + r * mpmath.mpf(log_r) - (r + x) * mpmath.log(r + m)
        slope = mpmath.digamma(r + x) - mpmath.digamma(r) + mpmath.log(r / (r + m)) + (m - x) / (r + m)
        return value, (x - m) * r / (r + m), r * slope


def assert_near(found, expected, rtol, atol):
    """To a relative `rtol` or an absolute `atol`, whichever allows more."""
    expected = np.array([float(e) for e in expected])
    wrong = np.abs(found.detach().double().numpy() - expected) > np.maximum(rtol * np.abs(expected), atol)
    assert not wrong.any(), (wrong.nonzero()[0][:5], expected[wrong][:5], found[torch.as_tensor(wrong)][:5])


def rounding(dtype, log_mean, x):
    """What a slope by the log mean, count less mean, loses where both are rounded to a dtype."""
    return 2 * torch.finfo(dtype).eps * torch.maximum(log_mean.exp(), x).detach().double().numpy()


@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(torch.float32, 1e-5, 1e-3), (torch.float64, 1e-12, 1e-10)])
def test_log_probabilities_and_slopes_keep_their_digits(dtype, rtol, atol):
    """A float32 mean of ten million may be one off: that is allowed for, where a count is so many deviations away."""
    log_mean, log_r, x = (value.requires_grad_(i < 2) for i, value in enumerate(cells(dtype)))
    off = rounding(dtype, log_mean, x)
    for fn, inputs in ((NegativeBinomial(log_mean, log_r), (log_mean, log_r)), (Poisson(log_mean), (log_mean,))):
        given = log_mean.tolist(), log_r.tolist() if len(inputs) > 1 else [None] * len(x), x.tolist()
        expected = np.array([[float(e) for e in exact(*cell)] for cell in zip(*given, strict=True)]).T
        found = fn.log_prob(x)
        relative = np.abs(expected[1]) / torch.maximum(log_mean.exp(), x).detach().double().numpy()
        assert_near(found, expected[0], rtol, np.maximum(atol, off * relative))
        for slope, truth in zip(torch.autograd.grad(found.sum(), inputs), expected[1:], strict=True):
            assert_near(slope, truth, 100 * rtol, np.maximum(atol / 10, off))


def test_slopes_have_slopes():
    rng = np.random.default_rng(0)
    x = torch.as_tensor(rng.poisson(5.0, (4, 1, 3)).astype(float))
    log_mean, log_r, gate = (torch.tensor(rng.normal(size=size), requires_grad=True) for size in ((2, 3), (3,), (3,)))

    def negative_binomial(log_mean, log_r):
        return NegativeBinomial(log_mean, log_r).log_prob(x)

    def inflated(log_mean, log_r, gate):
        return ZeroInflatedNegativeBinomial(log_mean, log_r, gate).log_prob(x)

    def poisson(log_mean):
        return Poisson(log_mean).log_prob(x)

    for function, inputs in (
        (poisson, (log_mean,)),
        (negative_binomial, (log_mean, log_r)),
        (inflated, (log_mean, log_r, gate)),
    ):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


def test_probabilities_sum_to_one_and_nothing_but_counts_has_any(float64):
    x = torch.arange(3000.0)[:, None]
    log_mean, log_r, gate = torch.tensor([-2.0, 1.0, 4.0]), torch.tensor([-1.0, 2.0, 20.0]), torch.tensor(0.4)
    for fn in (
        Poisson(log_mean),
        NegativeBinomial(log_mean, log_r),
        ZeroInflatedNegativeBinomial(log_mean, log_r, gate),
    ):
        torch.testing.assert_close(fn.log_prob(x).exp().sum(0), torch.ones(3))
        assert torch.isneginf(fn.log_prob(torch.tensor([[-1.0], [0.5], [1e6 + 0.5]]))).all()
        assert fn.expand([5, 3]).log_prob(torch.zeros(3)).shape == (5, 3)
        assert fn.expand([5, 3]).mean.shape == fn.expand([5, 3]).sample().shape == (5, 3)


@pytest.mark.parametrize("log_mean", [-1.0, 3.0, 15.0])
@pytest.mark.parametrize("log_r", [-1.0, 2.0, LARGEST_LOG_DISPERSION])
def test_draws_have_their_moments(log_mean, log_r):
    """20,000 draws; the mean within 5 of its errors, the variance within 20 %, or 5 of the errors that draws show."""
    torch.manual_seed(0)
    b, c = torch.tensor(log_mean), torch.tensor(log_r)
    for fn in (Poisson(b), NegativeBinomial(b, c), ZeroInflatedNegativeBinomial(b, c, torch.tensor(0.5))):
        draws = fn.sample((20_000,)).double()
        assert abs(draws.mean() - fn.mean) < 5 * (fn.variance / 20_000) ** 0.5
        squares = (draws - draws.mean()).square()
        assert abs(squares.mean() - fn.variance) < max(0.02 * fn.variance, 5 * squares.std() / 20_000**0.5)
