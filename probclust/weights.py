"""Cluster weights p(cluster), under an older public path: see `probclust.priors`."""

from __future__ import annotations

from probclust.priors.weights import *  # noqa: F403
from probclust.priors.weights import __all__ as __all__
