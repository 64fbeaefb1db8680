"""Time to quality: seconds until a method's clusters reach an accuracy; labels do nothing but score.

A contender runs until its next state (ours: after each epoch that trains the story; ClustPy's N2D: when it is done),
stops its clocks, says what clusters it has, and is told to go on, or is stopped.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.speed.gate import Gate

TARGET = 0.82
"""ACC of ClustPy's N2D on the 10,000 images."""

CONTENDERS: dict[str, dict[str, Any]] = {
    "N2D": {"contender": "ClustPy"},
    "MixtureOfVAEs": {"contender": "probclust", "method": "mixture-of-vaes"},
    "VaDE": {"contender": "probclust", "method": "vade"},
}


def run(setting: dict[str, Any], x: Any, gate: Gate) -> None:
    gate.open()
    (_n2d if setting["contender"] == "ClustPy" else _ours)(setting, x, gate)


def _ours(setting: dict[str, Any], x: Any, gate: Gate) -> None:
    import probclust as pc
    from probclust.progress import Progress
    from probclust.story.registry import story_class

    class Watch(Progress):
        def start(self, step: str, epochs: int | None) -> None:
            self.step = step

        def advance(self, loss: float) -> None:
            if self.step == "pre-train":  # of an autoencoder: the story has no clusters yet
                return
            gate.close()
            started = time.process_time(), time.perf_counter()
            labels = pc.predict(story, x).tolist()
            predicting = time.process_time() - started[0], time.perf_counter() - started[1]
            gate.say(step=self.step, labels=labels, predicting=predicting)
            gate.open()

    story = story_class(setting["method"])(x.shape[1], setting["clusters"])
    pc.fit(story, x, recipe={"pretraining": "embedding"}, seed=setting["seed"], progress=Watch(), device="cpu")


def _n2d(setting: dict[str, Any], x: Any, gate: Gate) -> None:
    """As its recorded run has it: an autoencoder of 10 epochs, t-SNE in two dimensions, a Gaussian mixture."""
    from benchmarks.speed.clustpy_peer import import_clustpy

    model = import_clustpy().N2D(
        n_clusters=setting["clusters"],
        batch_size=256,
        embedding_size=10,
        pretrain_epochs=10,
        manifold_params={"n_components": 2},  # t-SNE refuses its default, one for each cluster
        random_state=setting["seed"],
    )
    model.fit(x)
    gate.close()
    gate.say(step="done", labels=np.asarray(model.labels_).tolist(), predicting=(0.0, 0.0))


def accuracy(y: Any, labels: Any) -> float:
    """Share of the rows that the best matching of clusters and classes puts into their class."""
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((max(*labels, *y) + 1,) * 2, dtype=int)
    np.add.at(table, (np.asarray(labels), y), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(y))


def states(contender: Any, y: Any) -> list[dict[str, Any]]:
    """Of a contender up to the first that reaches the target, or its last.

    Args:
        contender: a `race.Contender` that runs this module.
        y: (rows,) classes.

    Returns:
        For each its step, accuracy, and seconds from the start of the fit: "cpu" and "wall", one prediction of all rows
        included.
    """
    found: list[dict[str, Any]] = []
    cpu = wall = 0.0
    versions = contender.listen()["versions"]
    while not found or (found[-1]["accuracy"] < TARGET and found[-1]["step"] != "done"):
        interval = contender.epoch()
        if "peak_mb" in interval:
            break
        told = contender.listen()
        cpu, wall = cpu + interval["cpu"], wall + interval["wall"]
        found.append(
            {
                "step": told["step"],
                "accuracy": accuracy(y, told["labels"]),
                "cpu": cpu + told["predicting"][0],
                "wall": wall + told["predicting"][1],
            }
        )
    return [{**state, "versions": versions} if state is found[-1] else state for state in found]
