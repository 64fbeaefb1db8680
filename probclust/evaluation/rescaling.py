"""Rescaled columns: the volume that a scaler changes, so that densities before and after it can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from probclust.data.checks import as_rows


def rescaled(scaler: Any, x: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows through a fitted scaler z = s x + t, column by column, and the log of its volume change.

    With z = T(x), log p_X(x) = log p_Z(T(x)) + log |det dT/dx|, and the determinant of such a T is the product of the
    columns' |s|. What s is, is measured on `x`, so that any affine scaler of columns will do (scikit-learn's
    `StandardScaler`, `MinMaxScaler`, `MaxAbsScaler`, `RobustScaler`, pipelines of them), and only such.

    Args:
        scaler: fitted, with a `transform`.
        x: (rows, n_features) before the scaler.

    Returns:
        (rows, n_features) after it, and (n_features,) log |s|, in nats.

    Raises:
        TypeError: `scaler` has no `transform`.
        ValueError: it is not fitted, mixes, drops or bends columns, or turns one into a constant.
    """
    if not hasattr(scaler, "transform"):
        raise TypeError(
            f"a rescaled story is a pair (scaler, story) with a fitted scaler such as sklearn's StandardScaler, "
            f"got a {type(scaler).__name__} without a transform method"
        )
    raw = as_rows(x, dtype=torch.float64).numpy()
    z = _transform(scaler, raw)
    name = type(scaler).__name__
    if z.shape != raw.shape:
        raise ValueError(
            f"{name} turns {raw.shape[1]} columns into {z.shape[1:]}: only scalers that keep the columns have a volume "
            "to compare by; use an affine one such as StandardScaler, or compare stories of its output"
        )
    spread = np.nanstd(raw, axis=0)
    origin, step = np.nanmean(raw, axis=0), np.where(spread > 0, spread, 1.0)
    low, high = _transform(scaler, np.stack([origin - step, origin + step]))
    slope = (high - low) / (2 * step)
    expected = (low + high) / 2 + slope * (raw - origin)
    room = 1e-6 * (1 + np.abs(high - low))
    if not (np.isfinite(slope).all() and np.all((np.abs(z - expected) <= room) | np.isnan(raw))):
        raise ValueError(
            f"{name} is not affine column by column on these rows, so its change of volume is not one number; use a "
            "scaler such as StandardScaler, MinMaxScaler (without clip) or MaxAbsScaler"
        )
    if (slope == 0).any():
        raise ValueError(f"{name} turns column {int((slope == 0).argmax())} into a constant, which has no density")
    return z, np.log(np.abs(slope))


def _transform(scaler: Any, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    names = getattr(scaler, "feature_names_in_", None)
    table = rows if names is None or len(names) != rows.shape[1] else pd.DataFrame(rows, columns=names)
    out = scaler.transform(table)
    return np.asarray(out.toarray() if hasattr(out, "toarray") else out, dtype=np.float64)
