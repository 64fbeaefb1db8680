"""Drawing at a temperature: each density to the power 1 / T, normalised.

A temperature below 1 draws closer to the mode, one above 1 further away; 1 leaves a distribution as it is. A Gaussian
keeps its mean, and its variance is multiplied by T.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, singledispatch
from typing import Any

import pyro.distributions as dist
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor
from torch import distributions as td

from probclust.distributions.tempered_counts import TemperedCounts

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


def _known(family: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the form of a family of torch's or Pyro's; a class derived from it may bring a method of its own."""

    def register(form: Callable[..., Any]) -> Callable[..., Any]:
        def own_or_known(fn: Any, temperature: float) -> Any:
            return fn.tempered(temperature) if hasattr(fn, "tempered") else form(fn, temperature)

        tempered.register(family, own_or_known)
        return form

    return register


def _same(value: Any, temperature: float) -> Any:
    return value


def _over(value: Tensor, temperature: float) -> Tensor:
    return value / temperature


def _times(value: Tensor, temperature: float) -> Tensor:
    return value * temperature


def _root(value: Tensor, temperature: float) -> Tensor:
    return value * temperature**0.5


def _power(concentration: Tensor, temperature: float) -> Tensor:
    """The exponent of x^(a - 1) to the power 1 / T, plus 1."""
    power = (concentration - 1) / temperature + 1
    if not (power > 0).all():
        raise ValueError(
            f"a density that is unbounded at 0 (concentration {concentration.min().item():g}) has no power 1 / T of "
            f"finite integral at temperature {temperature:g}; take a higher one"
        )
    return power


_FAMILIES: dict[Any, dict[str, Callable[[Any, float], Any]]] = {
    td.Normal: {"loc": _same, "scale": _root},
    td.HalfNormal: {"scale": _root},
    td.MultivariateNormal: {"loc": _same, "scale_tril": _root},
    td.LowRankMultivariateNormal: {"loc": _same, "cov_factor": _root, "cov_diag": _times},
    td.Laplace: {"loc": _same, "scale": _times},
    td.Exponential: {"rate": _over},
    td.Gamma: {"concentration": _power, "rate": _over},
    td.Beta: {"concentration1": _power, "concentration0": _power},
    td.Dirichlet: {"concentration": _power},
    td.VonMises: {"loc": _same, "concentration": _over},
    td.Bernoulli: {"logits": _over},
    td.ContinuousBernoulli: {"logits": _over},
    td.Categorical: {"logits": _over},
    td.OneHotCategorical: {"logits": _over},
    td.Multinomial: {"total_count": _same, "logits": _over},
}
"""Families whose powers are of the family, and what becomes of each parameter."""


def _by_parameters(fn: Any, temperature: float, *, family: type) -> Any:
    parameters = {name: rule(getattr(fn, name), temperature) for name, rule in _FAMILIES[family].items()}
    return getattr(dist, family.__name__)(**parameters, validate_args=fn.__dict__.get("_validate_args"))


for _family in _FAMILIES:
    _known(_family)(partial(_by_parameters, family=_family))
for _family in (dist.Delta, td.Uniform):
    _known(_family)(_same)


@_known(td.Independent)
def _independent(fn: Any, temperature: float) -> Any:
    return dist.Independent(tempered(fn.base_dist, temperature), fn.reinterpreted_batch_ndims)


@_known(ExpandedDistribution)
def _expanded(fn: Any, temperature: float) -> Any:
    return tempered(fn.base_dist, temperature).expand(fn.batch_shape)


@_known(MaskedDistribution)
def _masked(fn: Any, temperature: float) -> Any:
    return tempered(fn.base_dist, temperature).mask(fn._mask)


@_known(td.TransformedDistribution)
def _transformed(fn: Any, temperature: float) -> Any:
    is_flow = type(fn) in (td.TransformedDistribution, dist.TransformedDistribution)
    if not is_flow and type(fn).__module__.startswith(("torch.", "pyro.")):
        # a family with a name, such as Weibull, is one only in the way that torch computes it
        raise NotImplementedError(_unknown(fn))
    return dist.TransformedDistribution(tempered(fn.base_dist, temperature), fn.transforms)


@_known(td.LogNormal)
def _log_normal(fn: Any, temperature: float) -> Any:
    variance = fn.scale**2
    return dist.LogNormal(fn.loc + (temperature - 1) * variance, (temperature * variance).sqrt())


@_known(td.StudentT)
def _student(fn: Any, temperature: float) -> Any:
    df = _degrees(fn.df, 1, temperature)
    return dist.StudentT(df, fn.loc, fn.scale * (fn.df / df) ** 0.5)


@_known(dist.MultivariateStudentT)
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
