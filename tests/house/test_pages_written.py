"""The pages for those who carry on say what is: the rooms, the paths they name, the targets, the versions."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = ["CONTRIBUTING.md", "SECURITY.md", "README.md", "docs/architecture.md", "docs/contract.md", "docs/recipes.md"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_rooms_are_drawn_as_the_contract_has_them() -> None:
    """Where they are not: python docs/developer/rooms.py."""
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "docs" / "developer" / "rooms.py")
    assert spec is not None
    assert spec.loader is not None
    rooms = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rooms)
    assert rooms.PICTURE.read_text(encoding="utf-8") == rooms.picture()
    assert rooms.PAGE.read_text(encoding="utf-8") == rooms.page()
    drawn = {name for layer in rooms.layers() for name in layer}
    there = {path.stem for path in (ROOT / "probclust").glob("*.py")} - {"__init__"}
    there |= {face.parent.name for face in (ROOT / "probclust").glob("*/__init__.py")}
    assert drawn == there


@pytest.mark.parametrize("page", PAGES)
def test_paths_that_a_page_names_are_there(page: str) -> None:
    named = re.findall(r"`((?:probclust|models|tests|docs|benchmarks)/[\w./-]*)`", text(page))
    named += re.findall(r"\]\(((?!https?:|#)[\w./-]+)\)", text(page)) if "/" not in page else []
    missing = {path for path in named if not (ROOT / path).exists()}
    assert not missing


def test_the_trip_of_a_row_passes_rooms_that_are_there() -> None:
    trip = text("docs/architecture.md").partition("## The trip of a row")[2].partition("##")[0]
    rooms = set(re.findall(r"\*\*(\w+)\*\*", trip))
    assert {"cli", "data", "story", "starts", "fitting", "objectives", "evaluation", "generate"} <= rooms
    assert all((ROOT / "probclust" / room / "__init__.py").exists() for room in rooms)


def test_targets_that_pages_name_are_in_the_makefile() -> None:
    there = set(re.findall(r"^([a-z -]+):", text("Makefile"), re.MULTILINE))
    there = {target for targets in there for target in targets.split()}
    for page in PAGES:
        named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]+)", text(page), re.MULTILINE))
        assert named <= there, (page, named - there)


def test_quick_checks_run_the_tools_of_the_lint_target() -> None:
    hooks = [hook for repo in yaml.safe_load(text(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    assert [hook["id"] for hook in hooks] == ["large-files", "ruff", "ruff-format", "nbstripout", "lint-imports"]
    ruff = re.search(r"^ruff==.*$", text("constraints.txt"), re.MULTILINE)
    assert ruff is not None
    wanted = {need for hook in hooks for need in hook.get("additional_dependencies", []) if need.startswith("ruff")}
    assert wanted == {ruff.group()}


def test_the_citation_is_of_the_newest_release() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] == PROJECT["project"]["license"]
    version, released = re.findall(r"^## \[(\d\S*)\] - (\S+)$", text("CHANGELOG.md"), re.MULTILINE)[0]
    assert (citation["version"], str(citation["date-released"])) == (version, released)
    assert date.fromisoformat(released)


def test_the_changelog_begins_with_what_is_not_released() -> None:
    assert re.findall(r"^## \[(.*?)\]", text("CHANGELOG.md"), re.MULTILINE)[0] == "Unreleased"


def test_the_lowest_versions_are_those_that_are_promised() -> None:
    """Torch but for: lower ones than that of the other tests would bring gigabytes of CUDA."""
    extras = PROJECT["project"]["optional-dependencies"]
    promised = [*PROJECT["project"]["dependencies"], *extras["plot"], *extras["parquet"], *extras["flow"]]
    floors = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(promised), re.MULTILINE))
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)", text("constraints-lowest.txt"), re.MULTILINE))
    assert pinned.keys() == floors.keys()
    for name in floors.keys() - {"torch"}:
        assert (pinned[name] + ".0.0").startswith(floors[name] + "."), name
