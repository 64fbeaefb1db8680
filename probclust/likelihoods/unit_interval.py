"""Likelihoods of numbers between 0 and 1: Bernoulli, of the two ends, and continuous Bernoulli."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from pyro.distributions import constraints
from torch import Tensor

from probclust.likelihoods.base import FeatureLikelihood


class Bernoulli(FeatureLikelihood):
    """x_d ~ Bernoulli(sigmoid(output_d)), for binary features.

    Values between 0 and 1, such as grey pixels, are taken as probabilities (binary cross-entropy), as the papers do;
    the log joint is then a score and no density of x. `ContinuousBernoulli` is the density of such values.

    Args:
        n_features: columns of x.
    """

    name = "bernoulli"

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_features) to a distribution over rows."""
        return GreyBernoulli(logits=outputs, validate_args=False).to_event(1)


# Its name is what messages call it; `accepts` tells the contract check what may pass beside the support.
GreyBernoulli: Any = type("Bernoulli", (dist.Bernoulli,), {"accepts": constraints.unit_interval})


class ContinuousBernoulli(FeatureLikelihood):
    """x_d ~ ContinuousBernoulli(sigmoid(output_d)): a density of values from 0 to 1, such as grey pixels.

    Its mean is not sigmoid(output_d), but nearer to 1/2.

    Args:
        n_features: columns of x.

    Source: G. Loaiza-Ganem, J. P. Cunningham, "The continuous Bernoulli: fixing a pervasive error in variational
    autoencoders", 2019.
    """

    name = "continuous-bernoulli"

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_features) to a distribution over rows."""
        return dist.ContinuousBernoulli(logits=outputs).to_event(1)
