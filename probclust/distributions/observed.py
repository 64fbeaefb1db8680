"""Rows of which some entries are unobserved: NaN there, and log densities of the observed entries alone."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor
from torch.distributions import Independent, MultivariateNormal

from probclust.distributions.base import typical
from probclust.distributions.tempered import tempered


def observed(fn: Any) -> Any:
    """The distribution of a row, `fn`, for rows whose NaN entries are unobserved (missing at random).

    Its `log_prob` is that of the observed entries, the others integrated out exactly; `impute(value)` draws these
    given those, or gives their mean.

    Args:
        fn: a distribution with event shape (D,): independent features, or a multivariate normal.

    Raises:
        ValueError: nothing is known of the marginals of `fn`.
    """
    if hasattr(fn, "observed"):
        return fn.observed()
    if hasattr(fn, "impute"):  # it takes NaN as it is
        return fn
    if isinstance(fn, Independent) and fn.reinterpreted_batch_ndims == 1 and not fn.base_dist.event_shape:
        return ObservedFeatures(fn.base_dist)
    if isinstance(fn, MultivariateNormal):
        return ObservedNormal(fn.loc, fn.scale_tril)
    raise ValueError(
        f"{type(fn).__name__} does not allow missing entries: its features are not independent given the latents. "
        "Impute x first, or choose another likelihood"
    )


def filled(x: Tensor, values: Tensor) -> Tensor:
    """`x` with `values`, which broadcast to it, in place of NaN; no gradient reaches them there."""
    return torch.where(x.isnan(), values.detach(), x)


class OrMissing(constraints.Constraint):
    """The support of an entry that may be NaN.

    Args:
        base: the support of an observed one.
    """

    def __init__(self, base: Any) -> None:
        self.base = base
        super().__init__()

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        """Whether the observed entries are."""
        return bool(self.base.is_discrete)

    def check(self, value: Tensor) -> Tensor:
        """Elementwise."""
        missing = value.isnan()
        return missing | self.base.check(torch.where(missing, 0.0 if self.is_discrete else 0.5, value))

    def __repr__(self) -> str:
        return f"{self.base}, or NaN"


class ObservedFeatures(TorchDistribution):
    """Independent features, of which each row shows some.

    Args:
        base: distribution of the features, batch shape (..., D), event shape ().
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's interface)

    def __init__(self, base: Any) -> None:
        self.base = base
        super().__init__(base.batch_shape[:-1], base.batch_shape[-1:])
        if base.__dict__.get("_validate_args") is False:  # whether the support is checked is the base's say
            self._validate_args = False

    def expand(self, batch_shape: Any, _instance: Any = None) -> ObservedFeatures:
        """The same distribution with a larger batch."""
        return ObservedFeatures(self.base.expand(Size((*batch_shape, *self.event_shape))))

    @property
    def support(self) -> Any:
        """Of each entry."""
        return OrMissing(self.base.support)

    @property
    def accepts(self) -> Any:
        """What the contract check lets in, of each entry."""
        accepts = getattr(self.base, "accepts", None)
        return None if accepts is None else OrMissing(accepts)

    def log_prob(self, value: Tensor) -> Tensor:
        """(...) log density of the observed entries of (..., D) rows, in nats; 0 where a row shows none."""
        missing = value.isnan()
        inside = torch.where(missing, 0.0 if self.support.is_discrete else 0.5, value)  # any value in the support
        return torch.where(missing, 0.0, self.base.log_prob(inside)).sum(-1)

    def impute(self, value: Tensor, draw: bool = True) -> Tensor:
        """`value` (..., D), its NaN entries drawn, or set to their mean (a category to the most probable)."""
        shape = torch.broadcast_shapes(value.shape, self.base.batch_shape)
        fn = self.base.expand(shape)
        with torch.no_grad():
            return filled(value, (fn.sample() if draw else typical(fn)).to(value.dtype))

    def tempered(self, temperature: float) -> ObservedFeatures:
        """The density to the power 1 / T, normalised, of rows whose NaN entries are unobserved."""
        return ObservedFeatures(tempered(self.base, temperature))

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """Whole rows."""
        return self.base.sample(sample_shape)

    @property
    def mean(self) -> Tensor:
        """(*batch, D)."""
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        """(*batch, D)."""
        return self.base.variance

    @property
    def typical(self) -> Tensor:
        """(*batch, D): the mean, or the most probable category."""
        return typical(self.base)


