"""Priors by name."""

from __future__ import annotations

from probclust.priors.base import Prior
from probclust.priors.dissimilarities import dissimilarity_named
from probclust.priors.dissimilarities.named import BY_NAME as DISSIMILARITIES
from probclust.priors.flow import Flow
from probclust.priors.gaussian import DiagonalGaussian, LowRankGaussian, StandardNormal
from probclust.priors.latent_tree.prior import LatentTreePrior
from probclust.priors.student import StudentT

_BY_NAME: dict[str, type[Prior]] = {
    "standard": StandardNormal,
    "gaussian": DiagonalGaussian,
    "low_rank": LowRankGaussian,
    "student_t": StudentT,
    "flow": Flow,
    "latent_tree": LatentTreePrior,
}


def prior_named(prior: str | Prior, n_features: int, n_clusters: int) -> Prior:
    """The prior of that name with its defaults; a part is checked and passed through.

    Args:
        prior: "standard", "gaussian" (diagonal), "low_rank", "student_t", "flow", "latent_tree", or a dissimilarity's
            name, with an alpha for each cluster: "mahalanobis" is a full Gaussian, "cosine" von Mises-Fisher; or a
            part.
        n_features: L, columns of the code.
        n_clusters: K.

    Raises:
        ValueError: the name is unknown, or the part is of another size.
        TypeError: it is neither a name nor a part.
    """
    if isinstance(prior, str):
        if prior in _BY_NAME:
            return _BY_NAME[prior](n_features, n_clusters)
        if prior in DISSIMILARITIES:
            return dissimilarity_named(prior, n_features, n_clusters, learn_alpha="cluster")
        raise ValueError(f"prior must be one of {sorted([*_BY_NAME, *DISSIMILARITIES])} or a part, got {prior!r}")
    if not isinstance(prior, Prior):
        raise TypeError(
            f"expected the name of a prior, or an object whose class derives from probclust.priors.base.Prior, got "
            f"{type(prior).__name__}"
        )
    if (prior.n_features, prior.n_clusters) != (n_features, n_clusters):
        raise ValueError(
            f"the prior must be built for n_features={n_features} and n_clusters={n_clusters}, got one for "
            f"n_features={prior.n_features} and n_clusters={prior.n_clusters}"
        )
    return prior


def on_sphere(prior: str | Prior) -> bool:
    """Whether codes under that prior, by name or as a part, must have length 1."""
    known = {**_BY_NAME, **DISSIMILARITIES}.get(prior) if isinstance(prior, str) else prior
    return getattr(known, "on_sphere", False)
