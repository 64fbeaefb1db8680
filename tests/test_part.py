"""Constructor's arguments are recorded, whatever its signature, and build an instance anew."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
from typing import ClassVar

import pytest
import torch
from torch import nn

import probclust as pc
from probclust.likelihoods import Bernoulli
from probclust.part import construct, fresh, in_earlier_order


class Plain(pc.Part):
    def __init__(self, a, b=2, *, c=3):
        super().__init__()
        self.given = (a, b, c)
        self.weight = nn.Parameter(torch.randn(2))


class Lazy(Plain):
    """Passes on what it is given."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class Odd(pc.Part):
    def __init__(self, first, /, second, *rest, last=0, **more):
        super().__init__()
        self.given = (first, second, rest, last, more)


class Heir(Plain):
    """Has no constructor of its own."""


class Shortened(Plain):
    def __init__(self, a):
        super().__init__(a, b=a + 1)


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (lambda: Plain(1), {"a": 1, "b": 2, "c": 3}),
        (lambda: Plain(b=5, a=1, c=4), {"a": 1, "b": 5, "c": 4}),
        (lambda: Lazy(1, 5, c=4), {"args": (1, 5), "c": 4}),
        (lambda: Lazy(a=1), {"args": (), "a": 1}),
        (lambda: Odd(1, 2, 3, 4, last=5, x=6), {"first": 1, "second": 2, "rest": (3, 4), "last": 5, "x": 6}),
        (lambda: Odd(1, second=2), {"first": 1, "second": 2, "rest": (), "last": 0}),
        (lambda: Heir(1, c=9), {"a": 1, "b": 2, "c": 9}),
        (lambda: Shortened(1), {"a": 1}),
    ],
)
def test_arguments_build_the_same_again(build, arguments):
    part = build()
    assert part.arguments == arguments
    again = construct(type(part), part.arguments)
    assert again.given == part.given
    assert again.arguments == arguments
    assert fresh(part).given == part.given


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (Plain, "(a, b=2, *, c=3)"),
        (Lazy, "(*args, **kwargs)"),
        (Odd, "(first, /, second, *rest, last=0, **more)"),
        (Heir, "(a, b=2, *, c=3)"),
        (Shortened, "(a)"),
        (Bernoulli, "(n_features: 'int') -> 'None'"),
    ],
)
def test_a_class_shows_its_constructors_arguments(cls, arguments):
    assert str(inspect.signature(cls)) == arguments
    assert f"{cls.__name__}{arguments}" in pydoc.render_doc(cls, renderer=pydoc.plaintext)


def test_every_story_shows_its_arguments():
    for name in pc.models.__all__:
        assert {"n_features", "n_clusters"} <= set(inspect.signature(getattr(pc.models, name)).parameters), name


def test_fresh_parts_have_fresh_weights():
    part = Plain(Plain(1), b=[Plain(2), (3, Plain(4))])
    again = fresh(part)
    assert not torch.equal(again.weight, part.weight)
    assert not torch.equal(again.given[0].weight, part.given[0].weight)
    assert not torch.equal(again.given[1][1][1].weight, part.given[1][1][1].weight)
    assert again.given[1][1][0] == 3


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2))


def test_what_cannot_be_fresh_says_so():
    with pytest.raises(TypeError, match=r"class Bare cannot be built anew; derive it from probclust\.Part"):
        fresh(Plain(Bare()))


def test_networks_of_torch_draw_their_weights_anew_and_keep_those_that_are_frozen():
    network = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    network[2].weight.requires_grad_(False)
    again = fresh(Plain(network)).given[0]
    assert not torch.equal(again[0].weight, network[0].weight)
    assert torch.equal(again[2].weight, network[2].weight)
    assert not again[2].weight.requires_grad
    assert torch.equal(fresh(Plain(Bare().requires_grad_(False))).given[0].weight.isnan(), torch.zeros(2).bool())


def test_copies_keep_their_arguments():
    for again in (copy.deepcopy(Plain(1)), copy.copy(Plain(1)), pickle.loads(pickle.dumps(Plain(1)))):
        assert again.arguments == {"a": 1, "b": 2, "c": 3}


