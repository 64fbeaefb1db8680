"""Distributions on the unit sphere: von Mises-Fisher and power spherical."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import constraints
from torch import Size, Tensor
from torch.distributions import Beta
from torch.nn import functional

from probclust.distributions.bessel import log_bessel
from probclust.distributions.norms import unit_length
from probclust.distributions.rows import RowDistribution


class VonMisesFisher(RowDistribution):
    """p(x) prop. to exp(concentration <loc, x>) on the unit sphere, with respect to its surface measure.

    Args:
        loc: (..., D) mean directions, of length 1.
        concentration: (...).
        validate_args: check the parameters.

    Source: K. V. Mardia, P. E. Jupp, "Directional statistics", 2000, section 9.3; draws: A. T. A. Wood, "Simulation
    of the von Mises Fisher distribution", 1994.
    """

    arg_constraints = {"loc": unit_length, "concentration": constraints.positive}  # noqa: RUF012
    support = unit_length

    def __init__(self, loc: Tensor, concentration: Tensor, validate_args: bool | None = None) -> None:
        self.concentration = concentration
        super().__init__(loc, concentration, validate_args)
        self._log_scaled_bessel, self._resultant = log_bessel(loc.shape[-1] / 2 - 1, concentration)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of (..., D) rows; of a mean of directions, inside the sphere, that of its directions' mean."""
        d = self.loc.shape[-1]
        opening = 1 - (value * self.loc).sum(-1)
        log_normalizer = 0.5 * d * math.log(2 * math.pi) + self._log_scaled_bessel
        return self._per_row(value, -self.concentration * opening - log_normalizer)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """There is none: the draws are by rejection."""
        raise NotImplementedError("VonMisesFisher draws by rejection, without a gradient; use sample()")

    @torch.no_grad()
    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """(*sample_shape, *batch, D) draws."""
        shape = self._extended_shape(Size(sample_shape))
        concentration = self.concentration.expand(shape[:-1])
        opening = torch.empty_like(concentration).contiguous()
        todo = torch.ones_like(opening, dtype=torch.bool)
        while todo.any():
            proposal, accepted = _wood(concentration[todo], shape[-1])
            opening[todo] = proposal  # those not accepted are drawn again
            todo[todo.clone()] = ~accepted
        return _at_opening(self.loc.expand(shape), opening)

    def tempered(self, temperature: float) -> VonMisesFisher:
        """The density to the power 1 / T, normalised."""
        out: VonMisesFisher = VonMisesFisher(self.loc, self.concentration / temperature).expand(self.batch_shape)
        return out

    @property
    def mean(self) -> Tensor:
        """(*batch, D), inside the sphere."""
        return (self._resultant[..., None] * self.loc).expand(*self.batch_shape, -1)


def _wood(concentration: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Wood's proposals of 1 - <loc, x>, a number for each concentration, and whether each is accepted."""
    b = (dim - 1) / (2 * concentration + (4 * concentration.square() + (dim - 1) ** 2).sqrt())
    half = torch.full_like(b, (dim - 1) / 2)
    beta = Beta(half, half).sample()
    opening = 2 * b * beta / (1 - (1 - b) * beta)
    middle, cosine = 2 * b / (1 + b), (1 - b) / (1 + b)
    log_ratio = concentration * (middle - opening) + (dim - 1) * torch.log(
        (middle + cosine * opening) * (1 + b).square() / (4 * b)
    )
    return opening, log_ratio >= torch.rand_like(b).log()


def _at_opening(loc: Tensor, opening: Tensor) -> Tensor:
    """Points of the sphere with 1 - <loc, x> = opening, the direction away from `loc` uniform."""
    noise = torch.randn_like(loc)
    tangent = functional.normalize(noise - (noise * loc).sum(-1, keepdim=True) * loc, dim=-1)
    sine = (opening * (2 - opening)).clamp(min=torch.finfo(opening.dtype).tiny).sqrt()
    return functional.normalize((1 - opening)[..., None] * loc + sine[..., None] * tangent, dim=-1)


class PowerSpherical(RowDistribution):
    """p(x) prop. to (1 + <loc, x>)^concentration on the unit sphere; its draws have a gradient.

    Args:
        loc: (..., D) mean directions, of length 1.
        concentration: (...).
        validate_args: check the parameters.

    Source: N. De Cao, W. Aziz, "The power spherical distribution", 2020.
    """

    arg_constraints = {"loc": unit_length, "concentration": constraints.positive}  # noqa: RUF012
    support = unit_length
    has_rsample = True

    def __init__(self, loc: Tensor, concentration: Tensor, validate_args: bool | None = None) -> None:
        self.concentration = concentration
        super().__init__(loc, concentration, validate_args)
        half = (loc.shape[-1] - 1) / 2
        self._beta = Beta(torch.full_like(concentration, half), half + concentration)  # of (1 - <loc, x>) / 2

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of (..., D) rows with respect to the sphere's surface measure."""
        a, b = self._beta.concentration0, self._beta.concentration1
        log_normalizer = (a + b) * math.log(2) + b * math.log(math.pi) + a.lgamma() - (a + b).lgamma()
        cosine = (value * self.loc).sum(-1).clamp(min=torch.finfo(value.dtype).eps - 1)
        height = torch.log1p(cosine)
        return self._per_row(value, self.concentration * height - log_normalizer)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """(*sample_shape, *batch, D) draws."""
        shape = self._extended_shape(Size(sample_shape))
        opening = 2 * self._beta.expand(self.batch_shape).rsample(Size(sample_shape))
        return _at_opening(self.loc.expand(shape), opening)

    def tempered(self, temperature: float) -> PowerSpherical:
        """The density to the power 1 / T, normalised."""
        out: PowerSpherical = PowerSpherical(self.loc, self.concentration / temperature).expand(self.batch_shape)
        return out

    @property
    def mean(self) -> Tensor:
        """(*batch, D), inside the sphere."""
        return ((1 - 2 * self._beta.mean)[..., None] * self.loc).expand(*self.batch_shape, -1)
