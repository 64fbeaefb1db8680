"""`make story NAME=...` and its like: what they make passes its own test, is known by name, and touches few files."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKELETONS = ROOT / "docs" / "developer" / "skeletons"
TOUCHED = {"story": 4, "prior": 2, "likelihood": 2, "objective": 2, "start": 2}
"""Files that a new one touches, its test among them."""


def state(tree: Path) -> dict[str, str]:
    files = (path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=tree, env=environment, capture_output=True, text=True, timeout=280
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, with one of each kind added."""
    tree = tmp_path_factory.mktemp("copy")
    for name in ("models", "probclust", "docs/developer", "tests/support", "tests/house"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE", "tests/conftest.py", "docs/hooks.py"):
        shutil.copy(ROOT / name, tree / name)
    for kind in TOUCHED:
        (tree / "tests" / {"story": "models", "likelihood": "likelihoods"}.get(kind, f"{kind}s")).mkdir()
    before = state(tree)
    for kind, expected in TOUCHED.items():
        done = run(tree, "docs/developer/new.py", kind, f"Added{kind.title()}")
        assert done.returncode == 0, done.stderr
        after = state(tree)
        touched = {name for name in after if after[name] != before.get(name)}
        assert len(touched) == expected, touched
        assert touched == set(done.stdout.split("\n\n")[0].split())
        before = after
    metadata = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_editable('.')"
    assert run(tree, "-c", metadata).returncode == 0  # the entry points, as an installation has them
    return tree


def test_each_passes_its_own_test_and_is_known_by_name(tree: Path) -> None:
    tests = [str(path.relative_to(tree)) for path in tree.glob("tests/*/test_added_*.py")]
    assert len(tests) == len(TOUCHED)
    listed = ["tests/house/test_public_names.py", "tests/house/test_snapshot.py", "tests/house/test_layers.py"]
    only = "added or snapshot or long or face or no_room or one_sentence"
    done = run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, *listed, "-k", only)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    done = run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *listed[:1], "-k", "added", "--collect-only")
    assert "[added-story]" in done.stdout, "the contract suite runs on every story by its name"


def test_the_pages_and_lists_have_them(tree: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, 'docs'); import hooks; "
        "print(hooks.pages(), *(hooks.listed(f'{kind}s_by_name', f'probclust.{kind}s.named') "
        "for kind in ('prior', 'likelihood', 'objective')))"
    )
    done = run(tree, "-c", program)
    for name in ("stories/added_story.md", "AddedPrior", "AddedLikelihood", "AddedObjective"):
        assert name in done.stdout, done.stderr
    assert '"added-objective"' in done.stdout


def test_they_keep_the_rules_of_the_house(tree: Path) -> None:
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."]):
        done = run(tree, "-m", *command)
        assert done.returncode == 0, done.stdout
    done = run(tree, "-c", "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])")
    assert done.returncode == 0, done.stdout


def test_a_name_is_not_taken_twice_and_must_be_one(tree: Path) -> None:
    before = state(tree)
    done = run(tree, "docs/developer/new.py", "prior", "added-prior")
    assert "probclust/priors/added_prior.py is there already" in done.stderr
    done = run(tree, "docs/developer/new.py", "prior", "2 priors")
    assert "NAME must be a name such as TopicMixture" in done.stderr
    done = run(tree, "docs/developer/new.py", "prior", "")
    assert "usage: make story|prior" in done.stderr
    assert state(tree) == before


def test_every_skeleton_has_its_test() -> None:
    names = {path.name for path in SKELETONS.glob("*.py")}
    assert names == {name for kind in TOUCHED for name in (f"{kind}.py", f"test_{kind}.py")}
