"""Dissimilarities by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probclust.named import classes_named
from probclust.priors.dissimilarities.base import Dissimilarity, LearnAlpha


def dissimilarities_by_name() -> Mapping[str, type[Dissimilarity]]:
    """The dissimilarities that have a name."""
    return classes_named("probclust.priors", Dissimilarity)


def dissimilarity_named(
    dissimilarity: str | Dissimilarity,
    n_features: int,
    n_clusters: int,
    alpha: float | None = None,
    learn_alpha: LearnAlpha = True,
) -> Dissimilarity:
    """The dissimilarity of that name; a part is checked and passed through.

    Args:
        dissimilarity: a name, or a part.
        n_features: D.
        n_clusters: K.
        alpha: of a named one; None for its own default.
        learn_alpha: of a named one; Mahalanobis holds alpha fixed, for its covariance learns the scale.

    Raises:
        ValueError: the name is unknown, the part is of another size, or `alpha` is given beside a part.
        TypeError: it is neither a name nor a part.
    """
    if isinstance(dissimilarity, Dissimilarity):
        sizes = dissimilarity.n_features, dissimilarity.n_clusters
        if sizes != (n_features, n_clusters):
            raise ValueError(
                f"the dissimilarity must be built for n_features={n_features} and n_clusters={n_clusters}, got one "
                f"for n_features={sizes[0]} and n_clusters={sizes[1]}"
            )
        if alpha is not None:
            raise ValueError("alpha belongs to the dissimilarity where one is passed in; give it to its constructor")
        return dissimilarity
    if not isinstance(dissimilarity, str):
        raise TypeError(f"expected the name of a dissimilarity or a part, got {type(dissimilarity).__name__}")
    known = dissimilarities_by_name()
    if dissimilarity not in known:
        raise ValueError(
            f"dissimilarity must be one of {list(known)} or a part of probclust.dissimilarities, got {dissimilarity!r}"
        )
    options: dict[str, Any] = {} if alpha is None else {"alpha": alpha}
    if dissimilarity != "mahalanobis":
        options["learn_alpha"] = learn_alpha
    return known[dissimilarity](n_features, n_clusters, **options)
