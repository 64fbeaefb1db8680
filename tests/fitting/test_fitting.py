"""`fit`: reproducible, resumable from any step, honest about what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import nn

import probclust as pc
from probclust.fitting import loop as fit_loop
from probclust.fitting.trainer import derived_seed
from probclust.story.recipe import Batch, Run
from tests.support.stopping import stopped_after

pytestmark = pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")

SMALL = {"hidden": (16,), "latent_dim": 2}
QUICK = {"pretrain_epochs": 2, "fit_epochs": 2, "epochs": 3}


def three_blobs(n: int = 150, n_features: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(3, n_features))
    return (centres[rng.integers(3, size=n)] + 0.5 * rng.normal(size=(n, n_features))).astype(np.float32)


def noise(n: int = 150, n_features: int = 4) -> np.ndarray:
    """Rows without clusters: where k-means cuts them depends on every weight of the encoder before it."""
    return np.random.default_rng(0).normal(size=(n, n_features)).astype(np.float32)


def same_weights(a: pc.Story, b: pc.Story) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class PlainMixture(pc.Story):
    """A diagonal Gaussian mixture without a recipe."""

    def __init__(self, n_features: int, n_clusters: int) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))

    def model(self, x: torch.Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", dist.Normal(self.loc[k], 1.0).to_event(1), obs=x)

    def guide(self, x: torch.Tensor) -> None:
        pass


class ExplodesAt(PlainMixture):
    """Gives NaN as soon as its first mean exceeds a limit."""

    limit = 0.5

    def model(self, x: torch.Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            broken = torch.where(self.loc[0, 0] > self.limit, float("nan"), 0.0)
            pyro.sample("x", dist.Normal(self.loc[k] + broken, 1.0, validate_args=False).to_event(1), obs=x)


@pytest.mark.parametrize("story", [pc.models.VaDE, pc.models.MixtureOfVAEs])
def test_one_seed_gives_one_result_whatever_the_callers_random_state(story: type[pc.Story]) -> None:
    x = three_blobs()
    fitted = []
    for ambient in (1, 2):
        torch.manual_seed(ambient)
        one = story(4, 3, **SMALL)
        before = torch.get_rng_state()
        pc.fit(one, x, seed=7, recipe=QUICK)
        assert torch.equal(before, torch.get_rng_state())
        fitted.append(one)
    assert same_weights(*fitted)
    other = story(4, 3, **SMALL)
    pc.fit(other, x, seed=8, recipe=QUICK)
    assert not same_weights(fitted[0], other)
    assert not pyro.get_param_store().keys()


def test_plain_svi_starts_from_the_weights_it_is_given() -> None:
    x = three_blobs()
    torch.manual_seed(0)
    story = PlainMixture(4, 3)
    with torch.no_grad():
        story.loc.copy_(torch.as_tensor(x[:3]))
    record = pc.fit(story, x, epochs=1, learning_rate=1e-9)
    torch.testing.assert_close(story.loc.detach(), torch.as_tensor(x[:3]), atol=1e-6, rtol=0)
    assert [entry["step"] for entry in record.history] == ["svi"]


def test_fit_does_as_well_as_em_on_a_gaussian_mixture() -> None:
    from sklearn.mixture import GaussianMixture

    x = three_blobs(300)
    reference = GaussianMixture(3, covariance_type="spherical", n_init=5, random_state=0).fit(x)
    centres = torch.as_tensor(reference.means_, dtype=torch.float32)
    torch.manual_seed(3)
    story = PlainMixture(4, 3)
    record = pc.fit(story, x, n_init=4, epochs=150, learning_rate=0.05)
    assert len(record.bounds) == 4
    assert record.bound == max(record.bounds)
    distance = torch.cdist(story.loc.detach(), centres)
    assert distance.min(0).values.max() < 0.15


def test_the_loss_is_in_nats_per_row_and_does_not_depend_on_the_batch_size() -> None:
    x = three_blobs(200)
    losses = []
    for batch_size in (200, 50, 7):
        story = PlainMixture(4, 3)
        with torch.no_grad():
            story.loc.zero_()
        record = pc.fit(story, x, epochs=1, learning_rate=1e-12, batch_size=batch_size)
        losses.append(record.losses()[0])
    exact = 0.5 * (x**2).sum(1).mean() + 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(losses, exact, rtol=1e-5)


def test_restarts_keep_the_best_bound_and_the_story_has_its_weights(tmp_path: Path) -> None:
    x = three_blobs()
    story = PlainMixture(4, 3)
    record = pc.fit(story, x, n_init=3, epochs=20, learning_rate=0.05, checkpoint=tmp_path / "fit")
    assert record.bounds[record.restart] == max(record.bounds)
    assert float(pc.elbo(story, x).mean()) == pytest.approx(record.bound, abs=1e-5)
    assert record.assignments is not None
    assert record.assignments.shape == (3, 150)
    assert torch.equal(record.assignments[record.restart], pc.predict(story, x))
    again = pc.fit(story, x, n_init=3, epochs=20, learning_rate=0.05, checkpoint=tmp_path / "fit", resume=True)
    assert torch.equal(again.assignments, record.assignments)
    assert "assignments" not in record.to_json()


@pytest.mark.parametrize("objective", ["exact", "hard", "amortised", "importance"])
def test_every_objective_fits(objective: str) -> None:
    x = three_blobs()
    story = pc.models.MixtureOfVAEs(4, 3, **SMALL)
    record = pc.fit(story, x, objective=objective, recipe=[pc.SVI(epochs=8, learning_rate=1e-2)])
    assert record.losses()[-1] < record.losses()[0]


def test_pyros_own_elbo_fits_too() -> None:
    class Marked(PlainMixture):
        @config_enumerate
        def model(self, x: torch.Tensor) -> None:
            super().model(x)

    x = three_blobs()
    torch.manual_seed(0)
    story = Marked(4, 3)
    again = Marked(4, 3)
    again.load_state_dict(story.state_dict())
    theirs = pc.fit(story, x, objective=TraceEnum_ELBO(max_plate_nesting=1), epochs=3)
    ours = pc.fit(again, x, objective="exact", epochs=3)
    np.testing.assert_allclose(theirs.losses(), ours.losses(), rtol=1e-5)
    torch.testing.assert_close(story.loc, again.loc, rtol=1e-4, atol=1e-5)


def test_known_clusters_name_the_clusters() -> None:
    blobs = pc.data.blobs(n_rows=120, n_features=3, n_clusters=3, separation=8.0, seed=1)
    x, named = blobs.x, (np.asarray(blobs.y) + 1) % 3  # another numbering than any start would find
    partly = np.where(np.arange(len(named)) < 30, named, -1)
    longer = {"pretrain_epochs": 20, "fit_epochs": 20, "epochs": 5}
    for story, recipe in ((pc.models.GaussianMixture(3, 3), None), (pc.models.VaDE(3, 3, **SMALL), longer)):
        pc.fit(story, x, partly, recipe=recipe)
        assert (pc.predict(story, x).numpy() == named).mean() > 0.9


# Stopping and resuming

STOP_AND_RESUME = """
import sys
import torch
import probclust as pc
from probclust.fitting import checkpoint
sys.path.insert(0, {root!r})
from tests.fitting.test_fitting import QUICK, SMALL, noise

