"""Checks of what happens to a story: it is copied, saved, fitted, restarted."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyro.infer import TraceEnum_ELBO

import probclust as pc
from random_stories.composed import RandomStory
from random_stories.outcome import Wrong
from random_stories.truth import Truth
from random_stories.walk import Check, Walk


def copied(w: Walk) -> None:
    w.close("log_joint of the copy", pc.log_joint(copy.deepcopy(w.story), w.tensor), w.right.table)


def saved(w: Walk) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pc.save(w.story, Path(folder) / "story")
        again = pc.load(Path(folder) / "story", RandomStory)
    w.close("log_joint of the loaded story", pc.log_joint(again, w.tensor), w.right.table)
    one, other = (pc.sample(story, 5, seed=0) for story in (w.story, again))
    for name, value in one.items():
        w.close(f"'{name}' of the loaded story's sample", other[name], value)


def fitted(w: Walk, **settings: Any) -> None:
    """The log joint is that of the new numbers; what is not to be trained is as it was."""
    story = copy.deepcopy(w.story)
    x = torch.as_tensor(w.rows(24), dtype=story.dtype)
    pc.fit(story, x, epochs=1, batch_size=12, progress=False, **settings)
    w.close("log_joint after the fit", pc.log_joint(story, w.tensor), Truth(story, w.x).table)
    values = story.arrays()
    for name, before in w.story.arrays().items():
        home = story.numbers.where.get(name)
        if home in ("frozen", "buffer") and not np.array_equal(before, values[name]):
            raise Wrong(f"the fit changed '{name}', which lives in a {home}")
    is_trained = story.numbers.where["site0_eta"] not in ("frozen", "buffer") and w.plan["sites"][0]["mask"] != "off"
    if is_trained and np.array_equal(w.story.arrays()["site0_eta"], values["site0_eta"]):
        raise Wrong("the fit left the locations of the first site as they were")
    for name, value in story.numbers.twice.items():
        if value is not story.numbers.kept[name]:
            raise Wrong(f"the fit parted the two places of '{name}'")


def fit(w: Walk) -> None:
    fitted(w, engine="eager")


def fit_staged(w: Walk) -> None:
    fitted(w, engine="staged")


def restarts(w: Walk) -> None:
    fitted(w, engine="eager", n_init=2)


def fit_otherwise(w: Walk) -> None:
    """By another objective, Pyro's among them."""
    names = ["hard", "amortised", "importance", "truncated", TraceEnum_ELBO(max_plate_nesting=1)]
    fitted(w, engine="eager", objective=names[w.plan["seed"] // 5 % len(names)])


CALLS: dict[str, Check] = {
    "deepcopy": copied,
    "save and load": saved,
    "fit": fit,
    "fit, staged": fit_staged,
    "fit(n_init=2)": restarts,
    "fit(objective)": fit_otherwise,
}
