"""scikit-learn's Gaussian mixture: an iteration of EM sees every row once, as an epoch does."""

from __future__ import annotations

import warnings
from typing import Any

from sklearn.mixture import GaussianMixture

from benchmarks.speed.gate import Gate

ITERATIONS = 20
"""Of each fit; an iteration's time is a fit's divided by them, the first guess and the last assignment within it."""


def run(setting: dict[str, Any], x: Any, gate: Gate) -> None:
    warnings.simplefilter("ignore")  # EM stops before it converges, as it is told
    gate.passes = ITERATIONS
    for _ in gate.range(gate.epochs):
        mixture = GaussianMixture(
            setting["clusters"], max_iter=ITERATIONS, tol=0, init_params="random_from_data", **setting["arguments"]
        )
        mixture.fit(x)
