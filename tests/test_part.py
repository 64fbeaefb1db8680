"""Constructor's arguments are recorded, whatever its signature, and build an instance anew."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc

import pytest
import torch
from torch import nn

import probclust as pc
from probclust.likelihoods import Bernoulli
from probclust.part import construct, fresh


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
