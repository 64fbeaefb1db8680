"""Distributions of rows that Pyro lacks: exponentials of norms, directions, and scores without a normaliser.

Each has event shape (D,). Their parameters are broadcast where they are used, so that `expand`, which a plate calls,
copies nothing.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import Gamma

from probclust.distributions.rows import RowDistribution, UnitLength

unit_length = UnitLength()


class NormExponential(RowDistribution):
    """p(x) = rate^D exp(-rate ||x - loc||_p) / (D! vol B), with B the unit ball of the p-norm.

    The polar method draws from it: ||x - loc|| ~ Gamma(D, rate) times a point on the ball's surface, distributed
    as the cone measure, which is g / ||g|| for g with independent entries of density prop. to exp(-|g|^p).

    Args:
        loc: (..., D) centres.
        rate: (...) inverse scales.
        p: at least 1, `math.inf` included: 1 Manhattan, 2 Euclidean, infinity Chebyshev.
        validate_args: check the parameters.

    Source: G. Schechtman, J. Zinn, "On the volume of the intersection of two L_p^n balls", 1990.
    """

    arg_constraints = {"loc": constraints.real_vector, "rate": constraints.positive}  # noqa: RUF012 (torch's interface)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, rate: Tensor, p: float = 2.0, validate_args: bool | None = None) -> None:
        self.rate, self.p = rate, p
        super().__init__(loc, rate, validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of (..., D) rows, in nats per unit of volume."""
        d = self.loc.shape[-1]
        distance = p_norm(value - self.loc, self.p)
        log_prob = d * self.rate.log() - self.rate * distance - math.lgamma(d + 1) - log_ball_volume(d, self.p)
        return self._per_row(value, log_prob)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """Draws with a gradient, (*sample_shape, *batch, D)."""
        shape = self._extended_shape(Size(sample_shape))
        one = torch.ones((), dtype=self.loc.dtype, device=self.loc.device)
        radius = Gamma(one * shape[-1], one).sample(shape[:-1]) / self.rate
        # |g| = G^(1/p) U with G ~ Gamma(1 + 1/p) has density prop. to exp(-|g|^p), for p = infinity too
        size = Gamma(one + 1 / self.p, one).sample(shape) ** (1 / self.p)
        g = size * (2 * torch.rand(shape, dtype=one.dtype, device=one.device) - 1)
        return self.loc + (radius / p_norm(g, self.p))[..., None] * g

    def tempered(self, temperature: float) -> NormExponential:
        """The density to the power 1 / T, normalised."""
        cold = NormExponential(self.loc, self.rate / temperature, self.p)
        out: NormExponential = cold.expand(self.batch_shape)
        return out

    @property
    def mean(self) -> Tensor:
        """(*batch, D)."""
        return self.loc.expand(*self.batch_shape, -1)


def p_norm(x: Tensor, p: float) -> Tensor:
    """||x||_p over the last dim; its gradient at 0 is 0, a subgradient."""
    if p in (1, 2, math.inf):
        return torch.linalg.vector_norm(x, p, dim=-1)
    # Large powers of small numbers underflow. The norm is homogeneous, so the scale needs no gradient.
    scale = x.detach().abs().amax(-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    return scale.squeeze(-1) * torch.linalg.vector_norm(x / scale, p, dim=-1)


def log_ball_volume(dim: int, p: float) -> float:
    """The logarithm of vol {x in R^dim : ||x||_p <= 1}."""
    return dim * (math.log(2) + math.lgamma(1 + 1 / p)) - math.lgamma(1 + dim / p)
