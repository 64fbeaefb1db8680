"""Likelihoods of real numbers: Gaussian, Student-t, Laplace; and log-normal, of positive ones."""

from __future__ import annotations

from typing import Any, Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.distributions.diagonal_normal import DiagonalNormal
from probclust.likelihoods.base import FeatureLikelihood

GAIN = 10.0
"""Adam's steps, sized for the weights of networks, move a parameter times this within an epoch or two."""

Scale = Literal["feature", "shared", "row"] | float


class LocationScale(FeatureLikelihood):
    """Base of the likelihoods x_d ~ family(output_d, scale_d).

    Args:
        n_features: D, columns of x.
        scale: "feature", one learned scale per feature; "shared", one for all; "row", the decoder's own (a second
            head); or a fixed positive number.
        floor: lower bound of a learned scale, in units of x (log-normal: of log x).
        start: scale at the start.
    """

    gain = GAIN
    fixed_scale: Tensor
    raw_scale: nn.Parameter | None

    def __init__(self, n_features: int, scale: Scale = "shared", floor: float = 0.05, start: float = 0.3) -> None:
        super().__init__(n_features)
        self.floor = floor
        self.n_heads = 2 if scale == "row" else 1
        if isinstance(scale, str):
            if scale not in ("feature", "shared", "row"):
                raise ValueError(f"scale must be 'feature', 'shared', 'row' or a positive number, got {scale!r}")
            if not 0 <= floor < start:
                raise ValueError(f"expected 0 <= floor < start, got floor={floor}, start={start}")
            raw = torch.tensor(start - floor).expm1().log()  # the inverse of softplus
            self.raw_scale = nn.Parameter((raw / self.gain).repeat(n_features if scale == "feature" else 1))
        elif scale > 0:
            self.raw_scale = None
            self.register_buffer("fixed_scale", torch.tensor([float(scale)]))
        else:
            raise ValueError(f"scale must be positive, got {scale!r}")

    @property
    def scale(self) -> Tensor:
        """(n_features,) or (1,) scales, in units of x; where "row", those of a zero output."""
        if self.raw_scale is None:
            return self.fixed_scale
        return self.floor + functional.softplus(self.gain * self.raw_scale)

    def family(self, loc: Tensor, scale: Tensor) -> Any:
        """The distribution of a row, from (..., n_features) locations and scales that broadcast to them."""
        raise NotImplementedError

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_heads * n_features) to a distribution over rows."""
        if self.n_heads == 1 or self.raw_scale is None:
            return self.family(outputs, self.scale)
        loc, raw = outputs.split(self.n_features, -1)
        return self.family(loc, self.floor + functional.softplus(raw + self.gain * self.raw_scale))


class Gaussian(LocationScale):
    """x_d ~ Normal(output_d, scale_d).

    Args:
        n_features: columns of x.
        scale: "feature", one learned standard deviation per feature; "shared", one for all; "row", the decoder's
            own (a second head, as in the k-DVAE paper); or a fixed positive number.
        floor: lower bound of a learned standard deviation, in units of x.
        start: standard deviation at the start.
    """

    name = "gaussian"

    def family(self, loc: Tensor, scale: Tensor) -> Any:
        """Normal(loc, diag(scale^2))."""
        return DiagonalNormal(loc, scale)


class Laplace(LocationScale):
    """x_d ~ Laplace(output_d, scale_d): its log density is minus the absolute error over the scale.

    Args:
        n_features: columns of x.
        scale: as for `Gaussian`; the standard deviation is sqrt(2) times it.
        floor: lower bound of a learned scale, in units of x.
        start: scale at the start.
    """

    name = "laplace"

    def family(self, loc: Tensor, scale: Tensor) -> Any:
        """Independent Laplace(loc, scale)."""
        return dist.Laplace(loc, scale).to_event(1)


class LogNormal(LocationScale):
    """log x_d ~ Normal(output_d, scale_d), for positive features; networks see log x.

    Args:
        n_features: columns of x.
        scale: of log x, as for `Gaussian`.
        floor: lower bound of a learned scale, in units of log x.
        start: scale at the start.
    """

    name = "log-normal"

    def family(self, loc: Tensor, scale: Tensor) -> Any:
        """Independent LogNormal(loc, scale)."""
        return dist.LogNormal(loc, scale).to_event(1)

    def view(self, x: Tensor) -> Tensor:
        """(rows, n_features) log x."""
        return x.clamp(min=torch.finfo(x.dtype).tiny).log()


class StudentT(LocationScale):
    """x_d ~ StudentT(degrees, output_d, scale_d): heavy tails, so that outliers pull little.

    Args:
        n_features: columns of x.
        scale: as for `Gaussian`; the standard deviation is scale * sqrt(degrees / (degrees - 2)), from 2 degrees on.
        floor: lower bound of a learned scale, in units of x.
        start: scale at the start.
        degrees: of freedom, above 1, so that there is a mean; "learned" for one number for all features, from 4.
    """

    name = "student-t"
    raw_degrees: nn.Parameter | None

    def __init__(
        self,
        n_features: int,
        scale: Scale = "shared",
        floor: float = 0.05,
        start: float = 0.3,
        degrees: float | Literal["learned"] = 4.0,
    ) -> None:
        super().__init__(n_features, scale, floor, start)
        if degrees != "learned" and not (not isinstance(degrees, str) and degrees > 1):
            raise ValueError(f"degrees must be above 1 or 'learned', got {degrees!r}")
        self.raw_degrees = None
        self.fixed_degrees = 4.0 if isinstance(degrees, str) else float(degrees)
        if degrees == "learned":
            self.raw_degrees = nn.Parameter(torch.tensor(3.0).expm1().log() / self.gain)

    @property
    def degrees(self) -> Tensor:
        """Scalar: degrees of freedom."""
        if self.raw_degrees is None:
            return self.scale.new_tensor(self.fixed_degrees)
        return 1 + functional.softplus(self.gain * self.raw_degrees)

    def family(self, loc: Tensor, scale: Tensor) -> Any:
        """Independent StudentT(degrees, loc, scale)."""
        return dist.StudentT(self.degrees, loc, scale).to_event(1)
