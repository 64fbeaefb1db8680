"""The examples of the README run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import probclust as pc

README = Path(__file__).parent.parent / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "readme"}
    exec(compile(EXAMPLES[number], f"README example {number}", "exec"), names)
    if "again" in names:
        assert names["images"].shape == (8, 64)
        assert names["codes"].shape == (397, 10)
        assert pc.predict(names["again"], names["held_out"]).equal(pc.predict(names["vade"], names["held_out"]))
    if "counts" in names:
        assert names["record"].bound > -6


def test_the_readme_has_its_examples() -> None:
    assert len(EXAMPLES) == 3
