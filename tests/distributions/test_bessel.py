from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import gammaln, ive

from probclust.distributions.bessel import log_bessel

ORDERS = [0.0, 0.5, 1.0, 4.0, 19.0, 31.0, 49.0]


def peer(order, x):
    """scipy's scaled Bessel function; not for large orders of small numbers, where it is 0."""
    return np.log(ive(order, x)) - order * np.log(x), ive(order + 1, x) / ive(order, x)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-6)])
def test_it_is_scipys_with_its_gradient(order, dtype, tolerance):
    x = torch.logspace(-3, 5, 50, dtype=dtype, requires_grad=True)
    value, ratio = log_bessel(order, x)
    expected, expected_ratio = peer(order, x.detach().double().numpy())
    np.testing.assert_allclose(value.detach(), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ratio.detach(), expected_ratio, rtol=tolerance)
    (gradient,) = torch.autograd.grad(value.sum(), x)  # d log I / dx = ratio + order / x
    # 1 - ratio cancels in scipy's ratio where x is large
    np.testing.assert_allclose(gradient, expected_ratio - 1, rtol=10 * tolerance, atol=1e-10)


@pytest.mark.parametrize("order", [0.0, 3.0, 200.0, 5000.0])
def test_nothing_overflows_or_cancels_at_the_ends(order):
    """At 0 the value is -log(2^order Gamma(order + 1)); for large x, that of exp(x) / sqrt(2 pi x)."""
    x = torch.tensor([0.0, 1e-20, 1e10], requires_grad=True)
    value, ratio = log_bessel(order, x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    at_zero = -order * np.log(2) - gammaln(order + 1)
    at_infinity = -0.5 * np.log(2 * np.pi) - (order + 0.5) * np.log(1e10) - (4 * order**2 - 1) / 8e10
    np.testing.assert_allclose(value.detach(), [at_zero, at_zero, at_infinity], rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(ratio.detach(), [0, 0, 1], atol=1e-5)
    np.testing.assert_allclose(gradient, [-1, -1, 0], atol=1e-5)