class ObservedNormal(TorchDistribution):
    """A multivariate normal, of which each row shows some entries.

    With M the 0/1 diagonal matrix of the observed entries, the marginal is read off M S M + I - M, whose Cholesky
    factor has ones where entries are missing; the missing are drawn by conditioning a draw of the whole row
    (Matheron's rule).

    Args:
        loc: (..., D) means.
        scale_tril: (..., D, D) Cholesky factors of the covariances S.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's interface)
    max_elements = 2**24  # of the covariances of one part of the rows

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        self.loc, self.scale_tril = loc, scale_tril
        shape = torch.broadcast_shapes(loc.shape, scale_tril.shape[:-1])
        super().__init__(shape[:-1], shape[-1:])

    @property
    def support(self) -> Any:
        """Of each entry."""
        return OrMissing(constraints.real)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ObservedNormal:
        """The same distribution with a larger batch."""
        d = self.event_shape[0]
        return ObservedNormal(self.loc.expand(*batch_shape, d), self.scale_tril.expand(*batch_shape, d, d))

    def _parts(self, value: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(value, loc, factor) for some rows (dim -2 of value) at a time, so that memory stays bounded."""
        batch = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        d = self.event_shape[0]
        value, loc = value.expand(*batch, d), self.loc.expand(*batch, d)
        factor = self.scale_tril.expand(*batch, d, d)
        if not batch:
            return [(value, loc, factor)]
        rows = max(1, self.max_elements * batch[-1] // (batch.numel() * d * d))
        return list(zip(value.split(rows, -2), loc.split(rows, -2), factor.split(rows, -3), strict=True))

    def _marginal(self, value: Tensor, factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mask of observed entries, the covariances, and the factors of M S M + I - M."""
        seen = value.isnan().logical_not().to(factor)
        covariance = factor @ factor.mT
        masked = covariance * seen[..., None] * seen[..., None, :] + torch.diag_embed(1 - seen)
        return seen, covariance, torch.linalg.cholesky(masked)

    def log_prob(self, value: Tensor) -> Tensor:
        """(...) log density of the observed entries of (..., D) rows, in nats; 0 where a row shows none."""
        out = []
        for x, loc, factor in self._parts(value):
            seen, _, root = self._marginal(x, factor)
            missed = (filled(x, loc) - loc) * seen
            white = torch.linalg.solve_triangular(root, missed[..., None], upper=False).squeeze(-1)
            log_scale = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            out.append(-0.5 * white.square().sum(-1) - log_scale - seen.sum(-1) * (0.5 * math.log(2 * math.pi)))
        return out[0] if len(out) == 1 else torch.cat(out, -1)

    @torch.no_grad()
    def impute(self, value: Tensor, draw: bool = True) -> Tensor:
        """`value` (..., D), its NaN entries drawn given the others, or set to their mean given the others."""
        out = []
        for x, loc, factor in self._parts(value):
            seen, covariance, root = self._marginal(x, factor)
            whole = loc + (factor @ torch.randn_like(loc)[..., None]).squeeze(-1) if draw else loc
            missed = (filled(x, whole) - whole) * seen
            pull = (covariance @ torch.cholesky_solve(missed[..., None], root)).squeeze(-1)
            out.append(filled(x, whole + pull))
        return out[0] if len(out) == 1 else torch.cat(out, -2)

    def tempered(self, temperature: float) -> ObservedNormal:
        """The density to the power 1 / T, normalised, of rows whose NaN entries are unobserved."""
        return ObservedNormal(self.loc, self.scale_tril * temperature**0.5)

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """Whole rows."""
        return MultivariateNormal(self.loc, scale_tril=self.scale_tril, validate_args=False).sample(sample_shape)

    @property
    def mean(self) -> Tensor:
        """(*batch, D)."""
        return self.loc.expand(self.batch_shape + self.event_shape)
