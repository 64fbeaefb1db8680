"""Dissimilarities V(x, theta_k) as densities of a cluster's rows: parts of stories.

Each turns clusters into distributions with

    log p(x | cluster = k) = -alpha_k V(x, theta_k) - log beta_k,

beta_k being the integral of exp(-alpha_k V(x, theta_k)) over x, in closed form. So mixtures over different
dissimilarities can be compared by likelihood, and drawn from.

Source: J. S. Lara, F. A. Gonzalez, "Dissimilarity mixture autoencoder for deep clustering", 2020, equations 3 and 14.
The paper leaves beta_k open, and learns its product with the weights instead.
"""

from __future__ import annotations

from probclust.priors.dissimilarities.base import MAX_ALPHA, MIN_ALPHA, Dissimilarity, LearnAlpha
from probclust.priors.dissimilarities.cosine import Cosine
from probclust.priors.dissimilarities.custom import Custom
from probclust.priors.dissimilarities.named import dissimilarity_named
from probclust.priors.dissimilarities.norms import Chebyshev, Euclidean, Manhattan, Minkowski, Norm
from probclust.priors.dissimilarities.quadratic import Mahalanobis, SquaredEuclidean

__all__ = [
    "MAX_ALPHA",
    "MIN_ALPHA",
    "Chebyshev",
    "Cosine",
    "Custom",
    "Dissimilarity",
    "Euclidean",
    "LearnAlpha",
    "Mahalanobis",
    "Manhattan",
    "Minkowski",
    "Norm",
    "SquaredEuclidean",
    "dissimilarity_named",
]
