"""Wall time of four restarts in turn and two at a time: `python -m benchmarks.restarts`.

Each row is in one process; that of joblib's processes is told with their start, and once they are there.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

import probclust as pc
from probclust.errors import FitWarning

CASES: dict[str, tuple[Callable[[], pc.Story], dict[str, Any]]] = {
    "GaussianMixture": (lambda: pc.models.GaussianMixture(64, 10, "diag"), {"epochs": 30}),
    "VaDE": (lambda: pc.models.VaDE(64, 10, hidden=(100, 100)), {"recipe": {"pretrain_epochs": 5}}),
}


def seconds(make: Callable[[], pc.Story], options: dict[str, Any], jobs: int | None) -> tuple[float, tuple[float, ...]]:
    """Wall time of a fit, and its restarts' bounds."""
    torch.manual_seed(0)
    story = make()
    started = time.perf_counter()
    record = pc.fit(story, pc.data.load("digits").x, n_init=4, jobs=jobs, progress=False, device="cpu", **options)
    return time.perf_counter() - started, record.bounds


def main() -> None:
    """Print a row for each story."""
    warnings.simplefilter("ignore", FitWarning)
    print(f"{torch.get_num_threads()} threads here")
    for name, (make, options) in CASES.items():
        found = [seconds(make, options, jobs) for jobs in (2, 2, None, 2, None)]
        first, *rest = [time for time, _ in found]
        beside, turn = min(rest[0], rest[2]), min(rest[1], rest[3])
        furthest = max(abs(a - b) for _, bounds in found for a, b in zip(bounds, found[0][1], strict=True))
        print(
            f"{name}: in turn {turn:.1f} s; jobs=2 {beside:.1f} s, {beside / turn:.2f} of it ({first:.1f} s with the "
            f"start of the processes); bounds differ by {furthest:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
