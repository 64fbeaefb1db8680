"""Real data sets by name: from a folder, from the cache, or from the network."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probclust.data import fetchers
from probclust.data.dataset import Dataset
from probclust.data.files import SPARSE_PARTS, read_archive, rows_of

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Entry:
    """What is known of a data set before it is read; `files` are the names that its archive may have."""

    fetch: Callable[[Path], fetchers.Arrays]
    files: tuple[str, ...]
    image_shape: tuple[int, int] | None
    target_names: tuple[str, ...]
    source: str
    licence: str
    documents: bool = False


ENTRIES = {
    "mnist": Entry(
        fetch=fetchers.fetch_mnist,
        files=("mnist.npz",),
        image_shape=(28, 28),
        target_names=DIGITS,
        source="LeCun, Bottou, Bengio, Haffner, Proc. IEEE 1998",
        licence="CC BY-SA 3.0, as usually stated",
    ),
    "fashion_mnist": Entry(
        fetch=fetchers.fetch_fashion_mnist,
        files=("fashion_mnist.npz",),
        image_shape=(28, 28),
        target_names=(
            *("T-shirt", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        source="Xiao, Rasul, Vollgraf, arXiv:1708.07747, 2017",
        licence="MIT",
    ),
    "usps": Entry(
        fetch=fetchers.fetch_usps,
        files=("usps.npz",),
        image_shape=(16, 16),
        target_names=DIGITS,
        source="Hull, IEEE TPAMI 1994",
        licence="none stated; distributed for research",
    ),
    "reuters10k": Entry(
        fetch=fetchers.fetch_reuters10k,
        files=("reuters10k.npz",),
        image_shape=None,
        target_names=tuple(fetchers.ROOTS),
        source="Lewis, Yang, Rose, Li, JMLR 2004 (RCV1); protocol: Xie, Girshick, Farhadi, ICML 2016",
        licence="term vectors distributed for research; the texts belong to Reuters",
        documents=True,
    ),
    "20news": Entry(
        fetch=fetchers.fetch_20news,
        files=("20news.npz",),
        image_shape=None,
        target_names=(
            *("alt.atheism", "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware"),
            *("comp.sys.mac.hardware", "comp.windows.x", "misc.forsale", "rec.autos", "rec.motorcycles"),
            *("rec.sport.baseball", "rec.sport.hockey", "sci.crypt", "sci.electronics", "sci.med"),
            *("sci.space", "soc.religion.christian", "talk.politics.guns", "talk.politics.mideast"),
            *("talk.politics.misc", "talk.religion.misc"),
        ),
        source="Lang, ICML 1995; by-date version: Rennie",
        licence="none stated; distributed for research",
        documents=True,
    ),
    "har": Entry(
        fetch=fetchers.fetch_har,
        files=("har.npz", "har_train.npz"),
        image_shape=None,
        target_names=("walking", "upstairs", "downstairs", "sitting", "standing", "laying"),
        source="Anguita, Ghio, Oneto, Parra, Reyes-Ortiz, ESANN 2013",
        licence="CC BY 4.0 at UCI; its own readme allows no commercial use",
    ),
}


def names() -> tuple[str, ...]:
    """The names that `load` takes."""
    return ("digits", *ENTRIES)


def load(name: str) -> Dataset:
    """Load a real data set.

    `digits` comes with scikit-learn. The others are read from the folder that the environment variable
    `PROBCLUST_DATA` names, else from the cache (`PROBCLUST_CACHE`, by default `~/.cache/probclust`), else they
    are downloaded through scikit-learn and written to the cache.

    Pixels are scaled to the range from 0 to 1; rows of `reuters10k` and `20news` are tf-idf weights of unit
    length; features of `har` lie between -1 and 1.

    Args:
        name: One of `names()`.

    Returns:
        The data set, as dense arrays.

    Raises:
        ValueError: If the name is unknown, or the file is damaged.
        FileNotFoundError: If `PROBCLUST_DATA` names no folder, or the data are nowhere and cannot be downloaded.

    Examples:
        >>> load("digits").x.shape
        (1797, 64)
    """
    if name == "digits":
        return _digits()
    if name not in ENTRIES:
        raise ValueError(f"name must be one of {', '.join(names())}, got {name!r}")
    entry = ENTRIES[name]
    path = _find(entry) or _download(name, entry)
    x, y, lengths = _read(path)
    return Dataset(
        name=name,
        x=x,
        y=y,
        image_shape=entry.image_shape,
        target_names=entry.target_names,
        source=entry.source,
        licence=entry.licence,
        lengths=lengths,
        documents=entry.documents,
    )


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Dataset(
        name="digits",
        x=(bunch.data / 16).astype(np.float32),
        y=bunch.target.astype(np.int64),
        image_shape=(8, 8),
        target_names=DIGITS,
        source="Alpaydin, Kaynak, 1998, Optical recognition of handwritten digits (UCI); test part",
        licence="CC BY 4.0",
    )


def _find(entry: Entry) -> Path | None:
    folders = [_cache()]
    if data := os.environ.get("PROBCLUST_DATA"):
        if not Path(data).is_dir():
            raise FileNotFoundError(f"PROBCLUST_DATA names no folder: {data}")
        folders.insert(0, Path(data))
    paths = (folder / file for folder in folders for file in entry.files)
    return next((path for path in paths if path.is_file()), None)


def _cache() -> Path:
    if folder := os.environ.get("PROBCLUST_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "probclust"


def _download(name: str, entry: Entry) -> Path:
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    try:
        arrays = entry.fetch(cache / "scikit-learn")
    except OSError as error:  # what scikit-learn raises without a network
        raise FileNotFoundError(
            f"{name} is neither in the folder PROBCLUST_DATA nor in the cache {cache}, and its download "
            f"failed ({error}): put {entry.files[0]} into a folder and set PROBCLUST_DATA to it"
        ) from error
    path = cache / entry.files[0]
    # Renamed when complete, so that no other process reads half a file.
    with tempfile.NamedTemporaryFile(dir=cache, suffix=".part", delete=False) as file:
        try:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        except BaseException:
            os.unlink(file.name)
            raise
    os.replace(file.name, path)
    return path


def _read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[int, ...] | None]:
    arrays = read_archive(path, ("x_float", "x", "y", "user", *SPARSE_PARTS))
    if "x_float" in arrays:  # unrounded pixels beside the rounded ones
        arrays["x"] = arrays["x_float"]
    x = rows_of(arrays, path)
    x = np.asarray(x.toarray() if hasattr(x, "toarray") else x)
    if "y" not in arrays or x.ndim != 2 or arrays["y"].shape != (len(x),):
        raise ValueError(f"{path} must hold rows (rows, features) and labels y (rows,): write it anew")
    scale = 255 if x.dtype.kind in "iu" else 1
    x = x.astype(np.float32)
    x /= scale
    lengths = None
    if "user" in arrays:  # whose recording each row is of
        ends = np.flatnonzero(np.diff(arrays["user"])) + 1
        lengths = tuple(np.diff([0, *ends, len(x)]).tolist())
    return x, arrays["y"].astype(np.int64), lengths
