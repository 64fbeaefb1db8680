"""Runs and their records: one JSON line each, appended when a run ends; what is there is not repeated."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from joblib import Memory

from benchmarks.record import RESULTS, ROOT, made

FILE = RESULTS / "papers.jsonl"
TABLES = FILE.with_suffix(".md")
RUNNING = ROOT / "runs" / "papers"
"""Checkpoints of unfinished runs, from which a stopped command goes on."""


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a run from the others."""
    return record["data"], record["method"], record["seed"], record["held_out"]


def share_neighbours() -> None:
    """Find the neighbours of a set's images in one run and read them in the others: they depend on its rows alone.

    Seconds of the other runs are without that search. Remove the folder when the code of the search has changed.
    """
    module = import_module("probclust.starts.clusterers.neighbours")
    module.distortion_neighbours = Memory(RUNNING / "neighbours", verbose=0).cache(module.distortion_neighbours)


def run(data: str, method: str, seed: int, held_out: float) -> dict[str, Any]:
    """Fit to the rows, or to all but a random share `held_out` of them, then score against the labels.

    Args:
        data: name of a data set.
        method: name of a method.
        seed: of the fit, and of the choice of rows held out.
        held_out: share of the rows kept from the fit; 0 for the papers' own protocol, all rows.

    Returns:
        The record: ACC, NMI and ARI on the rows of the fit (and of the start, where there is one), the bound on them
        and on those held out (mean, in nats), settings, versions and machine.
    """
    import numpy as np
    import torch

    import probclust as pc
    from benchmarks.papers.data import labels, recipe_of_kind, rows
    from benchmarks.papers.methods import METHODS

    torch.set_num_threads(1)
    share_neighbours()
    x, n_clusters = rows(data)
    order = np.random.default_rng(seed).permutation(len(x))
    cut = round(held_out * len(x))
    rest, fitted = np.sort(order[:cut]), np.sort(order[cut:])
    folder = RUNNING / f"{data}-{seed}-{held_out}" / method
    folder.mkdir(parents=True, exist_ok=True)
    result = METHODS[method](x[fitted], n_clusters, recipe_of_kind(data, fitted), seed, folder)
    y = labels(data)
    scores = {"accuracy": pc.metrics.accuracy, "nmi": pc.metrics.nmi, "ari": pc.metrics.ari}
    found = result.labels["final"]
    record = {"data": data, "method": method, "seed": seed, "held_out": held_out, "rows": len(fitted)}
    record |= {name: score(y[fitted], found) for name, score in scores.items()}
    record["start"] = {
        name: pc.metrics.accuracy(y[fitted], start) for name, start in result.labels.items() if name != "final"
    }
    if held_out and result.predict is not None:
        record["held_out_accuracy"] = pc.metrics.accuracy(y[rest], result.predict(x[rest]))
    record |= {"elbo": result.elbo, "held_out_bound": result.bound(x[rest]) if held_out and result.bound else None}
    return record | {"seconds": result.seconds, "settings": result.settings, **made(1)}
