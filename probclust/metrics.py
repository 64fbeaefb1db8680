"""Clustering metrics, under the path in which they are public: see `probclust.evaluation.metrics`."""

from __future__ import annotations

from probclust.evaluation.metrics import *  # noqa: F403
from probclust.evaluation.metrics import __all__ as __all__
