"""The data sets of the tables; labels are kept apart from the rows, and only scoring asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import probclust as pc
from probclust.cli.source import read_source

Rows = NDArray[np.float32]
Labels = NDArray[np.int64]


def _whole(name: str) -> Callable[[], tuple[Rows, Labels]]:
    def read() -> tuple[Rows, Labels]:
        data = pc.data.load(name)
        return data.x, data.y

    return read


def _subset(name: str) -> Callable[[], tuple[Rows, Labels]]:
    def read() -> tuple[Rows, Labels]:
        data = pc.data.load(name)
        pick = np.sort(np.random.default_rng(0).choice(len(data.x), 10_000, replace=False))
        return data.x[pick], data.y[pick]

    return read


def _documents(name: str) -> Callable[[], tuple[Rows, Labels]]:
    """Rows of unit length become of squared length n_features, as the papers have them (Xie and others, 2016)."""

    def read() -> tuple[Rows, Labels]:
        data = pc.data.load(name)
        return data.x * np.float32(np.sqrt(data.x.shape[1])), data.y

    return read


SETS: dict[str, Callable[[], tuple[Rows, Labels]]] = {
    "digits": _whole("digits"),
    "usps": _whole("usps"),
    "har": _whole("har"),
    "mnist-10k": _subset("mnist"),
    "fashion_mnist-10k": _subset("fashion_mnist"),
    "mnist": _whole("mnist"),
    "fashion_mnist": _whole("fashion_mnist"),
    "reuters10k": _documents("reuters10k"),
    "20news": _documents("20news"),
}


def rows(name: str) -> tuple[Rows, int]:
    """(rows, features) numbers, and the number of classes, which every method is told."""
    x, y = SETS[name]()
    return x, len(np.unique(y))


def kind(name: str) -> dict[str, Any]:
    """What is known of all rows of a set, None where it is not so: `image_shape`, `lengths` and `documents`."""
    return read_source(name.removesuffix("-10k")).known()


def recipe_of_kind(name: str, fitted: NDArray[np.int64]) -> dict[str, Any]:
    """What recipes are told about all sets of a kind: images' shape, that rows are documents, recordings' lengths.

    Args:
        name: of the set.
        fitted: numbers of the rows that are fitted, increasing.
    """
    known = {fact: value for fact, value in kind(name).items() if value is not None}
    if "lengths" in known:
        recording = np.repeat(np.arange(len(known["lengths"])), known["lengths"])[fitted]
        known["lengths"] = np.unique(recording, return_counts=True)[1].tolist()
    return known


def labels(name: str) -> Labels:
    """(rows,) classes, to score with."""
    return SETS[name]()[1]
