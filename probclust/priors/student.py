"""The Student-t prior: clusters with heavy tails."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from probclust.distributions.softplus import inverse_softplus
from probclust.priors.gaussian import DiagonalGaussian

MIN_DF = 1.0
"""Degrees of freedom stay above it, so that the distribution has a mean."""

_LOG_MAX = math.log(1e4)  # beyond, nothing is left of the tails but rounding


class StudentT(DiagonalGaussian):
    """z | cluster = k ~ t_v(m_k, diag(s_k^2)), multivariate: p prop. to (1 + |(z - m_k) / s_k|^2 / v)^(-(v + L) / 2).

    A Gaussian whose scale is drawn anew for each row, by the root of v / Chi2(v): so few rows far out move neither
    centre nor scale by much.

    Args:
        n_features: L, columns of the code.
        n_clusters: K.
        df: degrees of freedom v, above 1; small is heavy-tailed, and the Gaussian is at infinity.
        learn_df: learn v, one for each cluster, from `df` on.
        floor: lower bound of the scales s, in units of the code.

    Source: D. Peel, G. J. McLachlan, "Robust mixture modelling using the t distribution", 2000.
    """

    name = "student_t"

    def __init__(
        self, n_features: int, n_clusters: int, df: float = 5.0, learn_df: bool = True, floor: float = 0.05
    ) -> None:
        super().__init__(n_features, n_clusters, floor)
        if not MIN_DF < df < float("inf"):
            raise ValueError(f"df must be above {MIN_DF:g} and finite, got {df!r}")
        self.log_df = nn.Parameter(torch.full((n_clusters,), math.log(df - MIN_DF)), requires_grad=learn_df)

    @property
    def df(self) -> Tensor:
        """(K,) degrees of freedom."""
        return MIN_DF + self.log_df.clamp(max=_LOG_MAX).exp()

    def density(self, cluster: Tensor) -> Any:
        """A multivariate Student-t distribution."""
        factor = torch.diag_embed(self.scale)
        return dist.MultivariateStudentT(self.df[cluster], self.loc[cluster], factor[cluster])

    @torch.no_grad()
    def start(self, codes: Tensor, labels: Tensor) -> None:
        """Means, and scales from the variances, which are v / (v - 2) times their squares where v is above 2."""
        super().start(codes, labels)
        narrower = (1 - 2 / self.df.clamp(min=3)).sqrt()[:, None]
        self.raw_scale.copy_(inverse_softplus(self.scale * narrower - self.floor))
