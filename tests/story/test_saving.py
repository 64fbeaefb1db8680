"""Saved stories come back as they were; what is damaged or foreign is refused and executes nothing."""

from __future__ import annotations

import copy
import json
import pickle
import random
import struct
from collections import namedtuple
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from safetensors.torch import save_file

import probclust as pc
from probclust.likelihoods import Bernoulli, Gaussian
from probclust.models import GaussianMixture, MixtureOfVAEs, VaDE
from probclust.story import archive, registry
from probclust.story.archive import read_archive, write_archive
from probclust.story.saving import saved_facts
from tests.support.stories import CASE_NAMES, CASES, Bayesian, Poissons

every_case = pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)


@pytest.fixture
def saved(tmp_path):
    """The path of a saved story of a registered class."""
    path = tmp_path / "story.safetensors"
    pc.save(GaussianMixture(3, 2), path)
    return path


def same(story, other):
    mine, others = story.state_dict(), other.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in mine.items())


# There and back


@every_case
def test_a_strangers_story_comes_back(case, tmp_path):
    story, x = case.build(), case.rows()
    random_state = torch.get_rng_state()
    pc.save(story, tmp_path / "story")
    loaded = pc.load(tmp_path / "story", type(story))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert type(loaded) is type(story)
    assert loaded.arguments == story.arguments
    assert not loaded.training
    assert same(story, loaded)
    assert torch.equal(pc.log_joint(loaded, x), pc.log_joint(story, x))


@every_case
def test_a_fitted_double_story_comes_back_to_the_last_bit(case, tmp_path):
    story = case.build().double()
    with torch.no_grad():
        for parameter in story.parameters():
            parameter.add_(1e-12)
    pc.save(story, tmp_path / "story")
    loaded = pc.load(tmp_path / "story", type(story))
    assert loaded.dtype == torch.float64
    assert same(story, loaded)


@pytest.mark.parametrize(
    "build",
    [
        lambda: GaussianMixture(3, 2, covariance_type="spherical"),
        lambda: VaDE(3, 2, latent_dim=1, hidden=(4, 2)),
        lambda: VaDE(3, 2, 1, [4], likelihood="bernoulli"),
        lambda: MixtureOfVAEs(3, 2, latent_dim=1, hidden=(4,), likelihood=Gaussian(3, scale="row", floor=0.01)),
        lambda: MixtureOfVAEs(3, 2, latent_dim=1, hidden=(4,), likelihood=Bernoulli(3), weights="uniform"),
    ],
)
def test_our_stories_come_back_without_their_class(build, tmp_path):
    story, x = build(), torch.rand(5, 3)
    pc.save(story, tmp_path / "story")
    loaded = pc.load(tmp_path / "story")
    assert type(loaded) is type(story)
    assert same(story, loaded)
    assert torch.equal(pc.log_joint(loaded, x), pc.log_joint(story, x))


class WithArguments(Poissons):
    """Takes every kind of argument that can be saved."""

    def __init__(self, n_features, n_clusters, rates, offset, names, nested=None, **more):
        super().__init__(n_features, n_clusters)
        self.register_buffer("rates", torch.as_tensor(rates))
        self.offset, self.names, self.nested, self.more = offset, names, nested, more


def test_every_kind_of_argument_comes_back(tmp_path):
    nested = {"a": [1, (2.5, None)], "b": {"c": torch.arange(3)}}
    story = WithArguments(4, np.int64(3), np.ones((3, 4)), torch.tensor(2.0), ("x", "y"), nested=nested, flag=True)
    pc.save(story, tmp_path / "story")
    loaded = pc.load(tmp_path / "story", WithArguments)
    assert isinstance(loaded.arguments["rates"], np.ndarray)
    assert (loaded.arguments["rates"] == 1).all()
    assert torch.equal(loaded.offset, torch.tensor(2.0))
    assert loaded.names == ("x", "y")
    assert loaded.nested["a"] == [1, (2.5, None)]
    assert loaded.nested["b"]["c"].tolist() == [0, 1, 2]
    assert loaded.more == {"flag": True}


