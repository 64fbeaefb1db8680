"""Latent priors p(z | cluster): parts of stories.

Gaussians (standard, diagonal, of low rank), Student-t, normalising flows (`Flow` of couplings, `ZukoFlow` of the
package zuko), a latent tree; all of `probclust.dissimilarities` are priors too, among them the full Gaussian
(`Mahalanobis`) and von Mises-Fisher (`Cosine`). Derive from `Prior` to write your own.
"""

from __future__ import annotations

from probclust.priors.base import Prior
from probclust.priors.codes import CodeDensity, GaussianCodes, cluster_moments
from probclust.priors.dissimilarities import Dissimilarity, dissimilarity_named
from probclust.priors.flow import Flow
from probclust.priors.gaussian import DiagonalGaussian, LowRankGaussian, StandardNormal
from probclust.priors.latent_tree.prior import LatentTreePrior
from probclust.priors.named import on_sphere, prior_named
from probclust.priors.student import StudentT
from probclust.priors.weights import Dirichlet, Fixed, Learned, StickBreaking, Weights, weights_named
from probclust.priors.zuko_flow import ZukoFlow

__all__ = [
    "CodeDensity",
    "DiagonalGaussian",
    "Dirichlet",
    "Dissimilarity",
    "Fixed",
    "Flow",
    "GaussianCodes",
    "LatentTreePrior",
    "Learned",
    "LowRankGaussian",
    "Prior",
    "StandardNormal",
    "StickBreaking",
    "StudentT",
    "Weights",
    "ZukoFlow",
    "cluster_moments",
    "dissimilarity_named",
    "on_sphere",
    "prior_named",
    "weights_named",
]
