"""What a random story is made of: plain JSON, which the constructor of a story takes, and hypothesis can shrink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Pick = Callable[[Sequence[Any]], Any]
"""Chooses one of some options; the first is the simplest, to which hypothesis shrinks."""
Plan = dict[str, Any]

LATENT_NAMES = ("z", "w", "latent.1", "values", "keys", "h_0")
SITE_NAMES = ("x", "type", "counts", "obs.x", "items", "y")


def random_pick(seed: int) -> Pick:
    """Chooses at random."""
    rng = np.random.default_rng(seed)
    return lambda options: options[int(rng.integers(len(options)))]


def drawn_plan(pick: Pick) -> Plan:
    """A plan, all of whose choices `pick` makes."""
    from random_stories.families import FAMILIES
    from random_stories.latents import KINDS

    n_clusters = pick([2, 3, 1])
    site = {
        "name": pick(SITE_NAMES),
        "family": pick(list(FAMILIES)),
        "width": pick([2, 1, 3]),
        "by_cluster": True,
    }
    latents = [
        {"name": pick(LATENT_NAMES), "kind": pick(list(KINDS)), "width": pick([1, 2]), "by_cluster": False}
        for _ in range(pick([0, 1]))
    ]
    return {
        "seed": pick(range(2**16)),
        "n_clusters": n_clusters,
        "dtype": pick(["float32", "float64"]),
        "gate": pick([False, True]),
        "latents": latents,
        "sites": [site],
    }


def n_features(plan: Plan) -> int:
    """Columns of x."""
    return sum(site["width"] for site in plan["sites"])
