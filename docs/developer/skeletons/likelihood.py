"""The MyLikelihood likelihood: say in one line for which kind of columns."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from torch import Tensor
from torch.nn import functional

from probclust.likelihoods.base import FeatureLikelihood


class MyLikelihood(FeatureLikelihood):
    """x_d ~ Gumbel(output_d, scale_d), the scale from a second head: write the density here.

    Args:
        n_features: D, columns of x.
        floor: lower bound of the scales, in units of x.

    Source: authors, "Title", year.
    """

    n_heads = 2  # decoder outputs for each column
    name = "my-likelihood"  # by which stories take it; nothing else lists it

    def __init__(self, n_features: int, floor: float = 0.05) -> None:
        super().__init__(n_features)
        self.floor = floor

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., 2 D) to a distribution of rows, batch (...) and event (D,)."""
        loc, raw = outputs.split(self.n_features, -1)
        return dist.Gumbel(loc, self.floor + functional.softplus(raw)).to_event(1)
