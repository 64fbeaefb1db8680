"""The examples of the README and of the documentation run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import probclust as pc
from benchmarks.papers.records import FILE
from benchmarks.papers.table import overview
from benchmarks.record import read

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    f"{page.name} {number}": code
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1)
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "example"}
    exec(compile(EXAMPLES[name], name, "exec"), names)
    if "again" in names:
        assert names["images"].shape == (8, 64)
        assert names["codes"].shape == (397, 10)
        assert pc.predict(names["again"], names["held_out"]).equal(pc.predict(names["vade"], names["held_out"]))
    if "counts" in names:
        assert names["record"].bound > -6


def test_there_are_examples() -> None:
    assert {"README.md 3", "contract.md 1", "recipes.md 1", "troubleshooting.md 1"} <= set(EXAMPLES)


def test_the_table_is_that_of_the_records() -> None:
    """Where it is not: python -m benchmarks.papers --table, and copy the first table."""
    assert overview(read(FILE)) in (ROOT / "README.md").read_text()
