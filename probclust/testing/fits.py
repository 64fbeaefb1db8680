"""Fits: repeatable, from known clusters and from several starts; and what is fitted, copied and saved."""

from __future__ import annotations

import copy
import math
import tempfile
from pathlib import Path

import torch

import probclust as pc
from probclust.story.sites import CLUSTER
from probclust.testing.case import FIRST, Case, NotApplicable, require


def check_fit(case: Case) -> None:
    """Two fits under one seed, in all their numbers."""
    story, again = case.story, case.made(FIRST)
    record, other = case.fit(story), case.fit(again)
    require(all(map(math.isfinite, [*record.losses(), record.bound])), "pc.fit gives losses that are not finite")
    require(f"log p({CLUSTER})" in record.history[-1]["terms"], "pc.fit records no log p(cluster)")
    require(len(record.history[-1]["occupancy"]) == story.n_clusters, "pc.fit does not record each cluster's share")
    for name, value in story.state_dict().items():
        require(
            torch.equal(value, again.state_dict()[name]),
            f"two fits under seed 0 differ in '{name}'; draw by torch alone, and keep what is learnt in parameters",
        )
    require(record.bound == other.bound, f"two fits under seed 0 have bounds {record.bound} and {other.bound}")
    case.story = story


def check_restarts(case: Case) -> None:
    """Fresh weights for each start, and the best kept."""
    record = case.fit(case.made(FIRST), n_init=2, epochs=1)
    require(record.bound == max(record.bounds), "pc.fit(n_init=2) does not keep the better of two starts")


def check_known_clusters(case: Case) -> None:
    """A fit with a row of each cluster known."""
    if case.objective == "amortised":
        raise NotApplicable("known clusters need another objective than 'amortised'")
    y = torch.full((len(case.x),), -1)
    y[: case.story.n_clusters] = torch.arange(case.story.n_clusters)[: len(y)]
    story = case.made(FIRST)
    pc.fit(story, case.x, y, recipe=[pc.SVI(epochs=1)], progress=False)


def check_copies(case: Case) -> None:
    """A copy trains, and the original stays as it is."""
    before = {name: value.clone() for name, value in case.story.state_dict().items()}
    case.fit(copy.deepcopy(case.story), epochs=1)
    for name, value in case.story.state_dict().items():
        require(torch.equal(value, before[name]), f"training a copy of the story moves '{name}' of the original")


def check_save(case: Case) -> None:
    """Saved and loaded, the story gives the same numbers to the last bit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "story"
        pc.save(case.story, path)
        loaded = pc.load(path, type(case.story))
    before, after = pc.log_joint(case.story, case.x), pc.log_joint(loaded, case.x)
    require(
        torch.equal(before, after),
        f"a story scores otherwise once saved and loaded, by up to {(before - after).abs().max():.3g} nats; keep all "
        "that model and guide use in constructor arguments, parameters and buffers",
    )
