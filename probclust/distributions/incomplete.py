"""Rows of which some entries are missing: log probabilities of the others, and draws of those given them."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import StudentT, constraints
from torch import Tensor

from probclust.distributions.observed import filled, observed


def incomplete(fn: Any) -> Any:
    """A distribution whose `log_prob` takes NaN for what is missing, and whose `impute` draws that given the rest.

    Args:
        fn: the distribution of an observed site; `probclust.distributions` knows those with independent features and
            the multivariate normal, and others may bring both methods themselves.

    Raises:
        ValueError: nothing is known of its marginals.
    """
    if hasattr(fn, "incomplete"):
        return fn.incomplete()
    if fn.event_dim == 0 and not hasattr(fn, "impute"):
        return _Single(fn)
    try:
        return observed(fn)
    except ValueError:
        if fn.event_dim == 1 and fn.support in (constraints.real_vector, constraints.real):
            return _Integrated(fn)
        raise


class _Single:
    """A site of one number for each row."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.where(value.isnan(), 0.0, self.fn.log_prob(self.impute(value)))

    def impute(self, value: Tensor) -> Tensor:
        return filled(value, self.fn.sample().to(value.dtype))


class _Integrated:
    """A density of real rows whose marginals have no closed form: the missing entries are integrated by draws.

    They are proposed from a Student-t for each column, with the column's mean and deviation under the density.
    """

    n_draws = 200
    df = 5.0

    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def _weighted(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """(draws, ..., D) proposals, known entries as they are, and the logarithm of their weights."""
        missing = value.isnan()
        whole = self.fn.sample([self.n_draws])
        proposal = StudentT(self.df, whole.mean(0), whole.std(0))
        drawn = proposal.sample([self.n_draws])
        x = torch.where(missing, drawn, value.nan_to_num().expand_as(drawn))
        log_q = torch.where(missing, proposal.log_prob(drawn), 0.0).sum(-1)
        return x, self.fn.log_prob(x) - log_q

    def log_prob(self, value: Tensor) -> Tensor:
        return self._weighted(value)[1].logsumexp(0) - math.log(self.n_draws)

    def impute(self, value: Tensor) -> Tensor:
        x, log_weights = self._weighted(value)
        chosen = torch.distributions.Categorical(logits=log_weights.T).sample()
        return x[chosen, torch.arange(x.shape[1], device=x.device)]
