"""Places that cannot be written to are refused before any work, by their path and in the words of one function."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

import probclust as pc
from probclust.cli.main import main
from probclust.data.writing import check_writable

X = torch.rand(30, 4, generator=torch.Generator().manual_seed(0))


def gmm():
    return pc.models.GaussianMixture(4, 2)


@pytest.fixture
def places(tmp_path):
    """Paths that cannot be written to, by what stands in their way."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    return {
        "file": (
            tmp_path / "file" / "below" / "a.html",
            NotADirectoryError,
            r"file is a file, not a folder; give another",
        ),
        "folder": (tmp_path / "folder", IsADirectoryError, "folder is a folder; expected the path of a file"),
        "proc": (
            tmp_path.__class__("/proc/nothing/a.html"),
            OSError,
            r"cannot be written in /proc \(.*\); give another",
        ),
    }


def test_a_place_is_tried_and_left_as_it_was(tmp_path):
    check_writable(tmp_path / "new" / "er" / "a.html")
    check_writable(tmp_path / ("n" * 300)[:240])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "folder", "proc"])
def test_no_fit_begins_whose_checkpoint_could_not_be_written(places, kind):
    path, error, words = places[kind]
    story = gmm()
    before = {name: value.clone() for name, value in story.state_dict().items()}
    with pytest.raises(error, match=f"checkpoint .*{words}"):
        pc.fit(story, X, epochs=1, checkpoint=path)
    assert all(torch.equal(value, before[name]) for name, value in story.state_dict().items())


@pytest.mark.parametrize("kind", ["file", "folder", "proc"])
def test_save_names_the_path(places, kind):
    path, error, words = places[kind]
    with pytest.raises(error, match=words):
        pc.save(gmm(), path)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    np.savez(folder / "x.npz", x=X.numpy(), y=np.arange(30) % 2)
    with pytest.raises(SystemExit):
        main(["fit", "gmm", "--data", str(folder / "x.npz"), "--out", str(folder / "gmm"), "--clusters", "2"])
    return folder


COMMANDS = {
    "fit": ["fit", "gmm", "--data", "{data}", "--clusters", "2", "--out", "{path}"],
    "sample": ["sample", "{run}", "-n", "3", "--out", "{path}.csv"],
    "report": ["report", "{run}", "--out", "{path}.html"],
    "evaluate": ["evaluate", "{run}", "--data", "{data}", "--json", "{path}"],
    "compare": ["compare", "{run}", "--data", "{data}", "--json", "{path}"],
    "demo": ["demo", "--out", "{path}"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", ["file", "proc"])
def test_no_command_works_in_vain(run_folder, places, place, command, monkeypatch, capsys):
    def reads(*_, **__):
        raise AssertionError("work was begun")

    for work in (
        "probclust.cli.source.read_source",
        "probclust.sample",
        "probclust.fit",
        "probclust.cli.demonstration.write_data",
    ):
        monkeypatch.setattr(work, reads)
    path = places[place][0]
    words = [w.format(data=run_folder / "x.npz", run=run_folder / "gmm", path=path) for w in COMMANDS[command]]
    with pytest.raises(SystemExit) as stop:
        main(words)
    said = capsys.readouterr().err
    assert stop.value.code == 2, said
    assert "cannot be written" in said
    assert str(path) in said
