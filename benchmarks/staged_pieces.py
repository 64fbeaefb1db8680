"""What each piece of the staged engine gains: the time of a step without it, against that with all, in one process.

    python -m benchmarks.staged_pieces [--threads 1] [--rounds 40] [--cases large] [--without simplify code ...]

"simplify" leaves a trace as `make_fx` gives it, "code" runs a graph as torch.fx does, by the operators that the trace
recorded, "both" does without both, "eager" runs Pyro at every step. The other names are those of rules and steps of
`probclust.fitting.engine.simplify`. Steps of all of them take turns in random order, batch 256, random data. "time" is
the ratio of the quicker quarters, which other processes hardly touch, "spread" the smallest and the largest of it over
thirds of the rounds; "itself" is a second graph with all pieces: what lies within its spread is noise. Operations, and
the elements that they write, do not depend on the machine. "peak" is the memory that a step's gradients take at most.
With one thread times are CPU time. Writes benchmarks/results/staged_pieces.json.

A step's instructions are the same on a busy machine. Where valgrind is installed, they are counted by

    valgrind --tool=callgrind --instr-atstart=no --collect-atstart=no --callgrind-out-file=/tmp/counts \\
        python -m benchmarks.staged_pieces --cases small --instructions /tmp/counts
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pyro
import torch
from torch import Tensor
from torch.fx import GraphModule

import probclust as pc
from benchmarks.record import RESULTS, write
from benchmarks.step_time import BATCH
from probclust.fitting.devices.group import Devices, fabric_for
from probclust.fitting.engine import code, simplify, staged
from probclust.fitting.trainer import Trainer
from probclust.story.recipe import Run

LARGE = (("VaDE", 784, (500, 500, 2000)), ("MixtureOfVAEs", 784, (500, 100)))
SMALL = tuple((name, 64, (64, 64)) for name in ("VaDE", "MixtureOfVAEs", "DMAE", "DCN", "DAMIC", "LTVAE", "GMVAE"))
CASES = (*LARGE, *SMALL, ("GaussianMixture", 16, None))
"""Story, features, and hidden layers."""


def _as_recorded(module: GraphModule) -> Callable[..., Any]:
    return code.written(module).forward


def _nothing(*_: Any) -> None:
    return None


def pieces() -> dict[str, list[Any]]:
    """Each piece, with what has to be replaced to do without it."""
    whole = mock.patch.object(staged, "simplify", _nothing)
    plain = mock.patch.object(staged, "graph_function", _as_recorded)
    found = {"itself": [], "eager": [], "simplify": [whole], "code": [plain], "both": [whole, plain]}
    found["rules"] = [mock.patch.dict(simplify.RULES, clear=True)]
    found["aliases"] = [mock.patch.object(simplify, "ALIASES", set())]
    found["unused"] = [mock.patch.object(simplify, "is_needed", bool)]
    for method in ("constant", "same", "numbers"):
        found[method] = [mock.patch.object(simplify.Pass, f"_{method}", _nothing)]
    for rule in set(simplify.RULES.values()):
        others = {target: other for target, other in simplify.RULES.items() if other is not rule}
        found[rule.__name__.strip("_")] = [mock.patch.dict(simplify.RULES, others, clear=True)]
    return found


class Steps:
    """The steps of one story by one engine, on one batch.

    Args:
        story: what is trained.
        x: (rows, n_features).
        engine: "eager" or "staged".
        replaced: what a graph is recorded without.
    """

    def __init__(self, story: pc.Story, x: Tensor, engine: str, replaced: Sequence[Any] = ()) -> None:
        step = pc.SVI(epochs=10**6, learning_rate=1e-4)
        trainer = Trainer(story, [step], devices=Devices(fabric_for("cpu")), batch_size=len(x), engine=engine)
        trainer.start(step, Run(story, x, None, 0))
        self.batch, self.runs = (x.clone(), torch.arange(len(x)), None), trainer.runs
        self.operations, self.elements = 0, 0
        with contextlib.ExitStack() as stack:
            for patch in replaced:
                stack.enter_context(patch)
            if engine == "staged":
                stack.enter_context(mock.patch.object(staged, "captured", self._captured))
            self.run()
        self.runs._is_due = lambda graph: False  # else the story runs beside it at some steps

    def _captured(self, module: GraphModule) -> list[Tensor]:
        operations = [node for node in module.graph.nodes if node.op == "call_function"]
        self.operations = len(operations)
        values = [node.meta.get("val") for node in operations if not simplify.may_view(node)]
        self.elements = sum(value.numel() for value in values if isinstance(value, Tensor))
        return code.captured(module)

    def run(self) -> None:
        """One step."""
        self.runs.gradients(*self.batch)
        self.runs.optimizer.step()

    def instructions(self, counts: Path) -> int:
        """Of one step under valgrind, which adds them to its file as one more of its parts."""
        self.run()
        torch._C._valgrind_toggle()
        self.run()
        torch._C._valgrind_toggle_and_dump_stats()
        parts = sorted(counts.parent.glob(f"{counts.name}.*"), key=lambda path: int(path.suffix[1:]))
        return next(int(line.split()[1]) for line in parts[-1].read_text().splitlines() if line.startswith("totals:"))

    def peak(self) -> float:
        """Megabytes of a step's gradients."""
        self.runs.optimizer.zero_grad()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
            self.runs.gradients(*self.batch)
        events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
        at, most = 0, 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            at += event.nbytes()
            most = max(most, at)
        return most / 1e6


