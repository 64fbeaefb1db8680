"""Distributions of single counts whose log probabilities keep their digits for large counts, means and dispersions.

Sums of lgamma lose nats in float32: at a count of a million its values are of order 1e7, of which the differences that
matter are the seventh digit. Here each factorial is split by Stirling's formula into a part that cancels, and one of
order log n; what is left of the first parts are the deviances x log(x / m) + m - x, computed without cancellation.

Source: C. Loader, "Fast and accurate computation of binomial probabilities", 2000.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor
from torch.autograd import Function
from torch.distributions import Gamma
from torch.nn import functional

from probclust.distributions.stirling import deviance, digamma_rest, log_factorial_rest, log_ratio


def is_count(x: Tensor) -> Tensor:
    """Elementwise, whether x is a whole number of at least 0."""
    return (x >= 0) & (x == x.floor())


class _PoissonLogProb(Function):
    """Log probability of counts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_mean: Tensor) -> Tensor:
        mean = log_mean.exp()
        excess = x - mean
        ctx.save_for_backward(x, log_mean)
        found = -deviance(x, excess, x + mean, log_ratio(x, log_mean, mean)) - log_factorial_rest(x)
        return torch.where(is_count(x), found, -torch.inf)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, log_mean = ctx.saved_tensors
        return None, (gradient * (x - log_mean.exp())).sum_to_size(log_mean.shape)


class _NegativeBinomialLogProb(Function):
    """Log probability of counts, with a slope by log r that keeps its digits too: it falls as 1 / r.

    By Loader's way, log p(x) is a sum of rests of factorials, less two deviances: of the r failures, expected
    (r + x) r / (r + m), and of the x successes, expected (r + x) m / (r + m).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_mean: Tensor, log_r: Tensor) -> Tensor:
        m, r = log_mean.exp(), log_r.exp()
        step = (x - m) / (r + m)
        log_step = ((r + x) / (r + m)).log()  # log(1 + step)
        change = r * step
        failures = deviance(r, -change, 2 * r + change, -log_step)
        ratio = log_ratio(x, log_mean, m) - log_step
        successes = deviance(x, change, x + (r + x) * (m / (r + m)), ratio)
        rest = log_factorial_rest(r + x) - log_factorial_rest(r) - log_factorial_rest(x) - (x / r).log1p()
        by_r = r * (digamma_rest(r + x) - digamma_rest(r)) - failures if ctx.needs_input_grad[2] else None
        ctx.save_for_backward(x, log_mean, log_r, change, by_r)
        return torch.where(is_count(x), rest - failures - successes, -torch.inf)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, log_mean, log_r, by_mean, by_r = ctx.saved_tensors
        if torch.is_grad_enabled():  # slopes with a graph of their own, for second derivatives
            m, r = log_mean.exp(), log_r.exp()
            by_mean = r * (x - m) / (r + m)
            by_r = r * ((r + x).digamma() - r.digamma() - (m / r).log1p()) - by_mean
        to_r = None if by_r is None else (gradient * by_r).sum_to_size(log_r.shape)
        return None, (gradient * by_mean).sum_to_size(log_mean.shape), to_r


class CountDistribution(TorchDistribution):
    """Base: distributions of a count, of parameters that broadcast.

    Each parameter keeps its shape, so that work on it alone is done once.

    Args:
        parameters: in the order of `arg_constraints`.
        validate_args: check the parameters.
        batch_shape: one that the parameters broadcast to; None for theirs.
    """

    support = constraints.nonnegative_integer

    def __init__(self, *parameters: Tensor, validate_args: bool | None = None, batch_shape: Any = None) -> None:
        for name, value in zip(self.arg_constraints, parameters, strict=True):
            setattr(self, name, value)
        shape = torch.broadcast_shapes(*(p.shape for p in parameters)) if batch_shape is None else Size(batch_shape)
        super().__init__(shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution with a larger batch."""
        parameters = (getattr(self, name) for name in self.arg_constraints)
        return type(self)(*parameters, validate_args=self.__dict__.get("_validate_args"), batch_shape=batch_shape)

    def _per_count(self, value: Tensor) -> Tensor:
        return value.expand(torch.broadcast_shapes(self.batch_shape, value.shape))


