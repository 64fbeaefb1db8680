"""A likelihood for rows of which some entries are unobserved."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probclust.distributions.observed import observed
from probclust.likelihoods.base import Likelihood, n_outputs, n_view, view
from probclust.part import Part


class Missing(Part):
    """Another likelihood, with NaN entries of x taken as unobserved (missing at random).

    The log probability is that of the observed entries; encoders see zeros and the mask; see `pc.impute`.

    Args:
        likelihood: one whose features are independent given the decoder's outputs, ours or the user's.
        n_features: D, columns of x.

    Raises:
        ValueError: it is one whose features are not.
    """

    allows_missing = True

    def __init__(self, likelihood: Likelihood, n_features: int) -> None:
        super().__init__()
        self.base: Any = likelihood
        self.n_features, self.n_outputs = n_features, n_outputs(likelihood, n_features)
        self.n_heads = getattr(likelihood, "n_heads", 1)
        self.n_view = n_view(likelihood, n_features)
        self.decoder_first = getattr(likelihood, "decoder_first", False)
        with torch.no_grad():
            observed(likelihood(torch.zeros(1, self.n_outputs)))

    def view(self, x: Tensor) -> Tensor:
        """(rows, n_view) what warm starts see of rows, NaN where unobserved."""
        return view(self.base, x)

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_outputs) to a distribution over rows."""
        return observed(self.base(outputs))
