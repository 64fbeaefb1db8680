"""The record of a case and of a run to quality: what was measured, where, and with which versions."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.record import commit, machine
from benchmarks.speed.cases import Case
from benchmarks.speed.quality import CONTENDERS, TARGET, states
from benchmarks.speed.race import Contender, race, ratio


def measure(case: Case, threads: int, rounds: int, pythons: Mapping[str, str]) -> dict[str, Any]:
    """The record of a case."""
    settings = case.settings(threads)
    if not pythons:
        settings.pop("ClustPy", None)
    found = race(settings, case.matrix(), pythons, rounds)
    sizes = {name: getattr(case, name) for name in ("group", "story", "rows", "features", "clusters", "latent")}
    ratios = {
        other: {clock: ratio(found, "probclust", other, clock) for clock in ("cpu", "wall")}
        for other in found
        if other != "probclust"
    }
    return {
        **sizes,
        "note": case.note,
        "arguments": case.arguments,
        "batch_size": 256,
        "key": case.key,
        "contenders": found,
        "ratios": ratios,
        "machine": machine(threads),
        "commit": commit(),
    }


def measure_quality(threads: int, pythons: Mapping[str, str], seed: int) -> dict[str, Any]:
    """Each contender's states, one contender after the other."""
    from benchmarks.papers.data import labels, rows

    x, clusters = rows("mnist-10k")
    y = labels("mnist-10k")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        for name, own in CONTENDERS.items():
            if own["contender"] == "ClustPy" and "ClustPy" not in pythons:
                continue
            setting = {**own, "module": "benchmarks.speed.quality", "clusters": clusters, "seed": seed, "epochs": 1}
            setting |= {"threads": threads, "data": f"{folder}/x.npy"}
            with Contender(pythons.get(own["contender"], sys.executable), setting) as contender:
                found[name] = states(contender, y)
            print(name, "seed", seed, found[name][-1], flush=True)
    return {"seed": seed, "target": TARGET, "states": found, "machine": machine(threads), "commit": commit()}
