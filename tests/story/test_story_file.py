"""Stories in files of their own: loaded once for each text, and pickled so that they load where the file is not."""

from __future__ import annotations

import pickle
import subprocess
import sys

import cloudpickle
import joblib
import numpy as np
import pytest
import torch

import probclust as pc
from probclust.story.registry import story_class

STORY = """
import pyro, torch
import pyro.distributions as dist
from probclust import Story

class Poissons(Story):
    def __init__(self, n_features, n_clusters):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.log_rate = torch.nn.Parameter(torch.randn(n_clusters, n_features))
    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", dist.Poisson(self.log_rate[k].exp()).to_event(1), obs=x)
    def guide(self, x):
        pass
"""
ELSEWHERE = """
import pickle, joblib, torch
import numpy as np
x, p = np.load("x.npy"), np.load("p.npy")
for model in (pickle.load(open("model.pkl", "rb")), joblib.load("model.joblib"), pickle.load(open("model.cpkl", "rb"))):
    np.testing.assert_array_equal(model.predict_proba(x), p)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(x), p)
torch.load("story.pt", weights_only=False)
try:
    model.fit(x)
except FileNotFoundError as error:
    print(error)
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "poissons.py"
    path.write_text(STORY)
    return path


def fitted(path):
    x = np.random.default_rng(0).poisson(3.0, (40, 3)).astype(float)
    return pc.DeepMixture(f"{path}:Poissons", n_clusters=2, epochs=1, random_state=0).fit(x), x


def test_a_pickled_estimator_loads_in_a_process_without_the_file(path, tmp_path):
    model, x = fitted(path)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    (tmp_path / "model.cpkl").write_bytes(cloudpickle.dumps(model))
    joblib.dump(model, tmp_path / "model.joblib")
    torch.save(model.story_, tmp_path / "story.pt")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "p.npy", model.predict_proba(x))
    path.unlink()
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"no file {path}; expected path/to/file.py:Class\n"


def test_what_the_file_imports_must_be_there(path, tmp_path, monkeypatch):
    (tmp_path / "rates_of_ours.py").write_text("rate = 1.0")
    path.write_text(f"from rates_of_ours import rate\n{STORY}")
    monkeypatch.syspath_prepend(tmp_path)
    kept = pickle.dumps(fitted(path)[0])
    (tmp_path / "rates_of_ours.py").unlink()
    monkeypatch.delitem(sys.modules, "rates_of_ours")
    monkeypatch.setattr("probclust.story.story_file._loaded", {})  # as in another process
    with pytest.raises(ImportError, match=r"'Poissons' of .*No module named 'rates_of_ours'.*on Python's path"):
        pickle.loads(kept)


def test_two_fits_share_a_class_and_an_edited_file_gives_another(path):
    one = story_class(f"{path}:Poissons")
    assert story_class(f"{path}:Poissons") is one
    model, x = fitted(path)
    path.write_text(STORY.replace("torch.randn", "torch.rand"))
    other = story_class(f"{path}:Poissons")
    assert other is not one
    again = pickle.loads(pickle.dumps(model))
    assert type(again.story_) is one
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_files_of_one_name_in_two_folders_are_kept_apart(path, tmp_path):
    (tmp_path / "other").mkdir()
    second = tmp_path / "other" / path.name
    second.write_text(STORY.replace("n_clusters, n_features))", "n_clusters, n_features) + 5)"))
    one, other = story_class(f"{path}:Poissons"), story_class(f"{second}:Poissons")
    for cls in (one, other):
        assert pickle.loads(pickle.dumps(cls)) is cls


def test_a_file_in_another_encoding_is_refused_by_name(path):
    path.write_bytes("name = 'M\xfcller'\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"poissons\.py cannot be read as Python: .* save it in UTF-8"):
        story_class(f"{path}:Poissons")
