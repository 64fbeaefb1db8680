"""Likelihoods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probclust.arguments import flag
from probclust.likelihoods.base import FeatureLikelihood, Likelihood
from probclust.likelihoods.missing import Missing
from probclust.named import classes_named


def likelihoods_by_name() -> Mapping[str, type[FeatureLikelihood]]:
    """Those that need no more than the number of features; `Categorical` and `Mixed` need to be told more."""
    return classes_named("probclust.likelihoods", FeatureLikelihood)


def likelihood_named(likelihood: str | Likelihood, n_features: int, missing: bool = False) -> Any:
    """The likelihood of that name with its defaults; an object is passed through.

    Args:
        likelihood: a name of `likelihoods_by_name()`, such as "gaussian", or an object.
        n_features: columns of x.
        missing: take NaN entries of x as unobserved.

    Raises:
        ValueError: no likelihood has that name, or it does not allow missing entries.
    """
    found: Any = likelihood
    known = likelihoods_by_name()
    if isinstance(likelihood, str):
        if likelihood not in known:
            raise ValueError(f"likelihood must be one of {list(known)} or a likelihood object, got {likelihood!r}")
        found = known[likelihood](n_features)
    elif isinstance(found, type) or not any(hasattr(found, name) for name in ("n_outputs", "n_heads")):
        got = f"the class {found.__name__}; call it with n_features" if isinstance(found, type) else repr(found)
        raise TypeError(f"likelihood must be one of {list(known)} or a likelihood object, got {got}")
    if getattr(found, "n_features", n_features) != n_features:
        raise ValueError(
            f"likelihood must be built for the story's n_features={n_features}, got one for {found.n_features} features"
        )
    flag("missing", missing)
    return Missing(found, n_features) if missing and not getattr(found, "allows_missing", False) else found
