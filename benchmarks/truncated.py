"""Time of an epoch of truncated enumeration as K grows, beside exact enumeration, in the same process.

    python -m benchmarks.truncated [--rounds 7] [--steps 4] [--quick]

Mixtures of VAEs at batch 1,024, S = 5 candidates, random data, one thread: epochs of all settings take turns, each
counts its processor time, and the ratios of the medians are what counts; the seconds depend on the machine. An epoch is
all that `pc.fit` does in one: the passes over some rows that refresh candidates, exploration, every training step and
Adam over all K experts. Writes benchmarks/results/truncated.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import probclust as pc
from benchmarks.record import RESULTS, write
from probclust.fitting.devices.group import Devices, fabric_for
from probclust.fitting.trainer import Trainer
from probclust.story.recipe import Run

BATCH = 1024


class Setting:
    """A fit that stands between two epochs."""

    def __init__(self, x: torch.Tensor, n_clusters: int, hidden: tuple[int, ...], objective: Any) -> None:
        torch.manual_seed(0)
        story = pc.models.MixtureOfVAEs(x.shape[1], n_clusters, hidden=hidden)
        step = pc.SVI(epochs=10**6, learning_rate=1e-4, objective=objective)
        self.trainer = Trainer(story, [step], devices=Devices(fabric_for("cpu")), batch_size=BATCH)
        run = Run(story, x, None, 0)
        run.memory["start"] = torch.randint(n_clusters, (len(x),))
        self.trainer.start(step, run)
        self.number, self.seconds = 0, []

    def epoch(self) -> None:
        """Run and time one; the first is not counted."""
        started = time.process_time()
        self.trainer.epoch(self.number, self.number)
        if self.number:
            self.seconds.append(time.process_time() - started)
        self.number += 1


def compare(name: str, x: torch.Tensor, hidden: tuple[int, ...], settings: dict[str, Any], rounds: int) -> Any:
    """Medians of interleaved epochs; `settings` has K and the objective by name, the first being the reference."""
    running = {label: Setting(x, k, hidden, objective) for label, (k, objective) in settings.items()}
    for _ in range(rounds + 1):
        for setting in running.values():
            setting.epoch()
    medians = {label: statistics.median(setting.seconds) for label, setting in running.items()}
    reference = next(iter(medians.values()))
    found = {
        "setting": name,
        "features": x.shape[1],
        "hidden": hidden,
        "seconds_per_step": {label: value / (len(x) // BATCH) for label, value in medians.items()},
        "ratio_to_first": {label: value / reference for label, value in medians.items()},
    }
    print(name, json.dumps(found["ratio_to_first"], indent=1), flush=True)
    return found


def truncated(n_clusters: int) -> tuple[int, Any]:
    return n_clusters, pc.objectives.Truncated(5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="batches of an epoch")
    parser.add_argument("--quick", action="store_true", help="leave out the large experts and K = 1,000")
    parser.add_argument("--out", type=Path, default=RESULTS / "truncated.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    n_rows, rounds = BATCH * arguments.steps, arguments.rounds
    few = {"truncated, K=10": truncated(10), "exact, K=10": (10, "exact"), "truncated, K=30": truncated(30)}
    many = few | {"truncated, K=100": truncated(100)}
    results = [compare("64 units, 64 features", torch.rand(n_rows, 64), (64,), many, rounds)]
    results.append(compare("64 units, 784 features", torch.rand(n_rows, 784), (64,), many, rounds))
    if not arguments.quick:
        thousand = {"truncated, K=10": truncated(10), "truncated, K=1000": truncated(1000)}
        results.append(compare("64 units, 64 features", torch.rand(n_rows, 64), (64,), thousand, 3))
        large = {"exact, K=10": (10, "exact"), "truncated, K=10": truncated(10), "truncated, K=100": truncated(100)}
        results.append(compare("500-100 units, 784 features", torch.rand(n_rows, 784), (500, 100), large, 3))
    write(
        arguments.out, f"python -m benchmarks.truncated --rounds {rounds} --steps {arguments.steps}", 1, results=results
    )


if __name__ == "__main__":
    main()
