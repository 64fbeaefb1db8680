"""Likelihoods of counts: Poisson, negative binomial, zero-inflated negative binomial."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.distributions import counts as counts
from probclust.distributions.given_total import GivenTotal
from probclust.likelihoods.base import FeatureLikelihood
from probclust.likelihoods.real import GAIN
from probclust.likelihoods.totals import LARGEST_LOG_DISPERSION, Totals, bounded

LARGEST_LOG_MEAN = 30.0
"""Log means are kept below this, a mean of 1e13, which no float32 count comes near: exp of a wild one overflows."""


class Poisson(FeatureLikelihood):
    """x_d ~ Poisson(exp(output_d)), for counts; networks see log(1 + x).

    With a size factor for each row, see `Multinomial`.

    Args:
        n_features: columns of x.
    """

    name = "poisson"
    decoder_first = True

    def view(self, x: Tensor) -> Tensor:
        """(rows, n_features) log(1 + x)."""
        return x.clamp(min=0).log1p()

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_features) to a distribution over rows."""
        rows: Any = counts.Poisson(bounded(outputs, -math.inf, LARGEST_LOG_MEAN))
        return rows.to_event(1)


class NegativeBinomial(FeatureLikelihood):
    """x_d ~ NegativeBinomial with mean m_d and variance m_d + m_d^2 / r_d: counts that vary more than Poisson's.

    The size factor s of a row scales its means. With size_factor=None, m_d = exp(output_d): the decoder tells the
    size too. With "total", s is the row's total count, m_d = s softmax(outputs)_d as in scVI, and the story is

        s ~ NegativeBinomial, that of the data's totals, the same in all clusters
        x_d | s ~ NegativeBinomial(s softmax(outputs)_d, r_d)

    What is conditioned on: the counts given their total; a row's total says nothing of its cluster. The log joint
    includes log p(s) but not the (positive) term that the counts given s sum to s only now and then: so it is a lower
    bound on the log probability under the story which draws them until they do, and `pc.compare` ranks it among its
    like alone. `pc.fit` learns p(s) from all rows at once; `pc.sample` draws s, then counts whose total is s on
    average; `pc.reconstruct` gives the mean at the row's own total. Networks and starts see log(1 + x) of rows scaled
    to the mean total.

    A number for `size_factor` is the same s for all rows, for counts brought to one depth; then nothing is
    conditioned on, and networks see log(1 + x).

    Args:
        n_features: D, columns of x.
        size_factor: None, "total", or a positive number.
        dispersion: "feature", one learned r per feature; "shared", one for all; "row", the decoder's own (a further
            head).
        start: r at the start.

    Source: R. Lopez and others, "Deep generative modeling for single-cell transcriptomics", 2018 (scVI).
    """

    name = "negative-binomial"
    decoder_first = True

    def __init__(
        self,
        n_features: int,
        size_factor: Literal["total"] | float | None = None,
        dispersion: Literal["feature", "shared", "row"] = "feature",
        start: float = 5.0,
    ) -> None:
        super().__init__(n_features)
        if not isinstance(dispersion, str) or dispersion not in ("feature", "shared", "row"):
            raise ValueError(f"dispersion must be 'feature', 'shared' or 'row', got {dispersion!r}")
        has_total = isinstance(size_factor, str) and size_factor == "total"
        if not (size_factor is None or has_total):
            remedy = "; for a factor of each row, take 'total', or divide the rows by theirs and round"
            size_factor = positive_number("size_factor", size_factor, "None, 'total' or a positive number", remedy)
        self.size_factor, self.dispersion = size_factor, dispersion
        self.n_heads = type(self).n_heads + (dispersion == "row")
        raw = torch.tensor(math.log(positive_number("start", start)) / GAIN)
        self.raw_dispersion = nn.Parameter(raw.repeat(n_features if dispersion == "feature" else 1))
        if has_total:
            self.totals = Totals(n_features)

    def view(self, x: Tensor) -> Tensor:
        """(rows, n_features) log(1 + x); given totals, of rows scaled to the mean total."""
        return self.totals.view(x) if self.size_factor == "total" else x.clamp(min=0).log1p()

    def family(self, log_mean: Tensor, log_dispersion: Tensor, further: Tensor) -> Any:
        """The distribution of each count, given the outputs of `further` heads, (..., 0 or D)."""
        return counts.NegativeBinomial(log_mean, log_dispersion)

    def log_shares(self, outputs: Tensor, further: Tensor) -> Tensor:
        """(..., D) logarithms of the means of rows whose total is 1 on average."""
        return outputs.log_softmax(-1)

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_heads * n_features) to a distribution over rows."""
        heads = list(outputs.split(self.n_features, -1))
        log_dispersion = GAIN * self.raw_dispersion
        if self.dispersion == "row":
            log_dispersion = log_dispersion + heads.pop()
        log_dispersion = bounded(log_dispersion, -LARGEST_LOG_DISPERSION, LARGEST_LOG_DISPERSION)
        further = torch.cat([*heads[1:], outputs[..., :0]], -1).to(log_dispersion.dtype)

        def of_mean(log_mean: Tensor) -> Any:
            return self.family(bounded(log_mean, -math.inf, LARGEST_LOG_MEAN), log_dispersion, further).to_event(1)

        if self.size_factor is None:
            return of_mean(heads[0])
        log_shares = self.log_shares(heads[0], further)
        if not isinstance(self.size_factor, str):
            return of_mean(log_shares + math.log(self.size_factor))

        def given(total: Tensor) -> Any:
            return of_mean(log_shares + total.clamp(min=1e-30).log())  # a row of total 0 has counts of 0

        return GivenTotal(self.totals, given, log_shares.shape, keeps_total=False)


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """x_d is 0 with probability g_d = sigmoid(output of a second head), else as `NegativeBinomial` has it.

    With a size factor s, m_d = s exp(output_d) / sum_e (1 - g_e) exp(output_e), so that rows still have the total s on
    average, surplus zeros and all. (Unlike scVI, whose m_d sum to s before zeros are put in.)

    Args:
        n_features: D, columns of x.
        size_factor: as for `NegativeBinomial`.
        dispersion: as for `NegativeBinomial`.
        start: r at the start.
    """

    name = "zero-inflated-negative-binomial"
    n_heads = 2

    def family(self, log_mean: Tensor, log_dispersion: Tensor, further: Tensor) -> Any:
        """The distribution of each count; `further` has the logits of the surplus zeros, (..., D)."""
        return counts.ZeroInflatedNegativeBinomial(log_mean, log_dispersion, further)

    def log_shares(self, outputs: Tensor, further: Tensor) -> Tensor:
        """(..., D) logarithms of the means, where no zero is put in, of rows whose total is 1 on average."""
        return outputs - (outputs + functional.logsigmoid(-further)).logsumexp(-1, keepdim=True)


def positive_number(name: str, value: Any, expected: str = "positive", remedy: str = "") -> float:
    """`value`, a finite number above 0, or a ValueError that says what was expected."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < math.inf:
        got = f"an array of shape {tuple(value.shape)}" if getattr(value, "shape", ()) else repr(value)
        raise ValueError(f"{name} must be {expected}, got {got}{remedy}")
    return float(value)