def test_wrong_arguments_raise_as_ever():
    with pytest.raises(TypeError, match="unexpected keyword argument 'd'"):
        Plain(1, d=2)


# States of earlier versions


class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(2, 1), nn.Linear(1, 2)


class Renamed(pc.Part):
    """What was `encoder`, `decoder` and `scale` is in a codec now."""

    renamed_state: ClassVar = {"encoder": "codec.encoder", "decoder": "codec.decoder", "scale": "codec_scale"}

    def __init__(self):
        super().__init__()
        self.codec = Coder()
        self.codec_scale = nn.Parameter(torch.randn(()))
        self.scaled = nn.Parameter(torch.randn(()))


class RenamedAgain(Renamed):
    """`scaled` has another name now, too."""

    renamed_state: ClassVar = {"scaled": "scaling"}

    def __init__(self):
        super().__init__()
        self.scaling = self.scaled
        del self.scaled


class WithItsOwn(Renamed):
    """Has an encoder of its own beside the codec's."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(3, 3)


def earlier(state, prefix=""):
    """The state as the class had it before."""
    names = {"codec.encoder": "encoder", "codec.decoder": "decoder", "codec_scale": "scale"}
    found = {}
    for name, value in state.items():
        new = next((new for new in names if name.startswith(prefix + new)), None)
        found[name if new is None else prefix + names[new] + name.removeprefix(prefix + new)] = value
    return found


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_of_an_earlier_version_loads(wrapped):
    def build():
        return nn.ModuleList([nn.Linear(1, 1), Renamed()]) if wrapped else Renamed()

    then, now = build(), build()
    state = earlier(then.state_dict(), "1." if wrapped else "")
    assert state.keys() != then.state_dict().keys()
    kept = dict(state)
    now.load_state_dict(state)
    assert state == kept  # the caller's is not touched
    assert all(torch.equal(value, now.state_dict()[name]) for name, value in then.state_dict().items())
    now.load_state_dict(then.state_dict())


def test_names_that_changed_in_a_base_class_are_known_too():
    then, now = RenamedAgain(), RenamedAgain()
    state = earlier(then.state_dict())
    state["scaled"] = state.pop("scaling")
    now.load_state_dict(state)
    assert all(torch.equal(value, now.state_dict()[name]) for name, value in then.state_dict().items())


def test_what_a_class_has_under_an_old_name_is_its_own():
    then, now = WithItsOwn(), WithItsOwn()
    now.load_state_dict(then.state_dict())
    assert torch.equal(then.encoder.weight, now.encoder.weight)
    with pytest.raises(RuntimeError, match=r"Missing.*codec\.encoder\.weight"):
        now.load_state_dict({name: value for name, value in then.state_dict().items() if "codec.e" not in name})


def test_nothing_of_a_state_is_dropped_in_silence():
    part = Renamed()
    state = part.state_dict()
    with pytest.raises(RuntimeError, match=r"Unexpected.*encoder\.weight"):  # old and new: which one is meant?
        part.load_state_dict(state | earlier(state))
    with pytest.raises(RuntimeError, match=r"Unexpected.*encoder\.more"):
        part.load_state_dict(state | {"encoder.more": torch.zeros(1)})


def test_a_name_within_its_old_one_is_renamed_once():
    class Deeper(pc.Part):
        renamed_state: ClassVar = {"codec": "codec.inner"}

        def __init__(self):
            super().__init__()
            self.codec = nn.ModuleDict({"inner": nn.Linear(1, 1)})

    then, now = Deeper(), Deeper()
    now.load_state_dict(then.state_dict())
    now.load_state_dict({name.replace("inner.", ""): value for name, value in then.state_dict().items()})
    assert torch.equal(then.codec["inner"].weight, now.codec["inner"].weight)


def test_parameters_are_put_in_their_earlier_order():
    class Ordered(pc.Part):
        renamed_state: ClassVar = {"weights": "weights", "encoder": "codec.encoder", "prior": "prior"}

    today = ["logits", "prior.loc", "prior.scale", "weights.logits", "codec.encoder.weight", "codec.encoder.bias"]
    assert in_earlier_order(Ordered, today) == [today[0], today[3], *today[4:], *today[1:3]]