checkpoint.Checkpoint.interval = 0.0
torch.set_num_threads(1)
story = pc.models.MixtureOfVAEs(4, 3, **SMALL)
pc.fit(story, noise(), seed=3, n_init=2, recipe=QUICK, checkpoint={path!r}, resume=True)
"""


class Stop(Exception):
    pass


def stopping_fit(path: Path | None, *, after: float, resume: bool = False, error: type = Stop) -> tuple[pc.Story, int]:
    """Fit with two restarts; raise `error` inside the model after some calls; the story and the number of calls."""
    torch.manual_seed(99)
    story = pc.models.MixtureOfVAEs(4, 3, **SMALL)
    calls = 0
    inner = story.model

    def model(x: torch.Tensor) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error
        inner(x)

    story.model = model  # type: ignore[method-assign]
    pc.fit(story, noise(), seed=3, n_init=2, recipe=QUICK, checkpoint=path, resume=resume, batch_size=32)
    return story, calls


@pytest.fixture(scope="module")
def unbroken() -> tuple[pc.Story, int]:
    return stopping_fit(None, after=np.inf)


@pytest.mark.xdist_group("stopping")
@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_a_fit_stopped_anywhere_resumes_to_the_same_end(
    tmp_path: Path, unbroken: tuple[pc.Story, int], share: float, error: type
) -> None:
    story, calls = unbroken
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(error):
        stopping_fit(path, after=int(share * calls), error=error)
    resumed, _ = stopping_fit(path, after=np.inf, resume=True)
    assert same_weights(story, resumed)


@pytest.mark.xdist_group("stopping")
@pytest.mark.parametrize("number", range(1, 14, 2))
def test_a_fit_stopped_in_any_epoch_of_any_step_resumes_to_the_same_end(
    tmp_path: Path, unbroken: tuple[pc.Story, int], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    monkeypatch.setattr(fit_loop, "SNAPSHOT_SECONDS", 0.0)
    with stopped_after(number + 1, monkeypatch):
        stopping_fit(path, after=np.inf)
    resumed, _ = stopping_fit(path, after=np.inf, resume=True)
    assert same_weights(unbroken[0], resumed)


@pytest.mark.timeout(120)
def test_a_killed_fit_resumes_to_the_same_end(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    script = STOP_AND_RESUME.format(root=str(Path(__file__).parents[2]), path=str(path))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    kills = 0
    for wait in (0.05, 0.3):
        before = path.stat().st_mtime_ns if path.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", script], env=environment)
        while process.poll() is None and (not path.exists() or path.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(wait)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills
    torch.manual_seed(5)
    resumed = pc.models.MixtureOfVAEs(4, 3, **SMALL)
    pc.fit(resumed, noise(), seed=3, n_init=2, recipe=QUICK, checkpoint=path, resume=True)
    unbroken = pc.models.MixtureOfVAEs(4, 3, **SMALL)
    pc.fit(unbroken, noise(), seed=3, n_init=2, recipe=QUICK)
    assert same_weights(resumed, unbroken)


@pytest.mark.parametrize(("least", "epochs"), [(0, 2), (4, 2), (7, 4)])
def test_a_step_is_as_long_as_its_epochs_and_its_least_number_of_steps_ask(least: int, epochs: int) -> None:
    step = pc.SVI(epochs=2, min_steps=least, batch_size=5)
    record = pc.fit(pc.models.GaussianMixture(2, 2), np.random.default_rng(0).normal(size=(10, 2)), recipe=[step])
    assert len(record.history) == epochs


def test_epochs_that_fit_is_asked_for_are_those_that_it_runs() -> None:
    step = pc.SVI(min_steps=70, batch_size=5)
    record = pc.fit(
        pc.models.GaussianMixture(2, 2), np.random.default_rng(0).normal(size=(10, 2)), recipe=[step], epochs=3
    )
    assert len(record.history) == 3


@pytest.mark.parametrize(("least", "epochs"), [(0, 1000), (4000, 2000)])
def test_a_step_without_epochs_takes_100_and_2000_steps_or_its_own_least(least: int, epochs: int) -> None:
    step = pc.SVI(min_steps=least)
    assert [step.n_epochs(n) for n in (2, 1000)] == [epochs, 100]


@pytest.mark.parametrize("least", [-3, 2.5, "many"])
def test_a_least_number_of_steps_is_a_count(least: Any) -> None:
    with pytest.raises(ValueError, match="min_steps must be an integer of at least 0, got"):
        pc.SVI(min_steps=least)


@pytest.mark.parametrize("epochs", [0, -1, 2.5, "many"])
def test_epochs_are_a_count(epochs: Any) -> None:
    with pytest.raises(ValueError, match="epochs must be an integer of at least 1 or None, got"):
        pc.SVI(epochs=epochs)
    assert pc.SVI(epochs=np.int64(3)).n_epochs(10) == 3


def test_resuming_a_finished_fit_gives_its_result_at_once(tmp_path: Path) -> None:
    path, x = tmp_path / "c.safetensors", three_blobs()
    story, again = PlainMixture(4, 3), PlainMixture(4, 3)
    first = pc.fit(story, x, epochs=3, checkpoint=path)
    second = pc.fit(again, x, epochs=3, checkpoint=path, resume=True)
    assert same_weights(story, again)
    assert first.bounds == second.bounds
    assert first.history == second.history


def test_a_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    path, x = tmp_path / "c.safetensors", three_blobs()
    pc.fit(PlainMixture(4, 3), x, epochs=3, checkpoint=path)
    kept = path.read_bytes()
    with pytest.raises(ValueError, match=r"another fit \(seed: expected 0, got 1\)"):
        pc.fit(PlainMixture(4, 3), x, epochs=3, seed=1, checkpoint=path, resume=True)
    with pytest.raises(ValueError, match=r"another fit .*data: expected"):
        pc.fit(PlainMixture(4, 3), x + 1, epochs=3, checkpoint=path, resume=True)
    assert path.read_bytes() == kept


def test_an_unfinished_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(Stop):
        stopping_fit(path, after=15)
    with pytest.raises(FileExistsError, match="resume=True"):
        stopping_fit(path, after=np.inf)


def test_resume_needs_a_checkpoint() -> None:
    with pytest.raises(ValueError, match="checkpoint="):
        pc.fit(PlainMixture(4, 3), three_blobs(), resume=True)


# What goes wrong


def test_a_nan_names_step_epoch_and_site_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    x = three_blobs() + 5
    path = tmp_path / "c.safetensors"
    story = ExplodesAt(4, 2)
    with torch.no_grad():
        story.loc.fill_(0.1)
    with pytest.raises(pc.NonFiniteError, match=r"step 'svi', epoch \d+, batch \d+: .*site 'x' of the model"):
        pc.fit(story, x, epochs=200, learning_rate=0.05, checkpoint=path)
    assert story.loc[0, 0] <= story.limit
    assert torch.isfinite(pc.log_joint(story, x)).all()
    from probclust.story.archive import read_archive

    tensors, facts = read_archive(path, "checkpoint")
    assert torch.isfinite(tensors["state.0.loc"]).all()
    assert facts["position"]["step"] == 0


def test_a_gradient_that_is_nan_is_named_by_its_parameter() -> None:
    class Rooted(PlainMixture):
        def model(self, x: torch.Tensor) -> None:
            with pyro.plate("data", len(x)):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
                pyro.sample("x", dist.Normal(self.loc[k].abs().sqrt(), 1.0).to_event(1), obs=x)

    story = Rooted(4, 2)
    with torch.no_grad():
        story.loc.zero_()
    with pytest.raises(pc.NonFiniteError, match=r"gradient of parameter '0\.loc'"):
        pc.fit(story, three_blobs(), epochs=3)


def test_clusters_that_empty_or_merge_are_warned_of() -> None:
    x = three_blobs()
    story = PlainMixture(4, 3)
    with torch.no_grad():
        story.loc.copy_(torch.tensor([[0.0] * 4, [100.0] * 4, [-100.0] * 4]))
    with pytest.warns(pc.FitWarning, match="merged into cluster 0"):
        pc.fit(story, x, epochs=1, learning_rate=1e-6)
    with torch.no_grad():
        story.loc.copy_(torch.as_tensor(np.stack([x[0], x[1], x[0] + 200])))
    with pytest.warns(pc.FitWarning, match=r"clusters \[2\] hold less than one row"):
        pc.fit(story, x, epochs=1, learning_rate=1e-6)


def test_the_monitor_sees_each_term_of_the_bound() -> None:
    x = three_blobs()
    story = pc.models.VaDE(4, 3, **SMALL)
    last = pc.fit(story, x, recipe=[pc.SVI(epochs=2, learning_rate=1e-3)]).history[-1]
    assert set(last["terms"]) == {"log p(cluster)", "log p(z)", "log p(x)", "-log q(z)"}
    assert sum(last["occupancy"]) == pytest.approx(1, abs=1e-4)
    # exact bound = expected log joint under the responsibilities + their entropy
    assert sum(last["terms"].values()) + last["entropy"] == pytest.approx(-last["loss"], rel=1e-4)


def test_patience_stops_on_the_objective() -> None:
    x = three_blobs()
    story = PlainMixture(4, 3)
    record = pc.fit(story, x, recipe=[pc.SVI(epochs=500, learning_rate=0.1, schedule="constant", patience=5)])
    losses = record.losses()
    assert 6 <= len(losses) < 500
    assert min(losses[-5:]) > min(losses[:-5]) - 1e-3


@dataclass(frozen=True, kw_only=True)
class Watching(pc.SVI):
    """Remembers the rows of each batch, and the story's means after it."""

    seen: list[tuple[list[int], torch.Tensor]] = field(default_factory=list)

    def after(self, batch: Batch) -> None:
        assert torch.equal(batch.x, batch.run.x[batch.index])
        self.seen.append((batch.index.tolist(), batch.run.story.loc.detach().clone()))


