"""Scalers: the volume they change, and what is no scaler of columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.feature_selection import VarianceThreshold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from probclust.evaluation.rescaling import rescaled

X = np.random.default_rng(0).normal([3, -1, 100], [1, 0.01, 50], size=(60, 3))


@pytest.mark.parametrize(
    ("scaler", "slope"),
    [
        (StandardScaler(), lambda: 1 / X.std(0)),
        (MinMaxScaler((-1, 1)), lambda: 2 / np.ptp(X, axis=0)),
        (MaxAbsScaler(), lambda: 1 / np.abs(X).max(0)),
        (RobustScaler(), lambda: 1 / np.subtract(*np.percentile(X, [75, 25], axis=0))),
        (FunctionTransformer(lambda x: -x / 255), lambda: np.full(3, 1 / 255)),
        (make_pipeline(MaxAbsScaler(), StandardScaler()), lambda: 1 / X.std(0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_volume_is_that_of_the_columns_slopes(scaler, slope):
    z, log_slopes = rescaled(scaler.fit(X), X)
    np.testing.assert_allclose(z, scaler.transform(X))
    np.testing.assert_allclose(log_slopes, np.log(slope()), atol=1e-9)


@pytest.mark.parametrize(
    "scaler", [PCA(), QuantileTransformer(n_quantiles=20), Normalizer(), FunctionTransformer(np.cbrt)]
)
def test_what_is_not_affine_by_columns_is_refused(scaler):
    with pytest.raises(ValueError, match="is not affine column by column"):
        rescaled(scaler.fit(X), X)


def test_dropped_and_flattened_columns_are_refused():
    with pytest.raises(ValueError, match="turns 3 columns into"):
        rescaled(VarianceThreshold(0.01).fit(X), X)
    with pytest.raises(ValueError, match="turns column 1 into a constant"):
        rescaled(FunctionTransformer(lambda x: x * [1, 0, 1]).fit(X), X)
    with pytest.raises(TypeError, match="got a int without a transform method"):
        rescaled(3, X)


def test_frames_keep_their_names():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    scaler = StandardScaler().fit(frame).set_output(transform="pandas")
    np.testing.assert_allclose(rescaled(scaler, frame)[1], -np.log(X.std(0)))


def test_a_column_that_does_not_vary_is_no_obstacle():
    x = np.column_stack([X, np.full(60, 7.0)])
    assert rescaled(StandardScaler().fit(x), x)[1][3] == pytest.approx(0)
