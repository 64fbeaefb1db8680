"""Staged steps: what eager ones give, from graphs; what cannot be staged is found and named."""

from __future__ import annotations

import inspect
import logging
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import probclust as pc
from probclust.data.stored import StoredRows
from probclust.data.tables import ArrayTable
from probclust.fitting.devices.group import Devices, fabric_for
from probclust.fitting.engine import staged as staging
from probclust.fitting.engine.eager import LARGE, chosen_engine
from probclust.fitting.trainer import Trainer
from probclust.story.recipe import Batch, Run, Train
from probclust.story.registry import story_class, story_names
from tests.support.stories import CASE_NAMES, CASES

pytestmark = pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")

X = torch.as_tensor(np.random.default_rng(0).normal(size=(22, 4)).astype(np.float32)).sigmoid()


def trained(story: pc.Story, step: Train, engine: str, x: torch.Tensor = X, epochs: int = 3, run: Run | None = None):
    """The story after some epochs of two batches of 11 rows, what the epochs told, and the trainer."""
    trainer = Trainer(story, [step], devices=Devices(fabric_for("cpu")), batch_size=11, engine=engine)
    trainer.start(step, run or Run(story, x, None, 0))
    return story, [trainer.epoch(number, number) for number in range(epochs)], trainer


def both(build, step=None, **arguments):
    """The same training by both engines, from the same weights."""
    outcomes = []
    for engine in ("eager", "staged"):
        torch.manual_seed(0)
        story = build()
        outcomes.append(trained(story, step or pc.SVI(learning_rate=0.01), engine, **arguments))
    return outcomes


def assert_same(eager, staged, is_staged: bool = True) -> None:
    (one, told, _), (other, told_too, trainer) = eager, staged
    assert trainer.runs.gave_up is not is_staged
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, msg=lambda text, name=name: f"{name}: {text}")
    for entry, entry_too in zip(told, told_too, strict=True):
        assert entry.keys() == entry_too.keys()
        assert entry_too["loss"] == pytest.approx(entry["loss"], rel=1e-5)
        if "terms" in entry:
            assert entry_too["terms"] == pytest.approx(entry["terms"], rel=1e-4, abs=1e-5)
            assert entry_too["occupancy"] == pytest.approx(entry["occupancy"], rel=1e-4, abs=1e-5)


def small(name: str) -> pc.Story:
    cls = story_class(name)
    sizes = {"hidden": (8,), "latent_dim": 2}
    known = inspect.signature(cls.__init__).parameters
    return cls(n_features=4, n_clusters=3, **{key: value for key, value in sizes.items() if key in known})


@pytest.mark.parametrize("name", story_names())
def test_every_registered_story_agrees_with_eager(name):
    assert_same(*both(lambda: small(name)))


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_stories_of_strangers_agree_with_eager(case):
    step = pc.SVI(learning_rate=0.01, objective=case.objective)
    assert_same(*both(case.build, step, x=case.rows(22).float()))


def test_several_particles_agree_with_eager():
    assert_same(*both(lambda: small("vade"), pc.SVI(objective="importance"), epochs=2))


