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
import sys
from pathlib import Path

from benchmarks.record import RESULTS, ROOT, commit, machine
from benchmarks.speed.cases import cases
from benchmarks.speed.records import measure, measure_quality
from benchmarks.speed.start_up import start_up

GROUPS = ("papers", "base", "rows", "features", "clusters", "latent", "quality", "start-up")


def run(arguments: argparse.Namespace, out: Path) -> None:
    """Measure what was asked for; the file is written after each case."""
    record = json.loads(out.read_text()) if out.exists() else {"cases": []}
    record["command"] = "python -m benchmarks.speed" + (" --full" if arguments.full else "")
    pythons = {}
    if arguments.peer_python or importlib.util.find_spec("clustpy"):
        pythons["ClustPy"] = arguments.peer_python or sys.executable
    else:
        print("ClustPy is left out: install the extra 'bench', or give the interpreter of its environment", flush=True)

    def save() -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1) + "\n")

    for case in cases(arguments.full):
        key = list(case.key)
        wanted = case.group in arguments.groups and case.story in (arguments.stories or [case.story])
        if not wanted or (arguments.missing and any(other["key"] == key for other in record["cases"])):
            continue
        entry = measure(case, arguments.threads, arguments.rounds, pythons)
        print(*key, {name: round(value["cpu"], 3) for name, value in entry["ratios"].items()}, flush=True)
        record["cases"] = [other for other in record["cases"] if other["key"] != key] + [entry]
        save()
    if "start-up" in arguments.groups:
        record["start-up"] = {**start_up(), "machine": machine(1), "commit": commit()}
        print("start-up", record["start-up"], flush=True)
        save()
    if "quality" in arguments.groups:
        for seed in arguments.seeds:
            entry = measure_quality(arguments.threads, pythons, seed)
            others = [other for other in record.get("quality", []) if other["seed"] != seed]
            record["quality"] = [*others, entry]
            save()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="every case; without it a few of each kind")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--stories", nargs="+", help="only cases of these stories")
    parser.add_argument("--threads", type=int, default=1, help="of each contender")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each contender that count")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the runs to quality")
    parser.add_argument("--peer-python", default=os.environ.get("PROBCLUST_PEER_PYTHON"))
    parser.add_argument("--missing", action="store_true", help="leave out cases that the file has")
    parser.add_argument("--out", type=Path, default=None, help="results/speed.json with --full, else speed_short.json")
    parser.add_argument("--page", action="store_true", help="only write the page's tables and plots from the results")
    arguments = parser.parse_args()
    out = arguments.out or RESULTS / ("speed.json" if arguments.full or arguments.page else "speed_short.json")
    if not arguments.page:
        run(arguments, out)
        return
    from benchmarks.speed.plots import draw
    from benchmarks.speed.summary import page

    record = json.loads(out.read_text())
    out.with_suffix(".md").write_text(page(record) + "\n")
    print(out.with_suffix(".md"), *draw(record, ROOT / "docs" / "speed"))


if __name__ == "__main__":
    main()
