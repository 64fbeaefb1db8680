"""probclust's stories, through `pc.fit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import probclust as pc
from benchmarks.speed.gate import Gate
from probclust.progress import Progress
from probclust.story.recipe import SVI, Step, Train
from probclust.story.registry import story_class


class Gated(Progress):
    """Holds the epochs of the step of that name at the gate."""

    def __init__(self, gate: Gate, step: str) -> None:
        self.gate, self.step, self.left = gate, step, 0

    def start(self, step: str, epochs: int | None) -> None:
        if step == self.step:
            self.left = self.gate.epochs
            self.gate.open()

    def advance(self, loss: float) -> None:
        if not self.left:
            return
        self.left -= 1
        self.gate.close()
        if self.left:
            self.gate.open()


def _recipe(story: Any, setting: dict[str, Any], epochs: int) -> tuple[Sequence[Step], str]:
    """The steps, and the name of the timed one; warm starts are as short as those of the peer."""
    method, batch = setting["method"], setting["batch_size"]
    if method in ("mixture-of-vaes", "gmm"):
        return [SVI(epochs=epochs, learning_rate=1e-4)], "svi"
    short: dict[str, Any] = {"pretraining": "autoencoder", "pretrain_epochs": 1, "epochs": epochs}
    if method in ("dec", "idec"):
        short |= {"fit_epochs": 0, "delta": 0.0, "interval": setting.get("interval") or 10**9}
    elif method == "dcn":
        short |= {"fit_epochs": 0}
    else:
        short |= {"fit_epochs": 1}
    steps = [replace(s, batch_size=batch) if isinstance(s, Train) else s for s in story.recipe(**short)]
    return steps, [s.name for s in steps if isinstance(s, Train)][-1]


def run(setting: dict[str, Any], x: Any, gate: Gate) -> None:
    arguments = setting.get("arguments", {})
    if setting["method"] != "gmm":
        arguments = {"latent_dim": setting["latent"], **arguments}
    story = story_class(setting["method"])(x.shape[1], setting["clusters"], **arguments)
    steps, timed = _recipe(story, setting, gate.epochs)
    pc.fit(story, x, recipe=steps, batch_size=setting["batch_size"], progress=Gated(gate, timed), device="cpu")
    pc.predict(story, x)