class Poisson(CountDistribution):
    """Poisson distribution of a mean given by its logarithm.

    Args:
        log_rate: logarithm of the mean.
        validate_args: check the parameters.
    """

    arg_constraints = {"log_rate": constraints.real}  # noqa: RUF012 (torch's interface)
    log_rate: Tensor

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of counts, in nats."""
        log_prob: Any = _PoissonLogProb.apply
        return self._per_count(log_prob(value, self.log_rate))

    @torch.no_grad()
    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """(*sample_shape, *batch) draws."""
        return torch.poisson(self.mean.expand(self._extended_shape(Size(sample_shape))))

    @property
    def mean(self) -> Tensor:
        """(*batch)."""
        return self._per_count(self.log_rate.exp())

    rate = variance = mean


class NegativeBinomial(CountDistribution):
    """Negative binomial distribution of mean m and variance m + m^2 / r.

    Args:
        log_mean: logarithm of m.
        log_dispersion: logarithm of r.
        validate_args: check the parameters.
    """

    arg_constraints = {"log_mean": constraints.real, "log_dispersion": constraints.real}  # noqa: RUF012
    log_mean: Tensor
    log_dispersion: Tensor

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of counts, in nats: those of r and of the count in r + count draws of two kinds."""
        log_prob: Any = _NegativeBinomialLogProb.apply
        return self._per_count(log_prob(value, self.log_mean, self.log_dispersion))

    @torch.no_grad()
    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """(*sample_shape, *batch) draws."""
        shape = self._extended_shape(Size(sample_shape))
        gamma = Gamma(self.log_dispersion.exp(), 1.0, validate_args=False).expand(shape).sample()
        return torch.poisson(gamma * (self.log_mean - self.log_dispersion).exp())

    @property
    def total_count(self) -> Tensor:
        """(*batch) r."""
        return self._per_count(self.log_dispersion.exp())

    @property
    def mean(self) -> Tensor:
        """(*batch) m."""
        return self._per_count(self.log_mean.exp())

    @property
    def variance(self) -> Tensor:
        """(*batch)."""
        return self.mean + self.mean * (self.log_mean - self.log_dispersion).exp()


class ZeroInflatedNegativeBinomial(CountDistribution):
    """0 with probability sigmoid(gate_logits), else a draw of a negative binomial distribution.

    Args:
        log_mean: logarithm of the latter's m.
        log_dispersion: logarithm of its r.
        gate_logits: of a surplus zero.
        validate_args: check the parameters.
    """

    arg_constraints = {  # noqa: RUF012
        "log_mean": constraints.real,
        "log_dispersion": constraints.real,
        "gate_logits": constraints.real,
    }
    log_mean: Tensor
    log_dispersion: Tensor
    gate_logits: Tensor

    @property
    def counted(self) -> NegativeBinomial:
        """Where no zero is put in."""
        return NegativeBinomial(self.log_mean, self.log_dispersion, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of counts, in nats."""
        drawn = self.counted.log_prob(value) + functional.logsigmoid(-self.gate_logits)
        zero = torch.logaddexp(functional.logsigmoid(self.gate_logits), drawn)
        return self._per_count(torch.where(value == 0, zero, drawn))

    @torch.no_grad()
    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """(*sample_shape, *batch) draws."""
        drawn = self.counted.expand(self.batch_shape).sample(sample_shape)
        return torch.where(torch.rand_like(drawn) < self.gate_logits.sigmoid(), 0, drawn)

    @property
    def mean(self) -> Tensor:
        """(*batch)."""
        return self._per_count((-self.gate_logits).sigmoid() * self.log_mean.exp())

    @property
    def variance(self) -> Tensor:
        """(*batch)."""
        drawn = (-self.gate_logits).sigmoid()
        return self._per_count(drawn * (self.counted.variance + (1 - drawn) * self.counted.mean.square()))
