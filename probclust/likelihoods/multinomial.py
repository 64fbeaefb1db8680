"""The likelihood of bags of words: a row's total, and a multinomial given it."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

from probclust.distributions.counts import Poisson
from probclust.distributions.given_total import GivenTotal
from probclust.likelihoods.base import FeatureLikelihood
from probclust.likelihoods.counts import positive_number
from probclust.likelihoods.totals import Totals


class Multinomial(FeatureLikelihood):
    """total ~ NegativeBinomial; x | total ~ Multinomial(total, softmax(outputs)): bags of words.

    The total's distribution is the same in all clusters, so that a row's length says nothing of its cluster; with
    it, the log joint is a log probability of the whole row, and `pc.sample` draws a length first. It equals counts
    x_d ~ Poisson(s softmax(outputs)_d) with a size factor s ~ Gamma for each row, summed out. `pc.fit` learns it from
    the totals of all rows at once. `pc.reconstruct` gives the mean at the row's own total. Networks and starts see
    log(1 + x) of rows scaled to the mean total.

    Args:
        n_features: D, columns of x: the words.
        mean_total: the total's mean at the start; None for D.
    """

    name = "multinomial"
    decoder_first = True

    def __init__(self, n_features: int, mean_total: float | None = None) -> None:
        super().__init__(n_features)
        self.totals = Totals(n_features if mean_total is None else positive_number("mean_total", mean_total))

    def view(self, x: Tensor) -> Tensor:
        """(rows, n_features) log(1 + x) of rows scaled to the mean total."""
        return self.totals.view(x)

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_features) to a distribution over rows."""
        log_shares = outputs.log_softmax(-1)

        def given(total: Tensor) -> Any:
            return _Multinomial(total, log_shares)

        def sized(total: Tensor) -> Any:
            rows: Any = Poisson(log_shares + total.log())
            return rows.to_event(1)

        return GivenTotal(self.totals, given, outputs.shape, keeps_total=True, sized=sized)


class _Multinomial(TorchDistribution):
    """Multinomial whose rows have totals of their own, which torch's has not.

    Args:
        total: (..., 1).
        log_shares: (..., D), the logarithms of probabilities that sum to 1.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's interface)
    support = constraints.nonnegative_integer

    def __init__(self, total: Tensor, log_shares: Tensor) -> None:
        self.total, self.log_shares = total, log_shares
        shape = torch.broadcast_shapes(total.shape, log_shares.shape)
        super().__init__(shape[:-1], shape[-1:])

    def tempered(self, temperature: float) -> _Multinomial:
        """The multinomial whose single draws are at a temperature."""
        return _Multinomial(self.total, (self.log_shares / temperature).log_softmax(-1))

    def log_prob(self, value: Tensor) -> Tensor:
        """(...) log probability of (..., D) counts that sum to the total, in nats."""
        log_total = self.total.clamp(min=1e-30).log()
        by_word = Poisson(self.log_shares + log_total).log_prob(value).sum(-1)
        return by_word - Poisson(log_total).log_prob(self.total).squeeze(-1)  # x given that Poissons sum to the total

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """(*sample_shape, *batch, D): feature by feature, each a binomial share of what is left of the total."""
        shape = self._extended_shape(Size(sample_shape))
        shares = self.log_shares.exp()
        tails = shares.flip(-1).cumsum(-1).flip(-1)
        shares = (shares / tails.clamp(min=torch.finfo(shares.dtype).tiny)).clamp(max=1).expand(shape)
        left = self.total.expand((*shape[:-1], 1)).squeeze(-1)
        out = shares.new_empty(shape)
        for d in range(shape[-1]):
            out[..., d] = torch.binomial(left, shares[..., d].contiguous())
            left = left - out[..., d]
        return out

    @property
    def mean(self) -> Tensor:
        """(*batch, D)."""
        return self.total * self.log_shares.exp()
