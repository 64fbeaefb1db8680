"""A story saved twice gives the same bytes: in one process, in another one, and when it was loaded in between."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import probclust as pc
from probclust.story.archive import write_archive
from tests.saved.make import HERE, STORIES
from tests.support.stories import CASES

ROOT = Path(__file__).parents[2]
BUILD = {case.name: case.build for case in CASES} | {name: build for name, (_, build) in STORIES.items()}
CLASSES = {case.name: type(case.build()) for case in CASES}
IN_ANOTHER_PROCESS = """
import json, sys
from tests.story.test_same_bytes import BUILD, saved_digest
print(json.dumps({name: saved_digest(name, sys.argv[1]) for name in BUILD}))
"""


def saved_digest(name: str, path: str | Path) -> str:
    """Digest of the file of a story that is built from seed 0."""
    torch.manual_seed(0)
    story = BUILD[name]()
    story.feature_names = tuple(f"column {i}" for i in range(story.n_features))
    pc.save(story, path, facts={"seed": 0, "nested": {"b": 1, "a": [None, 2.5]}})
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def in_another_process(tmp_path_factory):
    """Digests by name of the stories saved in a process whose strings hash otherwise."""
    path = tmp_path_factory.mktemp("other") / "story"
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    script = [sys.executable, "-W", "ignore", "-c", IN_ANOTHER_PROCESS, str(path)]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.xdist_group("same bytes")
@pytest.mark.parametrize("name", BUILD)
def test_a_story_saved_again_gives_the_same_bytes(name, tmp_path, in_another_process):
    path, again = tmp_path / "story", tmp_path / "again"
    assert saved_digest(name, path) == saved_digest(name, again) == in_another_process[name]


@pytest.mark.parametrize("name", BUILD)
def test_a_story_loaded_and_saved_gives_the_same_bytes(name, tmp_path):
    path, again = tmp_path / "story", tmp_path / "again"
    pc.save(BUILD[name]().double(), path)
    pc.save(pc.load(path, CLASSES.get(name)), again)
    assert path.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("name", ["vade-convolutions", "gmm-sticks-gaps", "minkowski"])
def test_a_file_of_then_is_written_anew_in_one_way(name, tmp_path):
    path, again = tmp_path / "story", tmp_path / "again"
    pc.save(pc.load(HERE / f"{name}.safetensors"), path)
    pc.save(pc.load(path), again)
    assert path.read_bytes() == again.read_bytes()


def test_names_of_any_letters_keep_their_tensors(tmp_path):
    tensors = {'"ü\\': torch.zeros(2), "__metadata": torch.ones(3, dtype=torch.int64), "a" * 13: torch.zeros(0)}
    for number in range(2):
        write_archive(tmp_path / f"{number}", "story", tensors, {"ß": "\u2028"})
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()
    found, facts = pc.story.archive.read_archive(tmp_path / "0", "story")
    assert facts == {"ß": "\u2028"}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
