"""What is measured: the papers' networks at two sizes, and one size after the other varied alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Rows = np.ndarray[Any, Any]

RIVALS = {
    "vade": ("hand-written", "ClustPy", "products"),
    "mixture-of-vaes": ("hand-written", "products"),
    "idec": ("ClustPy", "products"),
    "dec": ("ClustPy", "products"),
    "dcn": ("ClustPy", "products"),
    "gmm": ("scikit-learn",),
}
"""Story, and what it is measured against."""

AXES = {
    "rows": (1280, 2560, 5120, 10240),
    "features": (49, 196, 784),
    "clusters": (10, 30, 100),
    "latent": (5, 10, 20, 50),
}
"""Sizes that are varied, and their values; the others stay as in `BASE`."""

BASE = {"rows": 2560, "features": 196, "clusters": 10, "latent": 10}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "vade": {"likelihood": "bernoulli"},  # ClustPy's
    "mixture-of-vaes": {"hidden": (64,)},
    "gmm": {"covariance_type": "diag"},
}
"""Of the stories where they are varied, apart from their defaults."""


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        group: "papers", or the size that is varied.
        story: by its registered name.
        rows: of the data.
        features: of the data.
        clusters: K.
        latent: size of the code.
        arguments: further ones of the story.
        rivals: what it is measured against.
        data: name of the data set; random numbers between 0 and 1 where empty.
        note: what sets it apart.
    """

    group: str
    story: str
    rows: int
    features: int
    clusters: int
    latent: int
    rivals: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    note: str = ""
    interval: int = 0

    @property
    def key(self) -> tuple[Any, ...]:
        return self.group, self.story, self.rows, self.features, self.clusters, self.latent, self.note

    def settings(self, threads: int) -> dict[str, dict[str, Any]]:
        """Each contender's setting, by name."""
        common = {"method": self.story, "clusters": self.clusters, "latent": self.latent, "arguments": self.arguments}
        common |= {"batch_size": 256, "threads": threads, "interval": self.interval}
        return {name: {**common, "contender": name} for name in ("probclust", *self.rivals)}

    def matrix(self) -> Rows:
        """(rows, features) numbers from 0 to 1."""
        if self.data:
            return DATA[self.data]()
        return np.random.default_rng(0).random((self.rows, self.features), dtype=np.float32)


def _digits() -> Rows:
    from sklearn.datasets import load_digits

    return (load_digits().data / 16).astype(np.float32)


def _mnist_10k() -> Rows:
    from benchmarks.papers.data import rows

    return rows("mnist-10k")[0]


DATA: dict[str, Callable[[], Rows]] = {"mnist-10k": _mnist_10k, "digits": _digits}


def cases(full: bool) -> Iterator[Case]:
    """All cases, or a few of each kind."""
    stories = list(RIVALS) if full else ["vade", "idec", "mixture-of-vaes"]
    for data, rows, features in (("mnist-10k", 10_000, 784), ("digits", 1797, 64)):
        for story in stories:
            if story != "gmm":
                arguments = ARGUMENTS["vade"] if story == "vade" else {}
                yield Case("papers", story, rows, features, 10, 10, RIVALS[story], arguments, data)
        if full:
            note = "target renewed every 30 batches"
            yield Case("papers", "idec", rows, features, 10, 10, RIVALS["idec"], {}, data, note, interval=30)
    varied = ["vade", "idec", "mixture-of-vaes", "gmm"] if full else ["vade", "mixture-of-vaes"]
    for axis, values in AXES.items():
        for story in varied:
            if story == "gmm" and axis == "latent":
                continue
            for value in values if full else values[:: len(values) - 1]:
                yield Case(axis, story, **{**BASE, axis: value}, rivals=RIVALS[story], arguments=ARGUMENTS.get(story, {}))
    if full:
        for value in (8, 16, 32):
            sizes = {**BASE, "rows": 5120, "features": value}
            full_covariance = {"covariance_type": "full"}
            yield Case("features", "gmm", **sizes, rivals=RIVALS["gmm"], arguments=full_covariance, note="full")