def test_a_step_acts_after_each_batch_once_its_weights_have_moved() -> None:
    story, step = PlainMixture(4, 3), Watching(epochs=2, batch_size=50, learning_rate=0.1)
    before = story.loc.detach().clone()
    pc.fit(story, three_blobs(), recipe=[step])
    assert len(step.seen) == 6
    for epoch in (step.seen[:3], step.seen[3:]):
        assert sorted(row for rows, _ in epoch for row in rows) == list(range(150))
    means = [before, *(loc for _, loc in step.seen)]
    assert not any(torch.equal(*pair) for pair in pairwise(means))
    assert torch.equal(means[-1], story.loc)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be"),
        ({"n_init": 0}, "n_init must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"objective": "nonsense"}, "objective must be one of"),
        ({"device": "tpu"}, "device must be"),
        ({"recipe": []}, "at least one step"),
        ({"recipe": [pc.SVI(), pc.SVI()]}, "names that differ"),
        ({"recipe": [pc.SVI(to_start=True)]}, "warm start"),
        ({"y": np.full(150, 7)}, "7"),
        ({"y": np.zeros(3, dtype=int)}, "3"),
    ],
)
def test_bad_settings_are_refused_before_any_work(arguments: dict, message: str, tmp_path: Path) -> None:
    story = PlainMixture(4, 3)
    before = {name: value.clone() for name, value in story.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        pc.fit(story, three_blobs(), checkpoint=tmp_path / "c", **arguments)
    assert all(torch.equal(before[name], value) for name, value in story.state_dict().items())
    assert not list(tmp_path.iterdir())


def test_a_step_of_no_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match="pretrain_epochs must be an integer of at least 1, got 0"):
        pc.models.VaDE(4, 3, **SMALL).recipe(pretrain_epochs=0)


