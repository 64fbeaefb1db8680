"""Likelihoods of counts: Poisson, negative binomial, zero-inflated negative binomial."""

from __future__ import annotations

import math
from typing import Any, Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from probclust.likelihoods.interface import FeatureLikelihood
from probclust.likelihoods.real import GAIN
from probclust.likelihoods.totals import GivenTotal, Totals

LARGEST_LOG_MEAN = 15.0
"""Decoder outputs are cut here: exp of a wild one would overflow."""


class Poisson(FeatureLikelihood):
    """x_d ~ Poisson(exp(output_d)), for counts; networks see log(1 + x).

    With a size factor for each row, see `Multinomial`.

    Args:
        n_features: columns of x.
    """

    def view(self, x: Tensor) -> Tensor:
        """(rows, n_features) log(1 + x)."""
        return x.clamp(min=0).log1p()

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_features) to a distribution over rows."""
        return dist.Poisson(outputs.clamp(max=LARGEST_LOG_MEAN).exp()).to_event(1)


class NegativeBinomial(FeatureLikelihood):
    """x_d ~ NegativeBinomial with mean m_d and variance m_d + m_d^2 / r_d: counts that vary more than Poisson's.

    The size factor s of a row scales its means. With size_factor=None, m_d = exp(output_d): the decoder tells the
    size too. With "total", s is the row's total count, m_d = s softmax(outputs)_d as in scVI, and the story is

        s ~ NegativeBinomial, learned, the same in all clusters
        x_d | s ~ NegativeBinomial(s softmax(outputs)_d, r_d)

    What is conditioned on: the counts given their total; a row's total says nothing of its cluster. The log joint
    includes log p(s) but not the (positive) term that the counts given s sum to s only now and then: so it is a lower
    bound on the log probability under the story which draws them until they do, and stays comparable with others.
    `pc.sample` draws s, then counts whose total is s on average. A number for `size_factor` is the same s for all
    rows, for counts brought to one depth; then nothing is conditioned on. Networks see log(1 + x).

    Args:
        n_features: D, columns of x.
        size_factor: None, "total", or a positive number.
        dispersion: "feature", one learned r per feature; "shared", one for all; "row", the decoder's own (a further
            head).
        start: r at the start.

    Source: R. Lopez and others, "Deep generative modeling for single-cell transcriptomics", 2018 (scVI).
    """

    def __init__(
        self,
        n_features: int,
        size_factor: Literal["total"] | float | None = None,
        dispersion: Literal["feature", "shared", "row"] = "feature",
        start: float = 5.0,
    ) -> None:
        super().__init__(n_features)
        if dispersion not in ("feature", "shared", "row"):
            raise ValueError(f"dispersion must be 'feature', 'shared' or 'row', got {dispersion!r}")
        if size_factor is not None and size_factor != "total" and (isinstance(size_factor, str) or not size_factor > 0):
            raise ValueError(f"size_factor must be None, 'total' or a positive number, got {size_factor!r}")
        if not start > 0:
            raise ValueError(f"start must be positive, got {start!r}")
        self.size_factor, self.dispersion = size_factor, dispersion
        self.n_heads = type(self).n_heads + (dispersion == "row")
        raw = torch.tensor(math.log(start) / GAIN)
        self.raw_dispersion = nn.Parameter(raw.repeat(n_features if dispersion == "feature" else 1))
        if size_factor == "total":
            self.totals = Totals(n_features)

    def view(self, x: Tensor) -> Tensor:
        """(rows, n_features) log(1 + x)."""
        return x.clamp(min=0).log1p()

    def family(self, log_mean: Tensor, log_dispersion: Tensor, further: Tensor) -> Any:
        """The distribution of each count, given the outputs of `further` heads, (..., 0 or D)."""
        log_mean, log_dispersion = torch.broadcast_tensors(log_mean, log_dispersion)
        return dist.NegativeBinomial(log_dispersion.exp(), logits=log_mean - log_dispersion)

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_heads * n_features) to a distribution over rows."""
        heads = list(outputs.split(self.n_features, -1))
        log_dispersion = GAIN * self.raw_dispersion
        if self.dispersion == "row":
            log_dispersion = (log_dispersion + heads.pop()).clamp(-10, 10)
        log_mean, further = heads[0], torch.cat([*heads[1:], outputs[..., :0]], -1)
        if self.size_factor is None:
            return self.family(log_mean.clamp(max=LARGEST_LOG_MEAN), log_dispersion, further).to_event(1)
        log_shares = log_mean.log_softmax(-1)
        if self.size_factor != "total":
            size = math.log(self.size_factor)
            return self.family(log_shares + size, log_dispersion, further).to_event(1)

        def given(total: Tensor) -> Any:
            size = total.clamp(min=1e-6).log()  # a row of total 0 has counts of 0
            return self.family(log_shares + size, log_dispersion, further).to_event(1)

        return GivenTotal(self.totals(), given, log_mean.shape)


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """x_d is 0 with probability sigmoid(output of a second head), else as `NegativeBinomial` has it.

    Args:
        n_features: D, columns of x.
        size_factor: as for `NegativeBinomial`.
        dispersion: as for `NegativeBinomial`.
        start: r at the start.
    """

    n_heads = 2

    def family(self, log_mean: Tensor, log_dispersion: Tensor, further: Tensor) -> Any:
        """The distribution of each count; `further` has the logits of the surplus zeros, (..., D)."""
        log_mean, log_dispersion, further = torch.broadcast_tensors(log_mean, log_dispersion, further)
        return dist.ZeroInflatedNegativeBinomial(
            log_dispersion.exp(), logits=log_mean - log_dispersion, gate_logits=further
        )
