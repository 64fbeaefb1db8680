"""A package of somebody else's, installed by pip, is found by its entry point and goes through every command."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import probclust as pc
from probclust.cli.main import main
from probclust.story.registry import story_class, story_names
from probclust.testing import check_story
from tests.support.archives import arrays

PACKAGE = Path(__file__).parents[1] / "support" / "example_package"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the package installed, as pip installs it."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(PACKAGE, folder / "source")  # a build leaves files behind
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(folder / "site"), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def installed(site, monkeypatch):
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("waiting_times", None)


@pytest.fixture
def times(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 2
    x = rng.gamma(2.0, np.where(y[:, None] == 1, [10.0, 0.5, 4.0], [0.5, 10.0, 4.0]))
    np.savez(tmp_path / "times.npz", x=x, y=y)
    return tmp_path / "times.npz"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert stop.value.code == 0, printed.err
    return printed.out


def test_without_the_package_there_is_no_such_story():
    assert "waiting-times" not in story_names()
    with pytest.raises(ValueError, match="no story is named 'waiting-times'"):
        story_class("waiting-times")


def test_it_goes_through_every_command_by_its_name(installed, times, tmp_path, capsys):
    assert "A mixture of Gamma-distributed waiting times." in run(capsys, "stories")
    data, ours, theirs = ("--data", times), tmp_path / "gmm", tmp_path / "waiting"
    fit = ("--clusters", 2, "--epochs", 40, "--learning-rate", 0.2, "--set", "shape=2.0", "--restarts", 2)
    run(capsys, "fit", "waiting-times", *data, "--out", theirs, *fit)
    run(capsys, "fit", "gmm", *data, "--out", ours, "--clusters", 2)
    run(capsys, "evaluate", theirs, *data, "--json", tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text())["accuracy"] > 0.9
    run(capsys, "compare", ours, theirs, *data, "--json", tmp_path / "table.json")
    rows = json.loads((tmp_path / "table.json").read_text())["stories"]
    assert {row["run"] for row in rows} == {"gmm", "waiting"}
    assert max(row["difference"] for row in rows) == 0, "both are densities of the same rows, and ranked"
    assert all(np.isfinite(row["difference"]) for row in rows)
    run(capsys, "sample", theirs, "-n", 20, "--cluster", 1, "--out", tmp_path / "draws.npz")
    draws = arrays(tmp_path / "draws.npz")
    assert (draws["cluster"] == 1).all()
    assert draws["times"].shape == (20, 3)
    assert (draws["times"] > 0).all()
    run(capsys, "report", theirs, "--out", tmp_path / "page.html", "--particles", 1)


def test_it_is_a_story_like_ours_in_python(installed, times, tmp_path):
    x = arrays(times)["x"]
    story = story_class("waiting-times")(3, 2)
    assert type(story).__module__ == "waiting_times"
    pc.fit(story, x, epochs=2, progress=False)
    pc.save(story, tmp_path / "story")
    assert type(pc.load(tmp_path / "story")) is type(story)
    mixture = pc.DeepMixture("waiting-times", n_clusters=2, story_arguments={"shape": 3.0}, epochs=1, random_state=0)
    assert mixture.fit_predict(x).shape == (90,)
    assert pc.modes(story).shape == (2, 3)
    assert (pc.impute(story, [[1.0, np.nan, 2.0]], draws=5).x > 0).all()
    assert pc.predictive_check(story, x, permutations=9)["p_value"].notna().all()


def test_its_author_runs_the_contract_suite(installed, times):
    story = story_class("waiting-times")
    assert check_story(lambda: story(3, 2), arrays(times)["x"][:40]) == {}
