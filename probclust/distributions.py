"""Distributions of rows that Pyro lacks: exponentials of norms, directions, and scores without a normaliser.

Each has event shape (D,). Their parameters are broadcast where they are used, so that `expand`, which a plate calls,
copies nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor
from torch.distributions import Beta, Gamma
from torch.nn import functional

from probclust.bessel import log_bessel


class UnitLength(constraints._Sphere):
    """The unit sphere, to within the rounding of stored data."""

    tolerance = 1e-4

    def check(self, value: Tensor) -> Tensor:
        """Whether rows have length 1."""
        return (value.norm(dim=-1) - 1).abs() < self.tolerance

    def __repr__(self) -> str:
        return "rows of length 1; divide each row by its length, as sklearn.preprocessing.normalize does"


unit_length = UnitLength()


class RowDistribution(TorchDistribution):
    """Base: a `loc` of shape (..., D), and one positive number for each of the batch.

    Args:
        loc: (..., D).
        rate: (...), broadcast against the batch of `loc`.
        validate_args: check the parameters.
    """

    def __init__(self, loc: Tensor, rate: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self._rate = loc, rate
        batch = torch.broadcast_shapes(loc.shape[:-1], rate.shape)
        super().__init__(batch, loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution with a larger batch."""
        new = copy.copy(self)
        new._batch_shape = torch.broadcast_shapes(self.batch_shape, Size(batch_shape))
        return new

    @property
    def mode(self) -> Tensor:
        """(*batch, D): `loc`."""
        return self.loc.expand(*self.batch_shape, -1)

    def _per_row(self, value: Tensor, log_prob: Tensor) -> Tensor:
        return log_prob.expand(torch.broadcast_shapes(self.batch_shape, value.shape[:-1]))

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """Draws without a gradient, (*sample_shape, *batch, D)."""
        with torch.no_grad():
            return self.rsample(sample_shape)


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

    @property
    def mean(self) -> Tensor:
        """(*batch, D), inside the sphere."""
        return ((1 - 2 * self._beta.mean)[..., None] * self.loc).expand(*self.batch_shape, -1)


class Score(RowDistribution):
    """log p(x) = -rate * energy(x, loc), with no normaliser: a score and no density, so it cannot be drawn from.

    Args:
        energy: takes (..., D) rows and (..., D) centres that broadcast, to (...).
        loc: (..., D).
        rate: (...).
        validate_args: check the parameters.
    """

    arg_constraints = {"loc": constraints.real_vector, "rate": constraints.positive}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(
        self,
        energy: Callable[[Tensor, Tensor], Tensor],
        loc: Tensor,
        rate: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.energy, self.rate = energy, rate
        super().__init__(loc, rate, validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """The score of (..., D) rows."""
        return self._per_row(value, -self.rate * self.energy(value, self.loc))

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """There is none."""
        raise NotImplementedError(
            "a custom dissimilarity has no normaliser, so there is no distribution to draw from; use one of "
            "probclust.dissimilarities, or pc.reconstruct for the centres"
        )

    @property
    def mean(self) -> Tensor:
        """The centres, (*batch, D)."""
        return self.loc.expand(*self.batch_shape, -1)
