"""Warm starts shared by recipes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from probclust.recipe import Run


def in_known_order(labels: Any, run: Run) -> np.ndarray[Any, Any]:
    """The start's cluster for each of the story's clusters, so that known rows agree with their labels most often.

    Args:
        labels: (rows,) cluster of each row in the start's own numbering.
        run: whose `y` has the known clusters; without any, the order stays.

    Returns:
        (K,) integers: entry k is the start's cluster that becomes cluster k.
    """
    n_clusters = run.story.n_clusters
    if run.y is None:
        return np.arange(n_clusters)
    y, labels = run.y.cpu().numpy(), np.asarray(labels)
    counts = np.zeros((n_clusters, n_clusters), dtype=np.int64)
    np.add.at(counts, (y[y >= 0], labels[y >= 0]), 1)
    order: np.ndarray[Any, Any] = linear_sum_assignment(-counts)[1]
    return order


def inverse_softplus(value: Tensor) -> Tensor:
    """The number whose softplus is `value`, for positive values; tiny ones are raised to 1e-8."""
    value = value.clamp(min=1e-8)
    return value + torch.log(-torch.expm1(-value))
