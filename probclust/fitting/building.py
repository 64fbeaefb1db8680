"""What a fit takes of a story's class and of the rows: the story itself, and arguments of its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from probclust.locking import alone
from probclust.starts.start import recipe_names
from probclust.story.story import Story


def new_story(chosen: type[Story], n_features: int, n_clusters: int, seed: int, arguments: Mapping[str, Any]) -> Story:
    """A story whose first weights are drawn under `seed`; the caller's random state is left alone.

    Args:
        chosen: its class.
        n_features: columns of x.
        n_clusters: K.
        seed: of the weights.
        arguments: further arguments of the constructor.

    Raises:
        ValueError: the constructor refuses the arguments.
    """
    with alone, torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return chosen(n_features=n_features, n_clusters=n_clusters, **arguments)
        except (TypeError, ArithmeticError) as error:
            given = {"n_features": n_features, "n_clusters": n_clusters, **arguments}
            said = ", ".join(f"{name}={value!r}" for name, value in given.items())
            raise ValueError(f"{chosen.__name__}({said}) cannot be built: {error}") from error


def recipe_arguments(
    chosen: type[Story], known: Mapping[str, Any], arguments: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Arguments of a story's recipe: the user's, and what is known of the rows where the recipe asks for it.

    Args:
        chosen: the story's class.
        known: facts of the rows by the names of recipes' arguments, such as `image_shape`; None where there is none.
        arguments: the user's.

    Returns:
        Arguments by name; None for the defaults.
    """
    takes = recipe_names(chosen.recipe) or ()
    asked = {name: value for name, value in known.items() if value is not None and name in takes}
    return {**asked, **(arguments or {})} or None
