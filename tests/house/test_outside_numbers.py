"""Numbers outside of tensors that change during a fit: a recorded step gives what the story itself gives."""

from __future__ import annotations

import array
import collections
import ctypes
import functools
import multiprocessing
import os
import sys
import types
from dataclasses import dataclass, field

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

import probclust as pc
from probclust.fitting.devices.group import Devices, fabric_for
from probclust.fitting.trainer import Trainer
from probclust.objectives.bounds import Exact
from probclust.story.recipe import Run, Train

pytestmark = pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")

X = torch.as_tensor(np.random.default_rng(0).normal(size=(22, 4)).astype(np.float32))
OLD, NEW = 0.05, 0.0502  # closer than the tolerance of the runs beside the graph

BETA = OLD
SETTINGS = {"beta": [OLD]}
sys.modules["my_settings"] = types.ModuleType("my_settings")
sys.modules["my_settings"].BETA = OLD


class Weighted(pc.Story):
    """A VAE whose guide is scaled by a number that `self.read` finds somewhere."""

    def __init__(self, read=None):
        super().__init__(n_features=4, n_clusters=3)
        self.loc = nn.Parameter(torch.randn(3, 2))
        self.encoder, self.decoder = nn.Linear(4, 2), nn.Linear(2, 4)
        self.read = read

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(3)))
            z = pyro.sample("z", dist.Normal(self.loc[k], 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(20 * self.read(self) * self.encoder(x), 1.0).to_event(1))


def a_dictionary(story):
    story.settings = {"beta": OLD}
    return lambda story: story.settings["beta"], lambda: story.settings.update(beta=NEW)


def a_list_in_an_object_in_a_dictionary(story):
    story.settings = {"schedule": types.SimpleNamespace(betas=[OLD])}
    return lambda story: story.settings["schedule"].betas[0], lambda: story.settings["schedule"].betas.__setitem__(
        0, NEW
    )


def a_list_that_grows(story):
    story.betas = [OLD]
    return lambda story: story.betas[-1], lambda: story.betas.append(NEW)


def a_deque(story):
    story.betas = collections.deque([OLD])
    return lambda story: story.betas[0], lambda: story.betas.appendleft(NEW)


def a_set(story):
    story.kinds = set()
    return lambda story: NEW if "warm" in story.kinds else OLD, lambda: story.kinds.add("warm")


@dataclass
class Schedule:
    epoch: int = 0
    values: list = field(default_factory=lambda: [OLD, NEW])

    @property
    def beta(self):
        return self.values[self.epoch]


def a_data_class(story):
    schedule = Schedule()
    return lambda story: schedule.beta, lambda: setattr(schedule, "epoch", 1)


class Slots:
    __slots__ = ("beta",)


def an_object_with_slots(story):
    story.box = Slots()
    story.box.beta = OLD
    return lambda story: story.box.beta, lambda: setattr(story.box, "beta", NEW)


def a_global(story):
    def change():
        global BETA
        BETA = NEW

    return lambda story: BETA, change


def a_global_dictionary(story):
    return lambda story: SETTINGS["beta"][0], lambda: SETTINGS["beta"].__setitem__(0, NEW)


def helper():
    return BETA


def a_global_that_another_function_reads(story):
    return lambda story: helper(), a_global(story)[1]


def a_global_by_its_name(story):
    return lambda story: globals()["BETA"], a_global(story)[1]


def a_global_of_another_module(story):
    settings = sys.modules["my_settings"]
    return lambda story: settings.BETA, lambda: setattr(settings, "BETA", NEW)


def a_global_of_a_module_imported_on_the_spot(story):
    def read(story):
        import my_settings

        return my_settings.BETA

    return read, lambda: setattr(sys.modules["my_settings"], "BETA", NEW)


def a_name_imported_on_the_spot(story):
    def read(story):
        from my_settings import BETA as beta

        return beta

    return read, lambda: setattr(sys.modules["my_settings"], "BETA", NEW)


def a_variable_of_the_enclosing_function(story):
    beta = OLD

    def change():
        nonlocal beta
        beta = NEW

    return lambda story: beta, change


def a_numpy_array(story):
    story.betas = np.array([OLD])
    return lambda story: float(story.betas[0]), lambda: story.betas.__setitem__(0, NEW)


def an_array_of_pythons(story):
    story.betas = array.array("d", [OLD])
    return lambda story: story.betas[0], lambda: story.betas.__setitem__(0, NEW)


def a_c_number(story):
    story.beta = ctypes.c_double(OLD)
    return lambda story: story.beta.value, lambda: setattr(story.beta, "value", NEW)


def a_number_shared_with_processes(story):
    story.beta = multiprocessing.get_context("spawn").Value("d", OLD)
    return lambda story: story.beta.value, lambda: setattr(story.beta, "value", NEW)


def an_environment_variable(story):
    os.environ["MY_BETA"] = str(OLD)
    return lambda story: float(os.environ["MY_BETA"]), lambda: os.environ.update(MY_BETA=str(NEW))


def a_default(story):
    def read(story, beta=OLD):
        return beta

    return read, lambda: setattr(read, "__defaults__", (NEW,))


def a_default_by_name(story):
    def read(story, *, betas={"now": OLD}):  # noqa: B006
        return betas["now"]

    def change():
        read.__kwdefaults__["betas"] = {"now": NEW}

    return read, change


def a_functions_attribute(story):
    def read(story):
        return read.beta

    read.beta = OLD
    return read, lambda: setattr(read, "beta", NEW)


def another_function(story):
    story.beta = lambda: OLD
    return lambda story: story.beta(), lambda: setattr(story, "beta", lambda: NEW)


def a_partial_function(story):
    box = [OLD]
    story.beta = functools.partial(lambda values: values[0], box)
    return lambda story: story.beta(), lambda: box.__setitem__(0, NEW)


class Base:
    beta = OLD


class Derived(Base):
    pass


def a_class_attribute(story):
    return lambda story: Base.beta, lambda: setattr(Base, "beta", NEW)


def a_class_attribute_that_hides_another(story):
    story.schedule = Derived()
    return lambda story: story.schedule.beta, lambda: setattr(Derived, "beta", NEW)


def a_tensor_put_in_place_of_another(story):
    story.settings = {"beta": torch.tensor(OLD)}
    return lambda story: story.settings["beta"], lambda: story.settings.update(beta=torch.tensor(NEW))


def a_tensor_changed_where_it_stands(story):
    story.settings = {"beta": torch.tensor(OLD)}
    return lambda story: story.settings["beta"], lambda: story.settings["beta"].fill_(NEW)


def a_number_of_a_distribution(story):
    story.law = types.SimpleNamespace(handler=poutine.scale(scale=1.0).__class__(OLD))
    return lambda story: story.law.handler.scale, lambda: setattr(story.law.handler, "scale", NEW)


def a_number_of_a_part_that_is_not_registered(story):
    story.parts = [nn.Linear(1, 1)]
    story.parts[0].beta = OLD
    return lambda story: story.parts[0].beta, lambda: setattr(story.parts[0], "beta", NEW)


def frozen_parameters(story):
    return lambda story: OLD, lambda: story.encoder.requires_grad_(False)


def another_layer(story):
    return lambda story: OLD, lambda: setattr(story, "decoder", nn.Linear(2, 4))


def another_parameter(story):
    return lambda story: OLD, lambda: setattr(story, "loc", nn.Parameter(torch.ones(3, 2)))


def a_buffer_of_another_shape(story):
    story.register_buffer("beta", torch.tensor(OLD))
    return lambda story: story.beta, lambda: story.register_buffer("beta", torch.tensor([OLD, NEW]))


def a_forward_hook(story):
    return lambda story: OLD, lambda: story.encoder.register_forward_hook(lambda module, x, out: out * 1.01)


KINDS = [
    *(a_dictionary, a_list_in_an_object_in_a_dictionary, a_list_that_grows, a_deque, a_set, a_data_class),
    *(an_object_with_slots, a_global, a_global_dictionary, a_global_that_another_function_reads, a_global_by_its_name),
    *(a_global_of_another_module, a_global_of_a_module_imported_on_the_spot, a_name_imported_on_the_spot),
    *(a_variable_of_the_enclosing_function, a_numpy_array, an_array_of_pythons, a_c_number),
    *(a_number_shared_with_processes, an_environment_variable, a_default, a_default_by_name, a_functions_attribute),
    *(another_function, a_partial_function, a_class_attribute, a_class_attribute_that_hides_another),
    *(a_tensor_put_in_place_of_another, a_tensor_changed_where_it_stands, a_number_of_a_distribution),
    *(a_number_of_a_part_that_is_not_registered, frozen_parameters, another_layer, another_parameter),
    *(a_buffer_of_another_shape, a_forward_hook),
]


STRUCTURES = [frozen_parameters, another_layer, another_parameter, a_buffer_of_another_shape]


@pytest.fixture(autouse=True)
def old_numbers(monkeypatch):
    """Globals and class attributes as they were, before each test and after it."""
    monkeypatch.setenv("MY_BETA", str(OLD))

    def again():
        global BETA
        BETA = SETTINGS["beta"][0] = sys.modules["my_settings"].BETA = Base.beta = OLD
        if "beta" in vars(Derived):
            del Derived.beta

    again()
    yield again
    again()


def trained(kind, engine, epochs=3, at=1, step=None):
    """Weights and losses of a training in which the number changes before an epoch, and its trainer."""
    torch.manual_seed(0)
    story = Weighted()
    story.read, change = kind(story)
    step = step or pc.SVI(learning_rate=0.01, schedule="constant")
    trainer = Trainer(story, [step], devices=Devices(fabric_for("cpu")), batch_size=11, engine=engine)
    trainer.start(step, Run(story, X, None, 0))
    losses = []
    for number in range(epochs):
        if number == at:
            torch.manual_seed(1)
            change()
        losses.append(trainer.epoch(number, number)["loss"])
    return {name: value.clone() for name, value in story.state_dict().items()}, losses, trainer


def assert_same(eager, staged) -> None:
    (weights, losses, _), (others, found, _) = eager, staged
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=1e-6, atol=1e-6)
    assert found == pytest.approx(losses, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_changes_between_epochs_counts_from_the_next_batch(kind, old_numbers):
    eager = trained(kind, "eager")
    old_numbers()
    staged = trained(kind, "staged")
    assert_same(eager, staged)
    assert staged[2].runs.n_traces > 0
    assert not staged[2].runs.gave_up or kind in STRUCTURES


@pytest.mark.parametrize("kind", [a_dictionary, a_variable_of_the_enclosing_function])
def test_a_number_that_a_step_changes_in_mid_epoch_counts_from_the_next_batch(kind, old_numbers):
    """By `after`, once three batches are done: in the middle of the second epoch."""
    outcomes = []
    for engine in ("eager", "staged"):
        old_numbers()
        changes, done = [], []

        class Changes(pc.SVI):
            def after(self, batch, done=done, changes=changes):
                done.append(1)
                if len(done) == 3:
                    changes[0]()

        def noted(story, changes=changes):
            read, change = kind(story)
            changes.append(change)
            return read, change

        outcomes.append(trained(noted, engine, at=None, step=Changes(learning_rate=0.01, schedule="constant")))
    assert_same(*outcomes)
    assert not outcomes[1][2].runs.gave_up


class Tempered(Exact):
    """An objective of a stranger's, with a number in a dictionary of its own."""

    def __init__(self):
        super().__init__()
        self.settings = {"beta": OLD}

    def bound(self, joint):
        return joint.table.logsumexp(1) * self.settings["beta"]


def test_a_number_of_the_objective_or_of_the_steps_own_loss_counts_too():
    for make in (lambda objective: pc.SVI(objective=objective, schedule="constant"), own_loss):
        outcomes = []
        for engine in ("eager", "staged"):
            objective = Tempered()
            change = functools.partial(objective.settings.update, beta=NEW)
            outcomes.append(trained(lambda story: (lambda story: OLD, change), engine, step=make(objective)))  # noqa: B023
        assert_same(*outcomes)
        assert not outcomes[1][2].runs.gave_up


def own_loss(objective):
    def loss(batch):
        return objective.settings["beta"] * batch.run.story.encoder(batch.x).square().mean()

    return Train(name="own", loss=loss)


def test_a_number_of_a_handler_around_the_fit_counts_too():
    outcomes = []
    for engine in ("eager", "staged"):
        with poutine.scale(scale=OLD) as handler:
            outcomes.append(trained(lambda story: (lambda story: OLD, lambda: setattr(handler, "scale", NEW)), engine))
    assert_same(*outcomes)


@pytest.mark.parametrize("where", ["file", "generator"])
def test_what_no_object_shows_is_found_by_a_run_of_the_story_at_the_next_epochs_first_batch(where, tmp_path):
    """A file, and what a generator will yield next, cannot be compared; the story runs beside its graph then."""
    path, outcomes = tmp_path / "beta.txt", []

    def kind(story):
        values = {"beta": OLD}

        def betas():
            while True:
                yield values["beta"]

        story.betas = betas() if where == "generator" else None
        path.write_text(str(OLD))
        if where == "file":
            return lambda story: float(path.read_text()), lambda: path.write_text(str(3 * OLD))
        return lambda story: next(story.betas), lambda: values.update(beta=3 * OLD)

    for engine in ("eager", "staged"):
        outcomes.append(trained(kind, engine, epochs=12, at=11))
    assert_same(*outcomes)


@pytest.mark.parametrize("counter", ["dictionary", "global", "closure"])
def test_a_story_that_counts_its_calls_is_found_out_before_its_second_batch(counter, caplog):
    """Each run of the story would count; recording, and the runs beside the graph, leave the count as eager does."""
    outcomes, counts = [], []
    for engine in ("eager", "staged"):
        count = {"calls": 0}

        def kind(story, count=count):
            calls = 0
            SETTINGS["calls"] = 0

            def read(story):
                nonlocal calls
                calls += 1
                count["calls"] += counter == "dictionary"
                SETTINGS["calls"] += counter == "global"
                story_calls = {"dictionary": count["calls"], "global": SETTINGS["calls"], "closure": calls}
                counts.append(story_calls[counter])
                return OLD * (1 + story_calls[counter] / 1000)

            return read, lambda: None

        outcomes.append(trained(kind, engine))
    assert_same(*outcomes)
    assert outcomes[1][2].runs.gave_up
    assert outcomes[1][2].runs.n_traces == 1
    assert "while it runs, so that it gives other values than its graph" in caplog.text
