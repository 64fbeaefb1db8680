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

BASE = {"rows": 2560, "features": 196, "clusters": 10, "latent": 10}

AXES = {"rows": (1280, 10240), "features": (49, 784), "clusters": (30, 100), "latent": (5, 50)}
"""Values that each size takes beside that of `BASE`, the others staying there."""

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
        group: "papers", "base", or the size that is varied.
        story: by its registered name.
        rows: of the data.
        features: of the data.
        clusters: K.
        latent: size of the code.
        arguments: further ones of the story.
        data: name of the data set; random numbers between 0 and 1 where empty.
        interval: batches from one target of all rows to the next, for DEC and IDEC; 0 for one target, at the start:
            ClustPy's targets are those of the batch and cost nothing, so that only then both do the same products.
        note: what sets it apart.
    """

    group: str
    story: str
    rows: int
    features: int
    clusters: int
    latent: int
    arguments: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    interval: int = 0
    note: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        return self.group, self.story, self.rows, self.features, self.clusters, self.latent, self.note

    def settings(self, threads: int) -> dict[str, dict[str, Any]]:
        """Each contender's setting, by name."""
        common = {"method": self.story, "clusters": self.clusters, "latent": self.latent, "arguments": self.arguments}
        common |= {"batch_size": 256, "threads": threads, "interval": self.interval}
        return {name: {**common, "contender": name} for name in ("probclust", *RIVALS[self.story])}

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
    stories = ("vade", "idec", "dec", "dcn", "mixture-of-vaes") if full else ("vade", "idec", "mixture-of-vaes")
    for data, rows, features in (("mnist-10k", 10_000, 784), ("digits", 1797, 64)):
        for story in stories:
            arguments = ARGUMENTS["vade"] if story == "vade" else {}
            yield Case("papers", story, rows, features, 10, 10, arguments, data)
        if full:
            note = "target renewed every 30 batches"
            yield Case("papers", "idec", rows, features, 10, 10, {}, data, interval=30, note=note)
    varied = ("vade", "idec", "mixture-of-vaes", "gmm") if full else ("vade", "mixture-of-vaes")
    for story in varied:
        yield from _around_base(story, ARGUMENTS.get(story, {}), "", full)
    if full:
        yield from _around_base("gmm", {"covariance_type": "full"}, "full covariances", full, features=(16, 64))


def _around_base(
    story: str, arguments: dict[str, Any], note: str, full: bool, **axes: tuple[int, ...]
) -> Iterator[Case]:
    """The base, then each size varied alone: all values, or the largest only."""
    base = {**BASE, "features": 32} if note else BASE
    yield Case("base", story, **base, arguments=arguments, note=note)
    for axis, values in (axes or AXES).items():
        if not (story == "gmm" and axis == "latent"):
            for value in values if full else values[-1:]:
                yield Case(axis, story, **{**base, axis: value}, arguments=arguments, note=note)