def quick(times: Sequence[float]) -> float:
    """The quicker quarter's last."""
    return sorted(times)[len(times) // 4]


def steps_of(case: Any, names: Sequence[str]) -> dict[str, Steps]:
    """The steps of a story without each of these pieces."""
    story, n_features, hidden = case
    x = torch.rand(BATCH, n_features)
    steps = {}
    for name in names:
        torch.manual_seed(0)
        built = getattr(pc.models, story)(n_features, 10, **({} if hidden is None else {"hidden": hidden}))
        steps[name] = Steps(built, x, "eager" if name == "eager" else "staged", pieces().get(name, ()))
    return steps


def measure(
    cases: Sequence[Any], rounds: int, names: Sequence[str], clock: Callable[[], float]
) -> Iterator[dict[str, Any]]:
    for story, n_features, hidden in cases:
        steps = steps_of((story, n_features, hidden), ("all", *names))
        times: dict[str, list[float]] = {name: [] for name in steps}
        order = list(steps)
        for _ in range(rounds):
            random.shuffle(order)
            for name in order:
                started = clock()
                steps[name].run()
                times[name].append(clock() - started)
        for name, these in steps.items():
            thirds = [quick(times[name][third::3]) / quick(times["all"][third::3]) for third in range(3)]
            yield {
                "story": story,
                "features": n_features,
                "hidden": hidden,
                "without": name,
                "milliseconds": 1000 * quick(times[name]),
                "time": quick(times[name]) / quick(times["all"]),
                "spread": [min(thirds), max(thirds)],
                "operations": these.operations,
                "elements": these.elements,
                "peak": these.peak(),
            }


def count(cases: Sequence[Any], names: Sequence[str], counts: Path) -> Iterator[dict[str, Any]]:
    """Instructions of a step, in a process that runs under valgrind."""
    made = [(case, steps_of(case, ("all", *names))) for case in cases]  # at full speed
    subprocess.run(["callgrind_control", "-i", "on", str(os.getpid())], check=True, capture_output=True)
    for (story, n_features, hidden), steps in made:
        found = {name: these.instructions(counts) for name, these in steps.items()}
        for name, number in found.items():
            place = {"story": story, "features": n_features, "hidden": hidden, "without": name}
            yield {**place, "instructions": number, "ratio": number / found["all"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--cases", choices=("all", "large", "small"), default="all")
    parser.add_argument(
        "--instructions", type=Path, metavar="COUNTS", help="where valgrind writes, under which this runs"
    )
    parser.add_argument("--without", nargs="+", choices=sorted(pieces()), default=list(pieces()))
    parser.add_argument("--out", type=Path, help="instead of the file in benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    cases = {"all": CASES, "large": LARGE, "small": CASES[len(LARGE) :]}[arguments.cases]
    results = []
    line = "{story:15} {features:4} {without:15} "
    if arguments.instructions is None:
        line += "{milliseconds:8.2f} ms {time:.3f} [{spread[0]:.3f} {spread[1]:.3f}]"
        line += " {operations:4} operations {elements:10,} elements {peak:7.2f} MB"
        results_of = partial(measure, cases, arguments.rounds, arguments.without, clock)
    else:
        line += "{instructions:12,} instructions {ratio:.3f}"
        results_of = partial(count, cases, arguments.without, arguments.instructions)
    with pyro.validation_enabled(False):  # as in training
        for found in results_of():
            results.append(found)
            print(line.format_map(found), flush=True)
    name = "staged_pieces.json" if arguments.instructions is None else "staged_instructions.json"
    command = f"python -m benchmarks.staged_pieces --threads {arguments.threads} --rounds {arguments.rounds}"
    command += f" --cases {arguments.cases} --without {' '.join(arguments.without)}"
    write(arguments.out or RESULTS / name, command, arguments.threads, clock=clock.__name__, results=results)


if __name__ == "__main__":
    main()
