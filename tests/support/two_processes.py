"""Fits that `test_devices.py` runs in two processes and, with batches twice as large, in one."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import probclust as pc
from probclust.data import stored
from probclust.story.story import Story

N_ROWS, N_FEATURES = 151, 6
START = {"pretrain_epochs": 1, "pretraining": "autoencoder"}


def blobs() -> np.ndarray:
    """(151, 6) rows around three centres: an odd number, so that the shares of a batch differ."""
    random = np.random.default_rng(0)
    centres = 4 * random.standard_normal((3, N_FEATURES))
    return (centres[random.integers(3, size=N_ROWS)] + random.standard_normal((N_ROWS, N_FEATURES))).astype(np.float32)


def story(kind: type[Story], **arguments: Any) -> Callable[[], Story]:
    """Makes the story, with the same weights each time."""

    def make() -> Story:
        torch.manual_seed(0)
        return kind(N_FEATURES, 3, **arguments)

    return make


def leave(run: Any) -> None:
    """Put an entry into the memory."""
    run.memory["mark"] = torch.ones(3)


def double(run: Any) -> None:
    """Change it in place."""
    run.memory["mark"].mul_(2)


SMALL = {"hidden": (8,), "latent_dim": 2}
FITS: dict[str, tuple[Callable[[], Story], dict[str, Any]]] = {
    "plain": (story(pc.models.GaussianMixture), {"epochs": 2, "n_init": 2}),
    "drawn latents": (story(pc.models.VaDE, **SMALL), {"recipe": START | {"epochs": 2, "fit_epochs": 1}}),
    "latents by cluster": (
        story(pc.models.MixtureOfVAEs, **SMALL),
        {"recipe": {"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 2}},
    ),
    "particles": (
        story(pc.models.VaDE, **SMALL),
        {"recipe": [pc.SVI(epochs=2, learning_rate=1e-3)], "objective": pc.objectives.ImportanceWeighted(3)},
    ),
    "truncated": (
        story(pc.models.MixtureOfVAEs, **SMALL),
        {"recipe": [pc.SVI(epochs=3, learning_rate=1e-3)], "objective": pc.objectives.Truncated(2)},
    ),
    "networks beside the story": (
        story(pc.models.DAMIC, **SMALL),
        {"recipe": START | {"pretrain_epochs": 3, "start_hidden": (8,), "start_dim": 2, "fit_epochs": 1, "epochs": 1}},
    ),
    "renewed target": (story(pc.models.IDEC, **SMALL), {"recipe": START | {"epochs": 2, "interval": 2}}),
    "centroids in turn": (story(pc.models.DCN, **SMALL), {"recipe": START | {"epochs": 2}}),
    "pairs": (
        story(pc.models.GaussianMixture),
        {"epochs": 2, "pairs": pc.Pairs(must=[[0, 1], [2, 3]], cannot=[[4, 5]])},
    ),
    "memory in place": (
        story(pc.models.GaussianMixture),
        {"recipe": [pc.Compute(name="leave", run=leave), pc.Compute(name="double", run=double), pc.SVI(epochs=1)]},
    ),
    "stored rows": (story(pc.models.GaussianMixture), {"recipe": [pc.SVI(epochs=2)]}),
}
"""What is fitted and how, by what of it is shared between the processes."""


@contextmanager
def rows_of(name: str, folder: Path) -> Iterator[Any]:
    """The rows: for "stored rows" in a file, of which no part is kept in memory."""
    if name != "stored rows":
        yield blobs()
        return
    path, resident = folder / "rows.npy", stored.RESIDENT_BYTES
    np.save(path, blobs())
    stored.RESIDENT_BYTES = 0
    try:
        yield np.load(path, mmap_mode="r")
    finally:
        stored.RESIDENT_BYTES = resident


def run(name: str, folder: Path, **settings: Any) -> tuple[Story, pc.FitRecord]:
    """Fit it."""
    make, arguments = FITS[name]
    fitted = make()
    with rows_of(name, folder) as x:
        record = pc.fit(fitted, x, device="cpu", engine="eager", progress=False, **arguments, **settings)
    return fitted, record


def main(folder: Path) -> None:
    """Run all fits in this process, as one of two; leave weights, losses and occupancies of each process."""
    number = torch.distributed.get_rank() if torch.distributed.is_initialized() else None
    for name in FITS:
        own = folder / f"{name} {number}"
        own.mkdir(exist_ok=True)
        fitted, record = run(name, own, devices=2, batch_size=20)
        number = torch.distributed.get_rank()
        torch.save(
            {
                "state": fitted.state_dict(),
                "history": record.history,
                "bounds": record.bounds,
                "memory": record.memory,
            },
            folder / f"{name} {number}.pt",
        )


def no_group_is_left() -> None:
    """End in error where the processes are still joined, which is when their end may be a signal's."""
    if torch.distributed.is_initialized():
        sys.stderr.write("the process group is left to Python's end")
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    atexit.register(no_group_is_left)
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
