"""CPU time of imports and of the command line's help, in processes of their own: the least of several."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

PROGRAMS = {
    "import torch": "import torch",
    "import pyro": "import pyro",
    "import probclust": "import probclust",
    "first use of pc.predict": "import probclust as pc; pc.predict",
    "first use of pc.fit": "import probclust as pc; pc.fit",
    "probclust --help": "import sys; from probclust.cli.main import main; main(['--help'])",
}


def cpu_seconds(arguments: Sequence[str]) -> float:
    """User and system time of one Python process."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def start_up(repeats: int = 5) -> dict[str, float]:
    """Seconds of each program, in turns."""
    found: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(repeats):
        for name, program in PROGRAMS.items():
            found[name].append(cpu_seconds(["-c", program]))
    return {name: min(seconds) for name, seconds in found.items()}
