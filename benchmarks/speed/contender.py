"""One contender as a process: `python -m benchmarks.speed.contender SETTING`, SETTING the JSON of a `Setting`."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.speed.gate import Gate, peak_memory

MODULES = {
    "probclust": "benchmarks.speed.ours",
    "hand-written": "benchmarks.speed.hand_written",
    "ClustPy": "benchmarks.speed.clustpy_peer",
    "scikit-learn": "benchmarks.speed.sklearn_peer",
    "products": "benchmarks.speed.products",
}
"""Each has a `run(setting, x, gate)`, which runs `gate.epochs` epochs of `setting["method"]` behind the gate."""

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "probclust", "pyro-ppl", "clustpy")


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    setting: dict[str, Any] = json.loads(sys.argv[1])
    module_name = setting.get("module") or MODULES[setting["contender"]]
    gate = Gate(setting["epochs"])
    import numpy as np
    import torch

    torch.set_num_threads(setting["threads"])
    module = import_module(module_name)
    x = np.load(setting["data"])
    gate.say(versions=versions(), imports_mb=peak_memory())
    module.run(setting, x, gate)
    gate.say(peak_mb=peak_memory())


if __name__ == "__main__":
    main()
