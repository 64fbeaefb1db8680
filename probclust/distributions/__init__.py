"""What Pyro lacks: distributions of rows, and what can be asked of any distribution."""

from __future__ import annotations

from probclust.distributions.blocks import Blocks
from probclust.distributions.counts import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from probclust.distributions.diagonal_normal import DiagonalNormal
from probclust.distributions.directions import PowerSpherical, VonMisesFisher
from probclust.distributions.given_total import GivenTotal
from probclust.distributions.latent_tree import LatentTree, Tree
from probclust.distributions.norms import NormExponential, log_ball_volume, p_norm
from probclust.distributions.observed import ObservedFeatures, ObservedNormal
from probclust.distributions.rows import RowDistribution, Score

__all__ = [
    "Blocks",
    "DiagonalNormal",
    "GivenTotal",
    "LatentTree",
    "NegativeBinomial",
    "NormExponential",
    "ObservedFeatures",
    "ObservedNormal",
    "Poisson",
    "PowerSpherical",
    "RowDistribution",
    "Score",
    "Tree",
    "VonMisesFisher",
    "ZeroInflatedNegativeBinomial",
    "log_ball_volume",
    "p_norm",
]