@pytest.mark.parametrize("name", ["idec", "mixture-of-vaes"])
def test_whole_recipes_agree_with_eager(name):
    """IDEC renews its target in memory between batches; the mixture's loss fills the memory at its first batch."""
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    recipe = {"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 4} | ({"interval": 3} if name == "idec" else {})
    if name == "idec":
        recipe["delta"] = 0.0
    weights = []
    for engine in ("eager", "staged"):
        torch.manual_seed(0)
        story = small(name)
        pc.fit(story, x, batch_size=20, recipe=recipe, engine=engine)
        weights.append(torch.cat([p.detach().flatten() for p in story.parameters()]))
    torch.testing.assert_close(*weights)


def test_known_clusters_and_pairs_agree_with_eager():
    y = torch.where(torch.arange(22) % 2 == 0, torch.arange(22) % 3, -1)
    pairs = pc.Pairs(must=[(0, 6)], cannot=[(1, 3), (2, 4)])
    outcomes = []
    for engine in ("eager", "staged"):
        torch.manual_seed(0)
        story = small("gmm")
        outcomes.append(trained(story, pc.SVI(), engine, run=Run(story, X, y, 0, pairs=pairs)))
    assert_same(*outcomes)


class Layers(pc.Story):
    """A VAE of one hidden layer, to be given other layers."""

    def __init__(self, n_features=4, n_clusters=3, layer=None):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.hidden = nn.Linear(n_features, 6)
        self.layer = layer or nn.Identity()
        self.out = nn.Linear(6, 2)
        self.loc = nn.Parameter(torch.randn(n_clusters, 2))
        self.decoder = nn.Linear(2, n_features)
        self.register_buffer("seen", torch.zeros(()))
        self.factor = 1.0

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            z = pyro.sample("z", dist.Normal(self.loc[k], 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            h = self.layer(self.hidden(x).relu())
            pyro.sample("z", dist.Normal(self.factor * self.out(h), 1.0).to_event(1))


def test_buffers_that_a_layer_updates_are_updated():
    eager, staged = both(lambda: Layers(layer=nn.BatchNorm1d(6)))
    assert_same(eager, staged)
    assert int(staged[0].layer.num_batches_tracked) >= 6
    assert not torch.equal(staged[0].layer.running_mean, torch.zeros(6))


def test_dropout_draws_anew_and_as_eager_does():
    eager, staged = both(lambda: Layers(layer=nn.Dropout(0.5)))
    assert_same(eager, staged)
    assert len({entry["loss"] for entry in staged[1]}) == 3


def test_unused_parameters_get_no_gradient():
    def build():
        story = Layers()
        story.spare = nn.Parameter(torch.ones(2))
        return story

    eager, staged = both(build)
    assert_same(eager, staged)
    assert staged[0].spare.grad is None


class Branches(Layers):
    def model(self, x):
        if x.sum() > 0:  # the branch
            return super().model(x)
        raise AssertionError


class Counts(Layers):
    calls = 0

    def model(self, x):
        self.calls += 1
        self.factor = min(1.0, self.calls / 100)
        super().model(x)


class OwnGenerator(Layers):
    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(0)

    def model(self, x):
        super().model(x + float(self.generator.normal()))


class NumpyGenerator(Layers):
    def model(self, x):
        super().model(x + float(np.random.normal()))  # noqa: NPY002


class PythonGenerator(Layers):
    def model(self, x):
        super().model(x + random.random())


class ReplacesBuffer(Layers):
    def model(self, x):
        self.seen = self.seen + x.mean().detach()
        super().model(x)


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (Branches, r"depends on values, at .*test_staged\.py:\d+: if x\.sum\(\) > 0:"),
        (Counts, r"Counts \(.*test_staged\.py:\d+\) changes attribute '(calls|factor)' of Counts"),
        (OwnGenerator, r"gives other values than its graph"),
        (NumpyGenerator, r"draws from numpy's or Python's random numbers"),
        (PythonGenerator, r"draws from numpy's or Python's random numbers"),
        (ReplacesBuffer, r"replaces the tensor '0\.seen'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_staged_runs_eagerly_with_one_notice(build, why, caplog):
    def one(engine):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        return trained(build(), pc.SVI(learning_rate=0.01), engine)

    eager, staged = one("eager"), one("staged")
    notices = [record.getMessage() for record in caplog.records if "runs eagerly" in record.getMessage()]
    assert len(notices) == 1
    assert re.search(why, notices[0])
    if build is not OwnGenerator:  # nothing can turn its generator back
        assert_same(eager, staged, is_staged=False)


def test_a_value_that_drifts_outside_of_the_attributes_is_found(caplog):
    """A list of the class, which every run of the story changes: seen while it is recorded."""

    class Drifts(Layers):
        steps = [0]  # noqa: RUF012

        def model(self, x):
            self.steps[0] += 1
            super().model(x + (1.0 if self.steps[0] > 4 else 0.0))

    _, _, trainer = trained(Drifts(), pc.SVI(), "staged")
    assert trainer.runs.gave_up
    assert "gives other values than its graph" in caplog.text


@dataclass(frozen=True, kw_only=True)
class Hooked(Train):
    """Changes memory by new tensors, and a plain attribute, every so often."""

    every: int = 1

    def before(self, run, n_batches):
        run.memory["weight"] = torch.tensor(float(n_batches))
        run.story.factor = 1.0 + n_batches // self.every
        return False


def hooked_loss(batch: Batch) -> torch.Tensor:
    story = batch.run.story
    return (story.hidden(batch.x) * story.factor).square().mean() * batch.run.memory["weight"] + story.loc.sum()


def test_what_steps_change_between_batches_is_seen():
    step = Hooked(name="hooked", loss=hooked_loss, every=3)
    eager, staged = both(Layers, step)
    assert_same(eager, staged)
    assert staged[2].runs.n_traces == 2


def test_attributes_that_change_at_every_batch_are_not_traced_for_ever(caplog):
    eager, staged = both(Layers, Hooked(name="hooked", loss=hooked_loss), epochs=6)
    assert_same(eager, staged, is_staged=False)
    assert staged[2].runs.n_traces == staging.MOST_TRACES + 1
    assert "too often" in caplog.text


def test_batches_of_two_sizes_take_two_graphs():
    eager, staged = both(lambda: small("gmm"), x=X[:21])
    assert_same(eager, staged)
    assert staged[2].runs.n_traces == 2


def test_mixed_precision_agrees_with_eager():
    x = np.random.default_rng(0).normal(size=(22, 4)).astype(np.float32)
    losses = []
    for engine in ("eager", "staged"):
        torch.manual_seed(0)
        record = pc.fit(small("vade"), x, recipe=[pc.SVI(epochs=2)], precision="bf16-mixed", engine=engine)
        losses.append(record.losses())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def fitted(engine: str, path: Path | None = None, epochs: int = 6, **arguments):
    torch.manual_seed(0)
    story = small("vade")
    x = np.random.default_rng(0).normal(size=(42, 4)).astype(np.float32)
    record = pc.fit(
        story, x, recipe=[pc.SVI(epochs=epochs)], batch_size=21, engine=engine, checkpoint=path, **arguments
    )
    return torch.cat([p.detach().flatten() for p in story.parameters()]), record


@pytest.mark.parametrize("then", ["staged", "eager"])
def test_a_staged_fit_that_was_stopped_resumes_to_the_same_end_with_any_engine(then, tmp_path, monkeypatch):
    whole, record = fitted("staged")
    assert torch.equal(whole, fitted("staged")[0])
    path, epoch = tmp_path / "checkpoint.safetensors", Trainer.epoch

    def stop(self, number, *args, **kwargs):
        if number == 3:
            raise KeyboardInterrupt
        return epoch(self, number, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            fitted("staged", path)
    resumed, again = fitted(then, path, resume=True)
    torch.testing.assert_close(resumed, whole)
    if then == "staged":
        assert torch.equal(resumed, whole)
        assert again.losses() == record.losses()


def test_restarts_use_the_same_graphs(monkeypatch):
    recorded, record = [], staging.Staged._record
    monkeypatch.setattr(staging.Staged, "_record", lambda *args: recorded.append(1) or record(*args))
    _, fit_record = fitted("staged", epochs=1, n_init=3)
    assert len(fit_record.bounds) == 3
    assert len(recorded) == 1


def test_a_nan_is_explained_as_in_an_eager_fit():
    class Explodes(Layers):
        def model(self, x):
            broken = torch.where(self.loc[0, 0].abs() > 0.05, float("nan"), 0.0)
            with pyro.plate("data", x.shape[0]):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
                z = pyro.sample("z", dist.Normal(self.loc[k] + broken, 1.0, validate_args=False).to_event(1))
                pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    story = Explodes()
    nn.init.zeros_(story.loc)
    with pytest.raises(pc.NonFiniteError, match="batch 1: the loss is not finite; site 'z' of the model"):
        pc.fit(story, X, recipe=[pc.SVI(learning_rate=0.1, epochs=5)], batch_size=11, engine="staged")


def test_auto_stages_long_steps_alone():
    small, large = {"n_parameters": LARGE - 1, "device": "cpu"}, {"n_parameters": LARGE, "device": "cpu"}
    assert chosen_engine("auto", n_steps=500, **small) == "staged"
    assert chosen_engine("auto", n_steps=499, **small) == "eager"
    assert chosen_engine("auto", n_steps=2000, **large) == "staged"
    assert chosen_engine("auto", n_steps=1999, **large) == "eager"
    assert chosen_engine("auto", n_steps=500, n_parameters=LARGE, device="cuda") == "staged"
    assert chosen_engine("auto", n_steps=499, n_parameters=LARGE, device="cuda") == "eager"
    assert chosen_engine("auto", n_steps=2000, n_parameters=1, device="mps") == "eager"
    assert chosen_engine("compiled", n_steps=1, **small) == "compiled"


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="engine must be 'auto', 'eager', 'staged' or 'compiled', got 'fast'"):
        pc.fit(small("gmm"), X, engine="fast")


def test_the_estimator_passes_its_engine_on(caplog):
    caplog.set_level(logging.INFO, "probclust.fitting.trainer")
    pc.DeepMixture("gmm", 2, engine="staged", epochs=1, random_state=0).fit(X.numpy())
    assert "step 'svi': engine staged" in caplog.text


def test_without_a_compiler_the_step_is_staged(monkeypatch, caplog):
    def fails(*args, **kwargs):
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(torch, "compile", fails)
    torch.manual_seed(0)
    eager = trained(small("gmm"), pc.SVI(), "eager")
    torch.manual_seed(0)
    assert_same(eager, trained(small("gmm"), pc.SVI(), "compiled"))
    assert caplog.text.count("runs staged, not compiled: torch.compile failed (no compiler found)") == 1


@pytest.mark.slow
def test_compiled_steps_agree_with_eager_and_draw_the_same_numbers():
    torch.manual_seed(0)
    eager = trained(small("vade"), pc.SVI(), "eager")
    torch.manual_seed(0)
    compiled = trained(small("vade"), pc.SVI(), "compiled")
    assert_same(eager, compiled)
    assert compiled[2].runs.compiled


def test_steps_on_stored_rows_are_staged_unless_they_read_other_rows():
    stored = StoredRows(ArrayTable(X.numpy()))
    assert_same(*both(lambda: small("gmm"), x=stored))

    story = small("gmm")

    def loss(batch: Batch) -> torch.Tensor:
        return sum((p - batch.run.x[batch.index].mean()).square().sum() for p in story.parameters())

    _, _, trainer = trained(story, Train(name="own", loss=loss), "staged", x=stored)
    assert trainer.runs.gave_up
