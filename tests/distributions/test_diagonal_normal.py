"""The row's normal distribution agrees with Pyro's, whatever the shapes."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

from probclust.distributions.diagonal_normal import DiagonalNormal

pytestmark = pytest.mark.usefixtures("float64")
SHAPES = [((5,), (1,)), ((5,), (5,)), ((7, 5), (1,)), ((7, 5), (7, 5)), ((3, 1, 5), (3, 1, 5)), ((3, 7, 5), (5,))]


@pytest.mark.parametrize(("loc_shape", "scale_shape"), SHAPES)
@pytest.mark.parametrize("batch", [None, (3, 7)])
def test_values_gradients_and_moments_are_those_of_the_normal(loc_shape, scale_shape, batch):
    parameters = [torch.randn(loc_shape).requires_grad_(), torch.rand(scale_shape).add(0.2).requires_grad_()]
    value = torch.randn(3, 7, 5).requires_grad_()
    found = []
    for fn in (DiagonalNormal(*parameters), dist.Normal(*parameters).to_event(1)):
        fn = fn if batch is None else fn.expand(batch)
        log_prob = fn.log_prob(value)
        gradients = torch.autograd.grad(log_prob.sin().sum(), [*parameters, value])
        torch.manual_seed(1)
        found.append([log_prob, *gradients, fn.mean, fn.mode, fn.variance, fn.rsample(), fn.sample((2,))])
        assert fn.batch_shape == (batch or torch.broadcast_shapes(loc_shape, scale_shape)[:-1])
        assert fn.event_shape == (5,)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_bad_parameters_are_refused():
    with pytest.raises(ValueError, match="scale"):
        DiagonalNormal(torch.zeros(3), -torch.ones(3), validate_args=True)
    with pytest.raises(ValueError, match="loc"):
        DiagonalNormal(torch.full((3,), float("nan")), torch.ones(3), validate_args=True)
