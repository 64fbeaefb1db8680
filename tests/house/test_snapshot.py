"""Public names do not change by accident; on purpose by `python -m tests.house.test_snapshot`, and in the changelog."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "public_names.json"
ROOT = Path(__file__).parents[2] / "probclust"
FACES = [
    "probclust",
    *sorted(f"probclust.{face.parent.name}" for face in ROOT.glob("*/__init__.py")),
    *("probclust.dissimilarities", "probclust.metrics", "probclust.weights"),
]
"""What a user may import from: all deeper paths may change."""


def names(module: str) -> list[str]:
    return sorted(importlib.import_module(module).__all__)


@pytest.mark.parametrize("module", FACES)
def test_public_names_are_those_of_the_snapshot(module: str) -> None:
    expected = set(json.loads(FILE.read_text(encoding="utf-8")).get(module, "").split())
    found = set(names(module))
    renew = "on purpose? python -m tests.house.test_snapshot"
    if module == "probclust.models":  # a new story is no change of what there is
        found &= expected
    assert (found - expected, expected - found) == (set(), set()), f"names of {module} came or went; {renew}"


def test_the_snapshot_has_no_other_modules() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8")).keys() == set(FACES)


if __name__ == "__main__":
    lines = [f"  {json.dumps(module)}: {json.dumps(' '.join(names(module)))}" for module in FACES]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
