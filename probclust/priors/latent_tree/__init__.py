"""A latent tree for a prior, and the search for its facets."""

from __future__ import annotations

from probclust.priors.latent_tree.prior import LatentTreePrior

__all__ = [
    "LatentTreePrior",
]
