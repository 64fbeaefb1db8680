"""Likelihoods p(x | decoder outputs): parts that turn a decoder's outputs into a distribution of one row.

The interface of a likelihood, ours or the user's: `n_heads`, the decoder outputs that it needs per feature, and a
call that turns outputs of shape (..., n_heads * n_features) into a Pyro distribution with event shape (n_features,).
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.diagonal_normal import DiagonalNormal
from probclust.recorded import Part


class Likelihood(Protocol):
    """What a decoder's story asks of a likelihood."""

    n_heads: int

    def __call__(self, outputs: Tensor) -> Any: ...  # noqa: D102


class Bernoulli(Part):
    """x_d ~ Bernoulli(sigmoid(output_d)), for binary features.

    Values between 0 and 1, such as grey pixels, are taken as probabilities (binary cross-entropy), as the papers do;
    the log joint is then a score and no density of x.

    Args:
        n_features: columns of x.
    """

    n_heads = 1

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = n_features

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_features) to a distribution over rows."""
        return dist.Bernoulli(logits=outputs, validate_args=False).to_event(1)


class Gaussian(Part):
    """x_d ~ Normal(output_d, scale_d).

    Args:
        n_features: columns of x.
        scale: "feature", one learned standard deviation per feature; "shared", one for all; "row", the decoder's
            own (a second head, as in the k-DVAE paper); or a fixed positive number.
        floor: lower bound of a learned standard deviation, in units of x.
        start: standard deviation at the start.
    """

    gain = 10.0  # Adam's steps, sized for the weights of networks, move the scale within an epoch or two
    fixed_scale: Tensor
    raw_scale: nn.Parameter | None

    def __init__(
        self,
        n_features: int,
        scale: Literal["feature", "shared", "row"] | float = "shared",
        floor: float = 0.05,
        start: float = 0.3,
    ) -> None:
        super().__init__()
        self.n_features, self.floor = n_features, floor
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
        """(n_features,) or (1,) standard deviations, in units of x; where "row", those of a zero output."""
        if self.raw_scale is None:
            return self.fixed_scale
        return self.floor + functional.softplus(self.gain * self.raw_scale)

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_heads * n_features) to a distribution over rows."""
        if self.n_heads == 1 or self.raw_scale is None:
            return DiagonalNormal(outputs, self.scale)
        loc, raw = outputs.split(self.n_features, -1)
        return DiagonalNormal(loc, self.floor + functional.softplus(raw + self.gain * self.raw_scale))


_BY_NAME: dict[str, type[Part]] = {"gaussian": Gaussian, "bernoulli": Bernoulli}


def likelihood_named(likelihood: str | Likelihood, n_features: int) -> Any:
    """The likelihood of that name with its defaults ("gaussian", "bernoulli"); an object is passed through."""
    if not isinstance(likelihood, str):
        return likelihood
    if likelihood not in _BY_NAME:
        raise ValueError(f"likelihood must be one of {sorted(_BY_NAME)} or a likelihood object, got {likelihood!r}")
    return _BY_NAME[likelihood](n_features)