def test_a_recipe_of_another_story_is_refused() -> None:
    story, other = (pc.models.VaDE(4, 3, **SMALL) for _ in range(2))
    with pytest.raises(ValueError, match="belongs to another story"):
        pc.fit(story, three_blobs(), recipe=other.recipe(**QUICK))


def test_data_are_checked_at_the_door() -> None:
    with pytest.raises(ValueError, match="n_clusters=3 with 2 rows"):
        pc.fit(PlainMixture(4, 3), three_blobs()[:2])
    with pytest.raises(ValueError, match="NaN"):
        pc.fit(PlainMixture(4, 3), np.where(np.arange(600).reshape(150, 4) == 5, np.nan, three_blobs()))
    with pytest.raises(ValueError, match="expected 4 features"):
        pc.fit(PlainMixture(4, 3), three_blobs(n_features=5))
    with pytest.raises(TypeError, match=r"probclust\.Story"):
        pc.fit(nn.Linear(2, 2), three_blobs())


def test_every_row_is_checked_against_the_likelihood() -> None:
    class Counts(PlainMixture):
        def model(self, x: torch.Tensor) -> None:
            with pyro.plate("data", len(x)):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
                pyro.sample("x", dist.Poisson(self.loc[k].exp()).to_event(1), obs=x)

    counts = np.random.default_rng(0).poisson(3, size=(150, 4)).astype(np.float32)
    pc.fit(Counts(4, 2), counts, epochs=1)
    counts[140, 2] = -1.0
    with pytest.raises(pc.ContractError, match=r"site 'x': the observed value -1.0 lies outside .* Poisson"):
        pc.fit(Counts(4, 2), counts, epochs=1)


