"""Measure speed, and write benchmarks/results/speed.json.

    python -m benchmarks.speed [--full] [--groups papers rows] [--peer-python /path/to/bin/python]
    python -m benchmarks.speed --page

Contenders take turns, an epoch each, on the same cores, each in a process of its own. ClustPy (the extra `bench`) may
live in another environment, whose interpreter is given by --peer-python or PROBCLUST_PEER_PYTHON; where there is none,
its columns stay empty. Results replace those of the same case in the file. --page draws them for the documentation.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed.cases import Case, cases
from benchmarks.speed.quality import CONTENDERS, TARGET, states
from benchmarks.speed.race import ROOT, Contender, race, ratio
from benchmarks.speed.start_up import start_up

RESULTS = ROOT / "benchmarks" / "results"
GROUPS = ("papers", "base", "rows", "features", "clusters", "latent", "quality", "start-up")


def machine(threads: int) -> dict[str, Any]:
    """Where it runs, and beside what."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        name = models[0] if models else name
    return {"processor": name, "cores": os.cpu_count(), "threads": threads, "load": os.getloadavg()[0]}


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip()


def measure(case: Case, threads: int, rounds: int, pythons: dict[str, str]) -> dict[str, Any]:
    """The record of a case."""
    settings = case.settings(threads)
    if "ClustPy" in settings and not pythons.get("ClustPy"):
        del settings["ClustPy"]
    found = race(settings, case.matrix(), pythons, rounds)
    sizes = {name: getattr(case, name) for name in ("group", "story", "rows", "features", "clusters", "latent")}
    ratios = {
        other: {clock: ratio(found, "probclust", other, clock) for clock in ("cpu", "wall")}
        for other in found
        if other != "probclust"
    }
    return {
        **sizes,
        "note": case.note,
        "arguments": case.arguments,
        "batch_size": 256,
        "key": case.key,
        "contenders": found,
        "ratios": ratios,
        "machine": machine(threads),
        "commit": commit(),
    }


def measure_quality(threads: int, pythons: dict[str, str], seed: int) -> dict[str, Any]:
    """Each contender's states, one contender after the other."""
    import tempfile

    import numpy as np

    from benchmarks.papers.data import labels, rows

    x, clusters = rows("mnist-10k")
    y = labels("mnist-10k")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        for name, own in CONTENDERS.items():
            if own["contender"] == "ClustPy" and "ClustPy" not in pythons:
                continue
            setting = {**own, "module": "benchmarks.speed.quality", "clusters": clusters, "seed": seed, "epochs": 1}
            setting |= {"threads": threads, "data": f"{folder}/x.npy"}
            with Contender(pythons.get(own["contender"], sys.executable), setting) as contender:
                found[name] = states(contender, y)
            print(name, "seed", seed, found[name][-1], flush=True)
    return {"seed": seed, "target": TARGET, "states": found, "machine": machine(threads), "commit": commit()}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="every case; without it a few of each kind")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--stories", nargs="+", help="only cases of these stories")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-python", default=os.environ.get("PROBCLUST_PEER_PYTHON"))
    parser.add_argument("--missing", action="store_true", help="leave out cases that the file has")
    parser.add_argument("--out", type=Path, default=None, help="results/speed.json with --full, else speed_short.json")
    parser.add_argument("--page", action="store_true", help="only write the page and its plots from the results")
    arguments = parser.parse_args()
    out = arguments.out or RESULTS / ("speed.json" if arguments.full or arguments.page else "speed_short.json")
    record = json.loads(out.read_text()) if out.exists() else {"cases": []}

    def save() -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1) + "\n")

    pythons = {}
    if arguments.peer_python or importlib.util.find_spec("clustpy"):
        pythons["ClustPy"] = arguments.peer_python or sys.executable
    if not arguments.page:
        record["command"] = "python -m benchmarks.speed" + (" --full" if arguments.full else "")
        for case in cases(arguments.full):
            done = {json.dumps(entry["key"]) for entry in record["cases"]}
            wanted = case.group in arguments.groups and case.story in (arguments.stories or [case.story])
            if not wanted or (arguments.missing and json.dumps(case.key) in done):
                continue
            entry = measure(case, arguments.threads, arguments.rounds, pythons)
            print(*case.key, {name: round(r["cpu"], 3) for name, r in entry["ratios"].items()}, flush=True)
            key = list(case.key)
            record["cases"] = [other for other in record["cases"] if other["key"] != key] + [entry]
            save()
        if "start-up" in arguments.groups:
            record["start-up"] = {**start_up(), "machine": machine(1), "commit": commit()}
            print("start-up", record["start-up"], flush=True)
            save()
        if "quality" in arguments.groups:
            for seed in range(3 if arguments.full else 1):
                entry = measure_quality(arguments.threads, pythons, seed)
                others = [other for other in record.get("quality", []) if other["seed"] != seed]
                record["quality"] = [*others, entry]
                save()


if __name__ == "__main__":
    main()
