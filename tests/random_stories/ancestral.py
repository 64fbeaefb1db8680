"""Rows drawn from a plan's story in numpy, site after site."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from random_stories.families import FAMILIES
from random_stories.latents import KINDS
from random_stories.plan import Plan
from random_stories.truth import Array, Arrays, feature, location


def drawn_rows(
    plan: Plan, v: Arrays, clusters: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Array, list[Array]]:
    """(n, features) rows and their latents, (n, width) each, given their clusters and all numbers, globals too."""
    n, latents = len(clusters), []
    for i, latent in enumerate(plan["latents"]):
        loc = v[f"latent{i}_loc"][clusters]
        if latent["parent"]:
            loc = loc + 0.5 * feature(plan, i - 1, latents[-1])[:, None]
        scale = np.broadcast_to(v[f"latent{i}_scale"], loc.shape)
        latents.append(KINDS[latent["kind"]].draw(rng, loc, scale))
    columns = []
    own = np.arange(n), clusters
    for i, site in enumerate(plan["sites"]):
        eta, scale = location(plan, v, i, [z[None, :, None] for z in latents], n)
        columns.append(FAMILIES[site["family"]].draw(rng, eta[0][own], scale[0][own]))
    return np.concatenate(columns, 1), latents
