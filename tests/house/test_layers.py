"""The house keeps its order: sizes, faces, and imports that go one way, which `make lint` holds and is seen to hold."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from probclust.story.installed import installed_stories

ROOT = Path(__file__).parents[2]
LIBRARY, MODELS = ROOT / "probclust", ROOT / "models"
ROOMS = sorted(face.parent for face in LIBRARY.glob("*/__init__.py") if not face.parent.is_symlink())
KNOWS_STORIES = {"cli", "estimator.py"}
"""The commands, and the estimator, whose `story` has a default."""


def files() -> list[Path]:
    """All of the library's modules; those of models/ under their real path."""
    return [*sorted(p for p in LIBRARY.rglob("*.py") if "models" not in p.parts), *sorted(MODELS.glob("*.py"))]


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_the_root_has_few_modules() -> None:
    assert len(list(LIBRARY.glob("*.py"))) <= 14, "give the new module a room: see docs/architecture.md"


def test_no_file_is_long() -> None:
    assert not {str(path.relative_to(ROOT)): length(path) for path in files() if length(path) > 350}


def test_stories_read_like_their_papers() -> None:
    """What is not their formulas and recipes stands in the library; model and guide are near the top of each file."""
    lengths = {path.name: length(path) for path in MODELS.glob("*.py")}
    assert sum(lengths.values()) <= 1500
    assert lengths["vade.py"] <= 115
    for path in MODELS.glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [number for number, line in enumerate(lines) if line.startswith(("    def model(", "    def guide("))]
        assert not found or max(found) <= 120, path


def test_stories_are_short() -> None:
    """A reader finds `model` and `guide` of any story on its first screens."""
    assert length(MODELS / "vade.py") <= 115
    assert sum(length(path) for path in MODELS.glob("*.py")) <= 1500


def test_there_are_twelve_rooms_and_the_suite_for_others() -> None:
    expected = "cli data distributions evaluation fitting generate likelihoods networks objectives priors starts story"
    assert [room.name for room in ROOMS] == [*expected.split(), "testing"]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_has_a_face(room: Path) -> None:
    face = importlib.import_module(f"probclust.{room.name}")
    summary, *rest = (face.__doc__ or "").splitlines()
    assert summary.endswith("."), "its first line says in one sentence what the room is for"
    assert not rest or not rest[0]
    assert sorted(set(face.__all__)) == sorted(face.__all__)
    assert all(hasattr(face, name) for name in face.__all__)


def test_every_module_says_what_it_is_for() -> None:
    for path in files():
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert doc.partition("\n")[0].rstrip().endswith((".", "?", ":")), f"{path}: {doc[:80]!r}"


IMPORT_EACH = """
import importlib, os, sys

for name in sys.argv[1:]:  # loads the packages of others, once for all
    importlib.import_module(name)
for name in [name for name in sys.modules if name.partition(".")[0] == "probclust"]:
    del sys.modules[name]
for name in sys.argv[1:]:
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    try:
        importlib.import_module(name)
        os._exit(0)
    except BaseException as error:
        print(name, repr(error), flush=True)
    os._exit(1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_each_module_can_be_imported_first() -> None:
    """In a process that has loaded nothing of ours: the root's, the faces, and every third of the others.

    The faces that import at once bring the other modules of their rooms.
    """
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files() if path.parent != MODELS]
    names += [f"probclust.models.{path.stem}" for path in MODELS.glob("*.py") if path.stem != "__init__"]
    eager = {f"probclust.{room.name}." for room in ROOMS if "lazy_loader" not in (room / "__init__.py").read_text()}
    first = [
        name.removesuffix(".__init__")
        for name in names
        if not name.endswith("__main__")
        and (name.endswith(".__init__") or name.startswith("probclust.cli.") or not name.startswith(tuple(eager)))
    ]
    top = [name for name in first if name.count(".") < 2]
    others = [name for name in first if name.count(".") > 1]
    command = [sys.executable, "-c", IMPORT_EACH, *top, *others[::3]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_no_room_but_the_commands_names_a_story() -> None:
    """Not even in a string, where import-linter does not look."""
    points = installed_stories().values()
    ours = {p.name for p in points} | {p.value.partition(":")[2] for p in points}
    named = {}
    for path in files():
        if path.parent == MODELS or path.relative_to(LIBRARY).parts[0] in KNOWS_STORIES:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        if found := ours & strings:
            named[path.relative_to(ROOT)] = found
    assert not named


PLANTS = {
    "upward": ("data/kinds.py", "from probclust.fitting.record import FitRecord", "A room imports only from rooms"),
    "circle": ("story/rows.py", "from probclust.story.scoring import elbo", "No circles within a room"),
    "story": ("evaluation/measure.py", "from probclust.models import VaDE", "No room but models and cli knows a story"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources that may be broken."""
    tree = tmp_path_factory.mktemp("house")
    shutil.copy(ROOT / "pyproject.toml", tree)
    shutil.copytree(LIBRARY, tree / "probclust", ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def linted(tree: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--no-cache"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=60)


def test_the_copy_is_in_order(copy: Path) -> None:
    done = linted(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("KEPT") == 3


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_fault_breaks_the_order(plant: str, copy: Path) -> None:
    file, line, contract = PLANTS[plant]
    path = copy / "probclust" / file
    sound = path.read_text(encoding="utf-8")
    path.write_text(f"{sound}\n{line}\n", encoding="utf-8")
    try:
        done = linted(copy)
    finally:
        path.write_text(sound, encoding="utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [row for row in done.stdout.splitlines() if row.endswith("BROKEN")]
    assert any(row.startswith(contract) for row in broken), broken
    assert (line.split()[1] if plant != "circle" else "- .scoring -> .rows") in done.stdout
