"""A new story from its class, its sizes and a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from probclust.story import Story


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
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return chosen(n_features=n_features, n_clusters=n_clusters, **arguments)
        except TypeError as error:
            raise ValueError(f"{chosen.__name__} cannot be built with {dict(arguments)}: {error}") from error
