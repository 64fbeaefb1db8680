"""Drawing at a temperature: each density to the power 1 / T, normalised.

A temperature below 1 draws closer to the mode, one above 1 further away; 1 leaves a distribution as it is. A Gaussian
keeps its mean, and its variance is multiplied by T.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution as PyroExpanded
from pyro.distributions.torch_distribution import MaskedDistribution
from torch import Size, Tensor
from torch import distributions as td

from probclust.distributions.blocks import Blocks
from probclust.distributions.diagonal_normal import DiagonalNormal
from probclust.distributions.directions import PowerSpherical, VonMisesFisher
from probclust.distributions.given_total import GivenTotal
from probclust.distributions.norms import NormExponential
from probclust.distributions.observed import ObservedFeatures, ObservedNormal

Temperature = float | Mapping[str, float]


@singledispatch
def tempered(fn: Any, temperature: float) -> Any:
    """The distribution with density proportional to that of `fn` to the power 1 / T.

    Exact for the families that it knows, and for every distribution of a single count that knows its mean and
    variance. Two are tempered from within, and their densities are no powers: a transformed distribution by its base,
    as normalising flows have it, and a multinomial by its single draws. Counts given their total keep the
    distribution of the total. Add a family of your own by a method `tempered(temperature)`, or by
    `@probclust.distributions.tempered.tempered.register(MyDistribution)`.

    Args:
        fn: a distribution.
        temperature: T, positive.

    Raises:
        NotImplementedError: the family is not known.
        ValueError: the power has no finite integral.

    References:
        D. P. Kingma, P. Dhariwal, "Glow: generative flow with invertible 1x1 convolutions", 2018, section 6.

    Examples:
        >>> import pyro.distributions as dist
        >>> tempered(dist.Normal(2.0, 3.0), 0.25)
        Normal(loc: 2.0, scale: 1.5)
    """
    if hasattr(fn, "tempered"):
        return fn.tempered(temperature)
    if fn.event_dim == 0 and getattr(fn.support, "is_discrete", False):
        return TemperedCounts(fn, temperature)
    raise NotImplementedError(_unknown(fn))


def _unknown(fn: Any) -> str:
    return (
        f"{type(fn).__name__} has no known form at a temperature; give the temperature by site name and leave this "
        "one out, or register its form with @probclust.distributions.tempered.tempered.register"
    )


@tempered.register(dist.Delta)
def _same(fn: Any, temperature: float) -> Any:
    return fn


@tempered.register(td.Uniform)
def _uniform(fn: Any, temperature: float) -> Any:
    return fn


@tempered.register(td.Independent)
def _independent(fn: Any, temperature: float) -> Any:
    return dist.Independent(tempered(fn.base_dist, temperature), fn.reinterpreted_batch_ndims)


@tempered.register(PyroExpanded)
def _expanded(fn: Any, temperature: float) -> Any:
    return tempered(fn.base_dist, temperature).expand(fn.batch_shape)


@tempered.register(MaskedDistribution)
def _masked(fn: Any, temperature: float) -> Any:
    return tempered(fn.base_dist, temperature).mask(fn._mask)


@tempered.register(td.TransformedDistribution)
def _transformed(fn: Any, temperature: float) -> Any:
    is_flow = type(fn).__name__ == "TransformedDistribution" or not type(fn).__module__.startswith(("torch.", "pyro."))
    if not is_flow:  # a family with a name, such as Weibull, is one only in the way that torch computes it
        raise NotImplementedError(_unknown(fn))
    return dist.TransformedDistribution(tempered(fn.base_dist, temperature), fn.transforms)


@tempered.register(td.Normal)
def _normal(fn: Any, temperature: float) -> Any:
    return dist.Normal(fn.loc, fn.scale * temperature**0.5)


@tempered.register(td.LogNormal)
def _log_normal(fn: Any, temperature: float) -> Any:
    variance = fn.scale**2
    return dist.LogNormal(fn.loc + (temperature - 1) * variance, (temperature * variance).sqrt())


@tempered.register(td.HalfNormal)
def _half_normal(fn: Any, temperature: float) -> Any:
    return dist.HalfNormal(fn.scale * temperature**0.5)


@tempered.register(DiagonalNormal)
def _diagonal_normal(fn: Any, temperature: float) -> Any:
    return DiagonalNormal(fn.loc, fn.scale * temperature**0.5).expand(fn.batch_shape)


@tempered.register(td.MultivariateNormal)
def _multivariate_normal(fn: Any, temperature: float) -> Any:
    return dist.MultivariateNormal(fn.loc, scale_tril=fn.scale_tril * temperature**0.5)


@tempered.register(td.LowRankMultivariateNormal)
def _low_rank(fn: Any, temperature: float) -> Any:
    return dist.LowRankMultivariateNormal(fn.loc, fn.cov_factor * temperature**0.5, fn.cov_diag * temperature)


@tempered.register(td.Laplace)
def _laplace(fn: Any, temperature: float) -> Any:
    return dist.Laplace(fn.loc, fn.scale * temperature)


@tempered.register(td.StudentT)
def _student(fn: Any, temperature: float) -> Any:
    df = _degrees(fn.df, 1, temperature)
    return dist.StudentT(df, fn.loc, fn.scale * (fn.df / df) ** 0.5)


@tempered.register(dist.MultivariateStudentT)
def _multivariate_student(fn: Any, temperature: float) -> Any:
    df = _degrees(fn.df, fn.event_shape[0], temperature)
    return dist.MultivariateStudentT(df, fn.loc, fn.scale_tril * (fn.df / df).sqrt()[..., None, None])


def _degrees(df: Tensor, dim: int, temperature: float) -> Tensor:
    """Degrees of freedom of a Student-t in `dim` dimensions, with `df` of them, to the power 1 / T."""
    tempered_df = (df + dim) / temperature - dim
    if not (tempered_df > 0).all():
        least = df.min().item()
        raise ValueError(
            f"a Student-t with {least:g} degrees of freedom has no power 1 / T of finite integral at temperature "
            f"{temperature:g}; take one below {1 + least / dim:g}"
        )
    return tempered_df


@tempered.register(td.Exponential)
def _exponential(fn: Any, temperature: float) -> Any:
    return dist.Exponential(fn.rate / temperature)


@tempered.register(td.Gamma)
def _gamma(fn: Any, temperature: float) -> Any:
    return dist.Gamma(_power(fn.concentration, temperature), fn.rate / temperature)


@tempered.register(td.Beta)
def _beta(fn: Any, temperature: float) -> Any:
    return dist.Beta(_power(fn.concentration1, temperature), _power(fn.concentration0, temperature))


@tempered.register(td.Dirichlet)
def _dirichlet(fn: Any, temperature: float) -> Any:
    return dist.Dirichlet(_power(fn.concentration, temperature))


def _power(concentration: Tensor, temperature: float) -> Tensor:
    """The exponent of x^(a - 1) to the power 1 / T, plus 1."""
    power = (concentration - 1) / temperature + 1
    if not (power > 0).all():
        raise ValueError(
            f"a density that is unbounded at 0 (concentration {concentration.min().item():g}) has no power 1 / T of "
            f"finite integral at temperature {temperature:g}; take a higher one"
        )
    return power


@tempered.register(td.Bernoulli)
def _bernoulli(fn: Any, temperature: float) -> Any:
    return dist.Bernoulli(logits=fn.logits / temperature, validate_args=fn.__dict__.get("_validate_args"))


@tempered.register(td.ContinuousBernoulli)
def _continuous_bernoulli(fn: Any, temperature: float) -> Any:
    return dist.ContinuousBernoulli(logits=fn.logits / temperature)


@tempered.register(td.Categorical)
def _categorical(fn: Any, temperature: float) -> Any:
    return dist.Categorical(logits=fn.logits / temperature)


@tempered.register(td.OneHotCategorical)
def _one_hot(fn: Any, temperature: float) -> Any:
    return dist.OneHotCategorical(logits=fn.logits / temperature)


@tempered.register(td.Multinomial)
def _multinomial(fn: Any, temperature: float) -> Any:
    return dist.Multinomial(fn.total_count, logits=fn.logits / temperature)


@tempered.register(td.VonMises)
def _von_mises(fn: Any, temperature: float) -> Any:
    return dist.VonMises(fn.loc, fn.concentration / temperature)


@tempered.register(VonMisesFisher)
def _von_mises_fisher(fn: Any, temperature: float) -> Any:
    return VonMisesFisher(fn.loc, fn.concentration / temperature).expand(fn.batch_shape)


@tempered.register(PowerSpherical)
def _power_spherical(fn: Any, temperature: float) -> Any:
    return PowerSpherical(fn.loc, fn.concentration / temperature).expand(fn.batch_shape)


@tempered.register(NormExponential)
def _norm_exponential(fn: Any, temperature: float) -> Any:
    return NormExponential(fn.loc, fn.rate / temperature, fn.p).expand(fn.batch_shape)


@tempered.register(ObservedFeatures)
def _observed_features(fn: Any, temperature: float) -> Any:
    return ObservedFeatures(tempered(fn.base, temperature))


@tempered.register(ObservedNormal)
def _observed_normal(fn: Any, temperature: float) -> Any:
    return ObservedNormal(fn.loc, fn.scale_tril * temperature**0.5)


@tempered.register(Blocks)
def _blocks(fn: Any, temperature: float) -> Any:
    return Blocks(fn.columns, [tempered(block, temperature) for block in fn.blocks])


@tempered.register(GivenTotal)
def _given_total(fn: Any, temperature: float) -> Any:
    def given(total: Tensor) -> Any:
        return tempered(fn.given(total), temperature)

    return GivenTotal(fn.totals, given, Size((*fn.batch_shape, *fn.event_shape)), fn.keeps_total)


class TemperedCounts(dist.TorchDistribution):
    """A distribution of single counts to the power 1 / T, drawn by Gumbel maxima over all counts within reach.

    The reach is the mean and 12 standard deviations (times T where that is above 1) on both sides, and 0.

    Args:
        fn: a distribution over whole numbers, event shape ().
        temperature: T.
    """

    arg_constraints = {}  # noqa: RUF012 (torch's interface)
    deviations = 12.0

    def __init__(self, fn: Any, temperature: float) -> None:
        self.fn, self.temperature = fn, temperature
        super().__init__(fn.batch_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """That of `fn`."""
        return self.fn.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> TemperedCounts:
        """The same distribution with a larger batch."""
        return TemperedCounts(self.fn.expand(batch_shape), self.temperature)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density to the power 1 / T, not normalised."""
        return self.fn.log_prob(value) / self.temperature

    @torch.no_grad()
    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """(*sample_shape, *batch) draws."""
        shape = self._extended_shape(Size(sample_shape))
        reach = self.deviations * self.fn.variance.sqrt() * max(1.0, self.temperature) + self.deviations
        low = (self.fn.mean - reach).floor().clamp(min=0).expand(shape)
        best, found = torch.full_like(low, -torch.inf), low.clone()
        for step in range(int(2 * reach.max()) + 1):
            value = low + step
            inside = self.support.check(value)
            log_weight = self.log_prob(torch.where(inside, value, low)).where(inside, -torch.inf)
            score = log_weight - torch.empty_like(value).exponential_().log()
            better = score > best
            best, found = torch.where(better, score, best), torch.where(better, value, found)
        return found
