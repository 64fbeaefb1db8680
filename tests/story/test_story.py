"""The base class: what it records, refuses and draws anew."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import probclust as pc
from probclust.models import VaDE
from tests.support.stories import CASE_NAMES, CASES, Bayesian, Poissons

every_case = pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_features": 0},
        {"n_features": -1},
        {"n_features": 2.0},
        {"n_features": "2"},
        {"n_clusters": 0},
        {"n_clusters": True},
        {"n_clusters": None},
    ],
)
def test_sizes_must_count(arguments):
    (name, value) = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got {value!r}"):
        pc.Story(**{"n_features": 2, "n_clusters": 3} | arguments)


def test_a_misspelt_guide_is_refused():
    with pytest.raises(ValueError, match="global_guide must be 'map', 'normal' or 'conjugate', got 'norml'"):
        pc.Story(n_features=2, n_clusters=3, global_guide="norml")


def test_what_is_not_written_is_asked_for():
    class Half(pc.Story):
        def guide(self, x):
            pass

    with pytest.raises(NotImplementedError, match=r"Half must define model\(self, x\)"):
        pc.log_joint(Half(n_features=2, n_clusters=3), torch.ones(4, 2))
    assert pc.Story(n_features=2, n_clusters=3).recipe() is None


@every_case
def test_copies_are_independent(case):
    story, x = case.build(), case.rows()
    for other in (copy.deepcopy(story), pickle.loads(pickle.dumps(story))):
        assert other.arguments == story.arguments
        assert torch.equal(pc.log_joint(other, x), pc.log_joint(story, x))
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.1)
        assert not torch.equal(pc.log_joint(other, x), pc.log_joint(story, x))


@every_case
def test_the_state_dict_is_complete(case):
    story, other, x = case.build(), case.build(), case.rows()
    assert not torch.equal(pc.log_joint(other, x), pc.log_joint(story, x))
    other.load_state_dict(story.state_dict())
    assert torch.equal(pc.log_joint(other, x), pc.log_joint(story, x))


@every_case
def test_weights_are_drawn_anew_in_place(case):
    story = case.build()
    before = {name: value.clone() for name, value in story.state_dict().items()}
    places = {name: parameter.data_ptr() for name, parameter in story.named_parameters()}
    story.redraw()
    assert {name: parameter.data_ptr() for name, parameter in story.named_parameters()} == places
    assert any(not torch.equal(value, before[name]) for name, value in story.state_dict().items())


def test_redraw_keeps_the_kind_of_guide_the_dtype_and_what_is_frozen():
    story = Bayesian(2, 3)
    story.use_global_guide("normal")
    story.double()
    story.globals.locs["loc"].requires_grad_(False)
    story.redraw()
    assert story.global_guide_kind == "normal"
    assert story.dtype == torch.float64
    assert not story.globals.locs["loc"].requires_grad


def test_dtype_and_device_are_the_parameters():
    assert Poissons(2, 3).dtype == torch.float32
    assert Poissons(2, 3).double().dtype == torch.float64
    assert Poissons(2, 3).device == torch.device("cpu")
    assert pc.Story(n_features=2, n_clusters=3).dtype == torch.float32


def test_a_recipe_is_used_and_takes_arguments():
    class Told(Poissons):
        def recipe(self, epochs=2):
            return [pc.SVI(epochs=epochs, learning_rate=0.1)]

    x = torch.poisson(torch.full((20, 4), 2.0))
    assert len(pc.fit(Told(4, 1), x).losses()) == 2
    assert len(pc.fit(Told(4, 1), x, recipe={"epochs": 4}).losses()) == 4


def test_global_latents_whose_priors_need_later_attributes_are_found_at_first_use():
    class Late(Bayesian):
        def __init__(self, n_features, n_clusters):
            super().__init__(n_features, n_clusters)

        def model(self, x):
            self.late  # noqa: B018
            super().model(x)

    story = Late(2, 3)
    assert story.globals is None
    story.late = True
    random = torch.get_rng_state()
    assert pc.log_joint(story, torch.ones(4, 2)).shape == (4, 3)
    assert set(story.globals.names) == {"weights", "loc", "precision"}
    assert torch.equal(torch.get_rng_state(), random)


def test_modules_of_a_story_are_found_by_torch():
    story = VaDE(3, 2, latent_dim=1, hidden=(4,))
    assert sum(isinstance(module, nn.Linear) for module in story.modules()) == 5


class Counter(nn.Linear):
    """Keeps something beside its parameters."""

    def __init__(self, state):
        super().__init__(2, 2)
        self.state = state

    def get_extra_state(self):
        return self.state

    def set_extra_state(self, state):
        self.state = state


class Counting(Poissons):
    def __init__(self, n_features, n_clusters, state=None):
        super().__init__(n_features, n_clusters)
        self.counter = Counter(torch.zeros(2) if state is None else state)


def test_extra_state_that_is_a_tensor_is_kept(tmp_path):
    story, x = Counting(4, 2), torch.ones(20, 4) * torch.arange(20.0)[:, None]
    story.counter.state = torch.tensor([3.0, 4.0])
    record = pc.fit(story, x, epochs=2, n_init=2, checkpoint=tmp_path / "checkpoint")
    assert len(record.bounds) == 2
    pc.save(story, tmp_path / "story")
    assert torch.equal(pc.load(tmp_path / "story", Counting).counter.state, story.counter.state)


@pytest.mark.parametrize("state", [{"step": 3}, 3, "three", [torch.zeros(2)]])
def test_extra_state_that_no_checkpoint_holds_is_refused_by_its_module(state, tmp_path):
    story, x = Counting(4, 2), torch.ones(20, 4) * torch.arange(20.0)[:, None]
    story.counter.state = state
    words = rf"module 'counter' of Counting keeps a {type(state).__name__} as its extra state .*register_buffer"
    with pytest.raises(TypeError, match=words):
        pc.fit(story, x, epochs=1)
    with pytest.raises(TypeError, match=words):
        pc.save(story, tmp_path / "story")
    assert pc.predict(story, x).shape == (20,)


class OfParts(pc.Story):
    """A story that says nothing of itself."""

    def __init__(self, *parts):
        super().__init__(n_features=2, n_clusters=3)
        self.parts = torch.nn.ModuleList(parts)


@pytest.mark.parametrize(
    ("part", "facts"),
    [
        (lambda: torch.nn.Linear(2, 2), (True, False, False)),
        (lambda: pc.likelihoods.Missing(pc.likelihoods.Gaussian(2), 2), (True, True, False)),
        (lambda: pc.weights.StickBreaking(3), (True, False, True)),
        (lambda: pc.dissimilarities.Custom(lambda x, loc: (x - loc).abs().sum(-1), 2, 3), (False, False, False)),
    ],
)
def test_facts_are_read_off_the_parts(part, facts):
    story = OfParts(part())
    assert (story.is_density, story.missing, story.may_empty) == facts


def test_a_class_that_computes_a_fact_knows_better():
    class Knows(OfParts):
        @property
        def missing(self):
            return False

    assert Knows(pc.likelihoods.Missing(pc.likelihoods.Gaussian(2), 2)).missing is False


def test_what_a_codec_took_over_is_found_under_its_old_name_for_one_release():
    story = pc.models.VaDE(4, 2, latent_dim=2, hidden=(3,))
    with pytest.warns(DeprecationWarning, match=r"VaDE\.encoder has moved to its codec\.encoder"):
        assert story.encoder is story.codec.encoder
    with pytest.raises(AttributeError, match="decodr"):
        _ = story.decodr
    with pytest.raises(AttributeError, match="likelihood"):
        _ = pc.models.DEC(4, 2, latent_dim=2, hidden=(3,)).likelihood
