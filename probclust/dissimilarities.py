"""Dissimilarities, under an older public path: see `probclust.priors.dissimilarities`."""

from __future__ import annotations

from probclust.priors.dissimilarities import *  # noqa: F403
from probclust.priors.dissimilarities import __all__ as __all__

__path__: list[str] = []  # its modules of old are found by `probclust.moved`
