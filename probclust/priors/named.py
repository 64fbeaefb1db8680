"""Priors by name."""

from __future__ import annotations

from collections.abc import Mapping

from probclust.named import classes_named
from probclust.priors.base import Prior
from probclust.priors.dissimilarities import Dissimilarity, dissimilarity_named


def priors_by_name() -> Mapping[str, type[Prior]]:
    """The priors that stories take by name: those that a file of this folder gives a `name`."""
    return classes_named("probclust.priors", Prior)


def prior_named(prior: str | Prior, n_features: int, n_clusters: int, *, alone_in: str | None = None) -> Prior:
    """The prior of that name with its defaults; a part is checked and passed through.

    Args:
        prior: a name of `priors_by_name()`, such as "gaussian" (diagonal), a dissimilarity's with an alpha for each
            cluster: "mahalanobis" is a full Gaussian, "cosine" von Mises-Fisher; or a part.
        n_features: L, columns of the code.
        n_clusters: K.
        alone_in: the name of a story in which nothing but the prior tells clusters apart, so that it may not be the
            same for all.

    Raises:
        ValueError: the name is unknown, the part is of another size, or it is the same for all clusters.
        TypeError: it is neither a name nor a part.
    """
    part = _part(prior, n_features, n_clusters)
    if alone_in and not part.by_cluster:
        raise ValueError(
            f"{alone_in} tells clusters apart by their priors, and {type(part).__name__} is the same for all; take "
            "another prior, or MixtureOfVAEs, whose clusters have decoders of their own"
        )
    return part


def _part(prior: str | Prior, n_features: int, n_clusters: int) -> Prior:
    if isinstance(prior, str):
        known = priors_by_name()
        if prior not in known:
            raise ValueError(f"prior must be one of {list(known)} or a part, got {prior!r}")
        if issubclass(known[prior], Dissimilarity):
            return dissimilarity_named(prior, n_features, n_clusters, learn_alpha="cluster")
        return known[prior](n_features, n_clusters)
    if not isinstance(prior, Prior):
        raise TypeError(
            f"expected the name of a prior, or an object whose class derives from probclust.priors.Prior, got "
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
    known = priors_by_name().get(prior) if isinstance(prior, str) else prior
    return getattr(known, "on_sphere", False)
