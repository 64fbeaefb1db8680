"""Restarts side by side: the same to the last bit as in turn, or refused."""

from __future__ import annotations

import importlib
import threading
import warnings
from typing import Any

import numpy as np
import psutil
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import probclust as pc
from probclust.fitting.trainer import derived_seed
from probclust.progress import Progress
from tests.support.stopping import stopped_after

FEW = {"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 2}
SMALL: dict[str, Any] = {"hidden": (6,), "latent_dim": 2}


@pytest.fixture(autouse=True)
def one_thread():
    """As the processes have on two cores, which the last bits depend on."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows(n=60):
    return torch.as_tensor(pc.data.blobs(n_rows=n, n_features=4, n_clusters=3, seed=1).x)


def built(make):
    torch.manual_seed(0)
    return make()


def fitted(make, x, **options):
    """A story fitted under seed 3, its record, and what it warned of."""
    story = built(make)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record = pc.fit(story, x, seed=3, **options)
    return story, record, [(w.category, str(w.message)) for w in caught if issubclass(w.category, pc.FitWarning)]


def without_times(history):
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in history]


def check_same(one, other):
    (story, record, told), (again, beside, told_beside) = one, other
    assert story.state_dict().keys() == again.state_dict().keys()
    for name, value in story.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert beside.bounds == record.bounds
    assert beside.restart == record.restart
    assert beside.settings == record.settings
    assert torch.equal(beside.assignments, record.assignments)
    assert without_times(beside.history) == without_times(record.history)
    assert beside.memory.keys() == record.memory.keys()
    assert all(torch.equal(value, beside.memory[name]) for name, value in record.memory.items())
    assert told_beside == told


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "gmm": (lambda: pc.models.GaussianMixture(4, 3), {"epochs": 2}),
    "vade": (lambda: pc.models.VaDE(4, 3, **SMALL), {"recipe": FEW}),
    "known clusters": (lambda: pc.models.VaDE(4, 3, **SMALL), {"recipe": FEW, "y": torch.arange(60) % 4 - 1}),
    "dec": (lambda: pc.models.DEC(4, 3, **SMALL), {"recipe": {"pretrain_epochs": 1, "epochs": 2}}),
    "mixture of vaes": (
        lambda: pc.models.MixtureOfVAEs(4, 3, **SMALL),
        {"recipe": {"pretrain_epochs": 1, "epochs": 2}},
    ),
    "staged": (lambda: pc.models.VaDE(4, 3, **SMALL), {"recipe": FEW, "engine": "staged"}),
}


@pytest.mark.parametrize("case", CASES)
def test_jobs_change_no_result(case):
    make, options = CASES[case]
    options = {"n_init": 3, "batch_size": 32, **options}
    check_same(fitted(make, rows(), **options), fitted(make, rows(), jobs=2, **options))


class Means(pc.Story):
    def __init__(self, n_features, n_clusters, extra=None):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))
        self.register_buffer("scale", torch.ones(()))
        self.extra = extra

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", dist.Normal(self.loc[k], self.scale).to_event(1), obs=x)

    def guide(self, x):
        pass


def drifting(*failing):
    """Steps that change what is given, and that fail in the restarts of those numbers."""
    seeds = [derived_seed(3, number) if number else 3 for number in failing]

    def drift(run):
        run.story.scale.add_(0.5)
        if run.seed in seeds:
            raise pc.NonFiniteError("broken on purpose")

    return [pc.Compute(name="drift", run=drift), pc.SVI(epochs=3, learning_rate=0.1)]


def means():
    return Means(4, 3)


def test_old_paths_that_were_imported_do_not_stand_in_the_way():
    with pytest.warns(DeprecationWarning, match="has moved"):
        importlib.reload(importlib.import_module("probclust.scale"))  # cloudpickle sends it with what says `scale`
    check_same(*(fitted(means, rows(), n_init=2, recipe=drifting(), jobs=jobs) for jobs in (None, 2)))


def test_a_restart_that_fails_leaves_the_others():
    options = {"n_init": 4, "recipe": drifting(0, 2)}
    one, other = fitted(means, rows(), **options), fitted(means, rows(), jobs=2, **options)
    check_same(one, other)
    assert [text[:21] for _, text in other[2]] == ["restart 1 of 4 failed", "restart 3 of 4 failed"]


def test_where_all_fail_the_first_error_is_raised():
    with pytest.warns(pc.FitWarning), pytest.raises(pc.NonFiniteError, match="broken on purpose"):
        pc.fit(means(), rows(), seed=3, n_init=2, jobs=2, recipe=drifting(0, 1))


def test_frozen_parameters_stay():
    def frozen():
        story = Means(4, 3)
        story.loc.requires_grad_(False)
        story.scale = nn.Parameter(torch.full((), 2.0))
        return story

    check_same(*(fitted(frozen, rows(), n_init=2, epochs=2, jobs=jobs) for jobs in (None, 2)))


def test_stored_rows_are_sent(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", rows().numpy())
    monkeypatch.setattr("probclust.data.stored.RESIDENT_BYTES", 16)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    check_same(*(fitted(means, mapped, n_init=2, epochs=2, jobs=jobs) for jobs in (None, 2)))


def test_a_fit_that_was_stopped_goes_on_side_by_side(tmp_path, monkeypatch):
    options = {"n_init": 3, "recipe": drifting()}
    whole = fitted(means, rows(), **options)
    with stopped_after(5, monkeypatch):  # within the second restart
        fitted(means, rows(), checkpoint=tmp_path / "fit", **options)
    check_same(whole, fitted(means, rows(), checkpoint=tmp_path / "fit", resume=True, jobs=2, **options))


class Stopping(Progress):
    """Ctrl-C after the first restart."""

    def advance(self, loss=None):
        raise KeyboardInterrupt


def test_ctrl_c_leaves_the_best_that_ended_and_the_rest_in_the_checkpoint(tmp_path):
    options = {"n_init": 3, "recipe": drifting()}
    first, whole = fitted(means, rows(), recipe=drifting()), fitted(means, rows(), **options)
    torch.manual_seed(0)
    story = means()
    with pytest.raises(KeyboardInterrupt):
        pc.fit(story, rows(), seed=3, jobs=2, progress=Stopping(), checkpoint=tmp_path / "fit", **options)
    assert not [child for child in psutil.Process().children() if "popen_loky" in " ".join(child.cmdline())]
    assert torch.equal(story.loc, first[0].loc)
    check_same(whole, fitted(means, rows(), checkpoint=tmp_path / "fit", resume=True, **options))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"jobs": 0}, "jobs must be"),
        ({"jobs": 2, "devices": 2}, "jobs=2 runs restarts in processes of one device each"),
    ],
)
def test_what_cannot_go_together_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        pc.fit(means(), rows(), n_init=2, **options)


def test_a_story_that_cannot_be_pickled_is_refused_before_any_work():
    story = Means(4, 3, threading.Lock())
    before = story.loc.clone()
    with pytest.raises(ValueError, match=r"Means cannot be sent to another process \(.*lock.*leave jobs out"):
        pc.fit(story, rows(), n_init=2, jobs=2)
    assert torch.equal(story.loc, before)