def test_derived_seeds_differ() -> None:
    seeds = {derived_seed(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000


def test_fit_leaves_no_warning_behind() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pc.fit(pc.models.VaDE(4, 3, **SMALL), three_blobs(), recipe=QUICK)


class Transformed(pc.models.GaussianMixture):
    def __init__(self, n_features, n_clusters, transform):
        super().__init__(n_features, n_clusters, "diag")
        self.transform = transform


def test_a_story_that_was_given_a_function_can_be_fitted_and_its_record_names_the_function(tmp_path):
    for _ in range(2):  # the second continues the first
        story = Transformed(4, 3, noise)
        record = pc.fit(story, three_blobs(), epochs=1, checkpoint=tmp_path / "fit", resume=True)
    assert "test_fitting:noise" in record.to_json()
    with pytest.raises(TypeError, match="function, which cannot be saved"):
        pc.save(story, tmp_path / "story")


@pytest.mark.parametrize("seed", [None, -1, 1.5, True, "0"])
def test_a_seed_that_is_none_is_refused(seed) -> None:
    with pytest.raises(ValueError, match="seed must be an integer of at least 0"):
        pc.fit(PlainMixture(4, 3), three_blobs(), seed=seed)


def test_wrong_steps_are_refused_at_the_door() -> None:
    story, x = pc.models.VaDE(4, 3, **SMALL), three_blobs()
    before = {name: value.clone() for name, value in story.state_dict().items()}
    for wrong, error, message in (
        ({"learning_rate": -1.0}, ValueError, "learning_rate must be positive, got -1.0"),
        ({"objective": "exacty"}, ValueError, "objective must be one of"),
        ({"recipe": [pc.SVI]}, TypeError, r"such as pc\.SVI\(epochs=10\), got <class"),
        ({"recipe": {"warmth": 3}}, ValueError, r"no argument 'warmth': VaDE\.recipe takes pretraining, "),
    ):
        with pytest.raises(error, match=message):
            pc.fit(story, x, **wrong)
    with pytest.raises(ValueError, match=r"no argument 'warmth': PlainMixture\.recipe takes none"):
        pc.fit(PlainMixture(4, 3), x, recipe={"warmth": 3})
    assert all((value == before[name]).all() for name, value in story.state_dict().items())


def test_a_fit_that_never_trained_leaves_no_checkpoint_in_the_way(tmp_path: Path) -> None:
    story, x, path = pc.models.VaDE(4, 3, **SMALL), three_blobs(), tmp_path / "c.safetensors"
    with pytest.raises(ValueError, match="lengths must be of all"):
        pc.fit(story, x, recipe={**QUICK, "lengths": (3,)}, checkpoint=path)
    assert not path.exists()
    pc.fit(story, x, recipe=QUICK, checkpoint=path)
    with pytest.raises(ValueError, match=r"another fit \(recipe\.epochs: .*; steps\[\d\]\.epochs: .*, got 7\)"):
        pc.fit(story, x, recipe={**QUICK, "epochs": 7}, checkpoint=path, resume=True)


def test_a_fit_that_fails_at_once_leaves_the_checkpoint_of_another(tmp_path: Path) -> None:
    x, path = three_blobs(), tmp_path / "c.safetensors"
    pc.fit(PlainMixture(4, 3), x, epochs=1, checkpoint=path)
    before = path.read_bytes()

    def fail(run: Run) -> None:
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        pc.fit(PlainMixture(4, 3), x, recipe=[pc.Compute(name="fail", run=fail), pc.SVI(epochs=1)], checkpoint=path)
    assert path.read_bytes() == before


def test_a_cluster_that_lost_its_rows_is_warned_of():
    """Three clusters start with rows; a step then makes one unlikely, though over the epoch before it had a share."""
    x = torch.cat([torch.randn(40, 2) + 6 * k for k in range(3)])
    story = pc.models.GaussianMixture(2, 3)

    def leave(run):
        run.memory["start"] = torch.arange(3).repeat_interleave(40)
        with torch.no_grad():
            run.story.loc.copy_(torch.tensor([[0.0, 0], [6, 6], [99, 99]]))

    steps = [pc.SVI(epochs=100, learning_rate=1e-6), pc.Compute(name="leave", run=leave)]
    with pytest.warns(pc.FitWarning, match=r"clusters \[2\] lost all rows that they started with"):
        pc.fit(story, x, recipe=steps, progress=False)


def test_a_checkpoint_of_other_frozen_parameters_is_refused(tmp_path):
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))

    def run(frozen=None, resume=True):
        story = pc.models.GaussianMixture(2, 2)
        if frozen is not None:
            story.loc.requires_grad_(False).copy_(torch.tensor([[frozen, 0.0], [0.0, 1.0]]))
        pc.fit(story, x, recipe=[pc.SVI(epochs=1)], checkpoint=tmp_path / "c", resume=resume)
        return story.loc.tolist()

    run(1.0, resume=False)
    assert run(1.0) == [[1.0, 0.0], [0.0, 1.0]]
    for frozen in (2.0, None):
        with pytest.raises(ValueError, match=r"checkpoint of another fit \(frozen"):
            run(frozen)