class Prior(pc.Part):
    """A part of the user's own, with a part inside."""

    def __init__(self, concentration, base=None):
        super().__init__()
        self.concentration, self.base = concentration, base
        self.shift = torch.nn.Parameter(torch.randn(2))


class WithParts(Poissons):
    def __init__(self, n_features, n_clusters, prior):
        super().__init__(n_features, n_clusters)
        self.prior = prior


def test_parts_come_back_once_registered(tmp_path):
    story = WithParts(4, 3, Prior(2.0, base=Prior(0.5)))
    pc.save(story, tmp_path / "story")
    with pytest.raises(pc.SavedStoryError, match=r"part test_saving:Prior is not registered.*pc\.register"):
        pc.load(tmp_path / "story", WithParts)
    pc.register(Prior)
    try:
        loaded = pc.load(tmp_path / "story", WithParts)
    finally:
        del registry._registered["test_saving:Prior"]
    assert same(story, loaded)
    assert loaded.prior.base.concentration == 0.5


Pair = namedtuple("Pair", ["first", "second"])


class WithPair(Poissons):
    """Takes parts in a named tuple, and by their names."""

    def __init__(self, n_features, n_clusters, pair, again):
        super().__init__(n_features, n_clusters)
        self.first, self.second, self.again = pair.first, pair.second, again["shared"]


def test_parts_in_named_tuples_come_back_and_a_shared_one_stays_shared(tmp_path):
    shared = pc.models.GaussianMixture(2, 2)
    pair = Pair(pc.likelihoods.Gaussian(2), shared)
    story = WithPair(4, 3, pair, {"a.b": torch.zeros(2), "a": {"b": torch.ones(2)}, "shared": shared})
    pc.save(story, tmp_path / "story")
    loaded = pc.load(tmp_path / "story", WithPair)
    assert same(story, loaded)
    assert loaded.second is loaded.again
    assert loaded.arguments["pair"]._fields == Pair._fields
    assert loaded.arguments["again"]["a.b"].tolist() == [0, 0]  # though 'a' has a 'b' too
    assert loaded.arguments["again"]["a"]["b"].tolist() == [1, 1]


def test_the_kind_of_global_guide_comes_back(tmp_path):
    story = Bayesian(2, 3)
    story.use_global_guide("normal")
    pc.save(story, tmp_path / "story")
    loaded = pc.load(tmp_path / "story", Bayesian)
    assert loaded.global_guide_kind == "normal"
    assert same(story, loaded)


def test_facts_come_back(saved):
    story = pc.load(saved)
    facts = {"bound": -1.5, "labels": ["a", None], "nested": {"n": 3}}
    pc.save(story, saved, facts)
    assert saved_facts(saved) == facts


def test_a_copy_is_saved_like_its_original(tmp_path):
    story = copy.deepcopy(GaussianMixture(3, 2))
    pc.save(story, tmp_path / "story")
    assert same(story, pc.load(tmp_path / "story"))


# What cannot be saved


