"""The flow prior with any of zuko's exact flows: splines, autoregressive maps, polynomials."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.transforms import IndependentTransform

from probclust.arguments import choice
from probclust.priors.gaussian import DiagonalGaussian

FLOWS = ("BPF", "MAF", "NICE", "NSF", "RealNVP")
"""Those of `zuko.flows` that map all of R^L one to one. Further ones (GF, NAF, SOSPF, UNAF) lose draws beyond 10 in a
column, where zuko does not search, NCSF is for angles, and CNF solves its equation to a tolerance of 1e-3."""


class ZukoFlow(DiagonalGaussian):
    """z = T(u), u | cluster = k ~ Normal(m_k, diag(s_k^2)): as `Flow`, with T a flow of the package zuko.

    log p(z | k) = log Normal(u; m_k, s_k) + log |det du/dz| with u = T^-1(z), the direction in which zuko's flows take
    one pass. Autoregressive ones (MAF, NSF, BPF) take L passes for a draw; with `passes=2` they are couplings. At the
    start T is as zuko draws it, and m_k and s_k are the moments of u.

    Args:
        n_features: L, columns of the code.
        n_clusters: K.
        flow: its name in `zuko.flows`: "NSF" (splines, the identity outside of [-5, 5]), "MAF", "BPF" (Bernstein
            polynomials), or couplings by "NICE" and "RealNVP".
        floor: lower bound of the standard deviations s, in units of u.
        **settings: further arguments of the flow, such as `transforms`, `bins`, `passes` or `hidden_features`.

    Raises:
        ImportError: zuko is not installed; names the extra.
        ValueError: `flow` is another one.
        TypeError: the flow does not take the settings.

    Source: F. Rozet and others, "Zuko: Normalizing flows in PyTorch", 2022; the splines are of C. Durkan and others,
    "Neural spline flows", 2019.
    """

    def __init__(
        self, n_features: int, n_clusters: int, flow: str = "NSF", floor: float = 0.05, **settings: Any
    ) -> None:
        super().__init__(n_features, n_clusters, floor)
        validation = Distribution._validate_args
        try:
            from zuko import flows
        except ImportError as error:
            raise ImportError("ZukoFlow needs zuko: pip install 'probclust[flow]'") from error
        finally:  # the import of zuko switches it off for all distributions of the process
            Distribution.set_default_validate_args(validation)
        # No context: the clusters share the flow, and differ in m and s.
        self.flow = getattr(flows, choice("flow", flow, FLOWS))(n_features, 0, **settings).transform

    def density(self, cluster: Tensor) -> Any:
        """A transformed normal distribution."""
        # The inverse of zuko's own (`.inv`) would find log |det du/dz| from u, in L passes instead of one.
        return dist.TransformedDistribution(super().density(cluster), [IndependentTransform(self.flow(), 0).inv])

    @torch.no_grad()
    def start(self, codes: Tensor, labels: Tensor) -> None:
        """Means and variances of what each cluster's codes are images of."""
        super().start(self.flow()(codes), labels)
