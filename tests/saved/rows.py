"""Rows of every kind, the same ones for good: NumPy promises that the stream of `RandomState` never changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

LENGTHS = (100, 120, 80)
"""Rows of each recording, of the rows in order."""


def rows(kind: str, n: int = 300) -> Any:
    """(n, D) numbers in three clusters.

    Args:
        kind: "real", "positive", "unit", "binary", "counts", "directions", "categories", "gaps" (real with NaN),
            "mixed" (two real columns, two of categories, two of counts) or "ordered" (real, clusters that last), of 6
            columns; "digits" (the images of scikit-learn's in 0..1), of 64.
        n: how many.
    """
    if kind == "digits":
        return load_digits().data[:n] / 16
    random = np.random.RandomState(0)
    centres = 2 * random.randn(3, 6)
    clusters = np.arange(n) // 20 % 3 if kind == "ordered" else random.randint(3, size=n)
    real = centres[clusters] + random.randn(n, 6)
    if kind in ("real", "ordered"):
        return real
    if kind == "positive":
        return np.exp(0.3 * real)
    if kind == "directions":
        return real / np.linalg.norm(real, axis=1, keepdims=True)
    if kind == "gaps":
        return np.where(random.rand(n, 6) < 0.1, np.nan, real)
    unit = 1 / (1 + np.exp(-real))
    if kind == "unit":
        return unit
    if kind == "binary":
        return (unit > 0.5).astype(float)
    categories = np.clip(real + 1, 0, 2.9) // 1
    counts = np.floor(np.exp(0.5 * real + 1))
    if kind == "mixed":
        return np.hstack([real[:, :2], categories[:, 2:4], counts[:, 4:]])
    return {"categories": categories, "counts": counts}[kind]
