"""Numbers of the stories that 061441d saved, where a fault was mended since so that they are others on purpose.

python -m saved.since    # in the folder tests/, with today's code: since.json beside this file anew
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

import probclust as pc
from tests.saved.lines import write_lines
from tests.saved.make import HERE, N_ROWS, N_SHOWN
from tests.saved.numbers import numbers
from tests.saved.rows import rows

SINCE = Path(__file__).with_suffix(".json")
GUIDE = "the guide of MixtureOfVAEs draws no stand-in for q(cluster | x) any more, so that draws from a seed are others"
COUNTS = "encoders see counts without their depth: stories of counts saved before should be fitted anew"
DRAWS = "zero-inflated counts are drawn otherwise"
WHY = {
    "mixture-of-vaes": (GUIDE, ("sample",)),
    "mixture-of-vaes-batch-norm": (GUIDE, ("sample",)),
    "mixture-of-vaes-diagonal": (GUIDE, ("sample",)),
    "mixture-of-vaes-words": (COUNTS, None),
    "vade-counts": (COUNTS, None),
    "dcn-counts": (COUNTS, None),
    "dgg-counts": (DRAWS, ("sample",)),
}
"""By the story's name: why, and which of its numbers; None for all."""


def main() -> None:
    """Write the numbers."""
    torch.set_num_threads(1)
    then = json.loads((HERE / "numbers.json").read_text())["stories"]
    found = {}
    for name, (why, which) in WHY.items():
        now = numbers(pc.load(HERE / f"{name}.safetensors"), rows(then[name]["kind"], N_ROWS)[:N_SHOWN])
        found[name] = {"why": why} | {key: value for key, value in now.items() if which is None or key in which}
    write_lines(SINCE, {"stories": found})


if __name__ == "__main__":
    main()