@pytest.mark.parametrize(
    "argument",
    [torch.nn.Linear(2, 2), print, object(), {1: 2}, {"a": {3}}, np.array(["a"])],
    ids=lambda a: type(a).__name__,
)
def test_an_argument_that_cannot_be_saved_is_named(argument, tmp_path):
    class Takes(Poissons):
        def __init__(self, n_features, n_clusters, taken=None):
            super().__init__(n_features, n_clusters)

    path = tmp_path / "story"
    pc.save(Takes(4, 3), path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match=r"argument 'taken.*cannot be saved"):
        pc.save(Takes(4, 3, taken=argument), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["story"]


def test_only_stories_are_saved(tmp_path):
    with pytest.raises(TypeError, match=r"expected a probclust\.Story"):
        pc.save(torch.nn.Linear(2, 2), tmp_path / "story")


@pytest.mark.parametrize("breaks", ["write_bytes", "replace"])
def test_a_write_that_fails_leaves_the_old_file(breaks, saved, monkeypatch):
    before = saved.read_bytes()

    def full_disk(*args, **kwargs):
        if breaks == "write_bytes":
            with open(args[0], "wb") as half:
                half.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Path if breaks == "write_bytes" else archive.os, breaks, full_disk)
    with pytest.raises(OSError, match="No space left"):
        pc.save(GaussianMixture(3, 2), saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


# Damaged and foreign files


def test_a_missing_file_is_missing(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match="no saved story"):
            pc.load(path)


def test_every_truncation_is_refused(saved):
    whole = saved.read_bytes()
    for length in sorted({0, 1, 7, 8, 9, len(whole) - 1, *range(0, len(whole), max(1, len(whole) // 60))}):
        saved.write_bytes(whole[:length])
        with pytest.raises(pc.SavedStoryError):
            pc.load(saved)


def test_every_flipped_bit_is_refused_or_harmless(saved):
    whole, story = saved.read_bytes(), pc.load(saved)
    places = random.Random(0).sample(range(len(whole) * 8), 300)
    refused = 0
    for place in places:
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        saved.write_bytes(flipped)
        try:
            loaded = pc.load(saved)
        except pc.SavedStoryError:
            refused += 1
        else:  # white space of the header, say
            assert same(story, loaded)
    assert refused >= 290


def test_bytes_at_the_end_are_refused(saved):
    saved.write_bytes(saved.read_bytes() + b"more")
    with pytest.raises(pc.SavedStoryError):
        pc.load(saved)


def test_another_programs_file_is_refused(tmp_path):
    path = tmp_path / "other"
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(pc.SavedStoryError, match=r"no saved probclust story: it is a safetensors file of another"):
        pc.load(path)
    save_file({"weight": torch.ones(2)}, path, metadata={"format": "pt"})
    with pytest.raises(pc.SavedStoryError, match=r"no saved probclust story: it is pt"):
        pc.load(path)


def test_another_kind_is_refused(tmp_path):
    path = tmp_path / "checkpoint"
    write_archive(path, "checkpoint", {"a": torch.ones(2)}, {})
    with pytest.raises(pc.SavedStoryError, match="no saved probclust story: it is probclust checkpoint"):
        pc.load(path)
    assert read_archive(path, "checkpoint")[0]["a"].tolist() == [1, 1]


class Bomb:
    """Unpickling it leaves a mark."""

    gone_off: list[int] = []  # noqa: RUF012

    def __reduce__(self):
        return (Bomb.gone_off.append, (1,))


@pytest.mark.parametrize("write", [lambda b, f: pickle.dump(b, f), lambda b, f: torch.save({"state": b}, f)])
def test_a_pickle_is_refused_and_not_executed(write, tmp_path):
    path = tmp_path / "story"
    with open(path, "wb") as file:
        write(Bomb(), file)
    with pytest.raises(pc.SavedStoryError, match="damaged, cut short, or no safetensors file"):
        pc.load(path)
    assert not Bomb.gone_off


def edit(path, change, *, sign=False):
    """Change the JSON facts in a file's header; `sign` writes the checksum anew, as a forger would."""
    whole = path.read_bytes()
    (size,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + size])
    meta = header["__metadata__"]
    meta["facts"] = change(meta["facts"])
    if sign:
        tensors, _ = read_archive(path, "story")
        meta["sha256"] = archive._digest(tensors, meta["facts"])
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + size :])


def test_edited_facts_are_refused(saved):
    edit(saved, lambda facts: facts.replace('"n_clusters": 2', '"n_clusters": 3'))
    with pytest.raises(pc.SavedStoryError, match="its checksum does not match"):
        pc.load(saved)


def changed(**changes):
    return lambda facts: json.dumps(json.loads(facts) | changes)


def of_class(name, **arguments):
    return changed(story={"class": name, "arguments": arguments})


FORGED = {
    "no JSON": lambda facts: facts[:-1],
    "a number": lambda facts: "3",
    "nothing": lambda facts: "{}",
    "no class": changed(story={"arguments": {}}),
    "no arguments": changed(story={"class": "probclust.models.gaussian_mixture:GaussianMixture"}),
    "other sizes": of_class("probclust.models.gaussian_mixture:GaussianMixture", n_features=5, n_clusters=2),
    "unknown arguments": of_class("probclust.models.gaussian_mixture:GaussianMixture", depth=2),
    "another module's function": of_class("os:system", command="touch forged"),
    "a module to import": of_class("antigravity:Story"),
    "a missing module of ours": of_class("probclust.distributions.observed.still:Story"),
    "our command line": of_class("probclust.__main__:Story"),
    "no story of ours": of_class("probclust.likelihoods:Bernoulli", n_features=3),
    "a torch module": of_class("torch.nn:Linear", in_features=3, out_features=2),
    "a class that is a list": changed(story={"class": ["x"], "arguments": {}}),
    "a missing tensor": of_class(
        "probclust.models.gaussian_mixture:GaussianMixture",
        n_features={"tensor": "none", "numpy": False},
        n_clusters=2,
    ),
    "an odd dtype": changed(dtype="save"),
    "an odd guide": changed(global_guide="exec"),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("story_class", [None, GaussianMixture])
def test_a_forged_file_is_refused_and_executes_nothing(forge, story_class, saved, monkeypatch):
    monkeypatch.chdir(saved.parent)
    edit(saved, forge, sign=True)
    with pytest.raises(pc.SavedStoryError) as caught:
        pc.load(saved, story_class)
    assert str(saved.name) in str(caught.value) or "not registered" in str(caught.value)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_later_format_asks_for_an_upgrade(saved, monkeypatch):
    monkeypatch.setattr(archive, "FORMAT_VERSION", 2)
    pc.save(GaussianMixture(3, 2), saved)
    monkeypatch.undo()
    with pytest.raises(pc.SavedStoryError, match="format 'probclust story 2'; this version reads 1"):
        pc.load(saved)


# Classes


def test_an_unregistered_class_needs_to_be_passed_in(tmp_path):
    pc.save(Poissons(4, 3), tmp_path / "story")
    with pytest.raises(
        pc.SavedStoryError, match=r"class \S+stories:Poissons is not registered.*story_class="
    ) as caught:
        pc.load(tmp_path / "story")
    assert "pc.register" in str(caught.value)


def test_another_class_does_not_fit(tmp_path):
    pc.save(Poissons(4, 3), tmp_path / "story")
    with pytest.raises(pc.SavedStoryError, match=r"does not fit its class \S+stories:Poissons"):
        pc.load(tmp_path / "story", VaDE)
    for wrong in (torch.nn.Linear, "Poissons", Poissons(4, 3)):
        with pytest.raises(TypeError, match="story_class must be a Story class"):
            pc.load(tmp_path / "story", wrong)


def test_a_story_whose_code_changed_is_told_so(tmp_path):
    class Version(Poissons):
        pass

    pc.save(Version(4, 3), tmp_path / "story")

    class Later(Poissons):
        def __init__(self, n_features, n_clusters):
            super().__init__(n_features, n_clusters)
            self.scale = torch.nn.Parameter(torch.ones(3))

    with pytest.raises(pc.SavedStoryError, match=r"scale.*load it with the version of the class that saved it"):
        pc.load(tmp_path / "story", Later)


def test_nan_weights_come_back(tmp_path):
    """A story that went wrong can be looked at."""
    story = GaussianMixture(3, 2)
    story.loc.data.fill_(torch.nan)
    pc.save(story, tmp_path / "story")
    assert pc.load(tmp_path / "story").loc.isnan().all()


def test_priors_of_another_dtype_do_not_round_the_guide(tmp_path):
    class Single(Bayesian):
        def model(self, x):
            loc = pyro.sample("loc", dist.Normal(torch.zeros(3, 2), 3.0).to_event(2))  # float32 whatever x
            with pyro.plate("data", x.shape[0]):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(3)))
                pyro.sample("x", dist.Normal(loc[k], 1.0).to_event(1), obs=x)

    story = Single(2, 3).double()
    story.globals.locs["loc"].data += 1e-12
    pc.save(story, tmp_path / "story")
    assert same(story, pc.load(tmp_path / "story", Single))


def test_facts_that_json_cannot_hold_are_refused(tmp_path):
    facts = {"loss": np.float32(1.0)}
    with pytest.raises(TypeError, match=r"facts must be a mapping of what JSON can hold: .*float32"):
        pc.save(pc.models.GaussianMixture(2, 2), tmp_path / "story", facts=facts)
    assert not list(tmp_path.iterdir())
