"""What every record of a benchmark says beside its figures: the command, the machine, the versions, the commit."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def machine(threads: int) -> dict[str, Any]:
    """Where it runs, and beside what; with an accelerator only where torch sees one."""
    import torch

    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    found = {"processor": name, "cores": os.cpu_count(), "threads": threads, "load": os.getloadavg()[0]}
    return found | ({"accelerator": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def commit() -> str:
    """Of the working tree, short."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip()


def made(threads: int) -> dict[str, Any]:
    """How and where a record was made."""
    from probclust.fitting.record import versions

    return {"machine": machine(threads), "versions": versions(), "commit": commit()}


def write(path: Path, command: str, threads: int, **figures: Any) -> None:
    """Write a record, instead of an older one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"command": command, **made(threads), **figures}, indent=1) + "\n")


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a record to those of a file, one in each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a file that has one in each line; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
