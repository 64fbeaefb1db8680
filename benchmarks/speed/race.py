"""The referee: contenders of a case take turns, an epoch each, so that what else the machine does meets them alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import ROOT


class Contender:
    """A child process with its contender, at its gate.

    Args:
        python: interpreter of the environment.
        setting: what it runs.
    """

    def __init__(self, python: str, setting: Mapping[str, Any]) -> None:
        threads = str(setting["threads"])
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        environment |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        self.name = setting["contender"]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.speed.contender", json.dumps(setting)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def listen(self) -> dict[str, Any]:
        """The next of its messages."""
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{self.name} ended early:\n{self.errors.read()[-2000:]}")
        return json.loads(line)

    def epoch(self) -> dict[str, float]:
        """Seconds of one epoch, "cpu" and "wall"."""
        self.process.stdin.write("go\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return self.listen()

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.stdout.close()  # type: ignore[union-attr]
        self.errors.close()


def race(
    contenders: Mapping[str, Mapping[str, Any]], x: np.ndarray[Any, Any], pythons: Mapping[str, str], rounds: int
) -> dict[str, Any]:
    """Run the contenders in turns.

    Args:
        contenders: settings by name.
        x: (rows, features) they are fitted to.
        pythons: interpreters by the settings' "contender", where it is not this one.
        rounds: epochs that count; one before them warms up.

    Returns:
        For each contender its seconds in every round and their median, peak memory, and versions.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        data = Path(folder) / "x.npy"
        np.save(data, x)
        running = {}
        for name, setting in contenders.items():
            whole = {**setting, "data": str(data), "epochs": rounds + 1}
            python = pythons.get(setting["contender"], sys.executable)
            running[name] = stack.enter_context(Contender(python, whole))
        found: dict[str, Any] = {name: {**c.listen(), "cpu": [], "wall": []} for name, c in running.items()}
        for number in range(rounds + 1):
            order: Sequence[str] = list(running) if number % 2 else list(running)[::-1]
            for name in order:
                seconds = running[name].epoch()
                if number:
                    for clock in ("cpu", "wall"):
                        found[name][clock].append(seconds[clock])
        for name, contender in running.items():
            found[name] |= contender.listen()
    for facts in found.values():
        facts |= {f"median_{clock}": statistics.median(facts[clock]) for clock in ("cpu", "wall")}
    return found


def ratio(found: Mapping[str, Any], name: str, other: str, clock: str = "cpu") -> float:
    """Median over the rounds of one contender's time over another's in the same round."""
    return statistics.median(a / b for a, b in zip(found[name][clock], found[other][clock], strict=True))
