"""Stories by name, by file and by class; only registered classes are found for saved stories."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

import pytest
import torch

import probclust as pc
from probclust.likelihoods import Gaussian
from probclust.likelihoods.totals import Totals
from probclust.models import GaussianMixture, MixtureOfVAEs, VaDE
from probclust.story import installed, registry
from probclust.story.registry import current_name, qualified_name, registered_class, story_class, story_names
from tests.support.stories import Poissons

STORY = """
import probclust as pc

class Mine(pc.Story):
    def __init__(self, n_features, n_clusters):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
"""


class Point:
    """An entry point of another package."""

    def __init__(self, name, value):
        self.name, self.value = name, value
        self.module, self.attr = value.__module__, value.__qualname__

    def load(self):
        return self.value


def test_installed_stories_have_names():
    assert {"gmm", "vade", "mixture-of-vaes"} <= set(story_names())
    assert story_class("gmm") is GaussianMixture
    assert story_class("vade") is VaDE
    assert story_class("mixture-of-vaes") is MixtureOfVAEs
    assert story_class(Poissons) is Poissons


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no story is named 'gnn'; expected one of .*'gmm'.*path/to/file\.py:Class"):
        story_class("gnn")


@pytest.mark.parametrize("wrong", [torch.nn.Linear, Poissons(4, 3), None, 3])
def test_what_is_no_story_class_is_refused(wrong):
    with pytest.raises(TypeError, match="expected a Story class"):
        story_class(wrong)


def test_a_story_from_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(STORY)
    found = story_class(f"{path}:Mine")
    assert issubclass(found, pc.Story)
    assert found(4, 3).arguments == {"n_features": 4, "n_clusters": 3}
    with pytest.raises(ValueError, match=r"has no class 'Yours'; its stories: \['Mine'\]"):
        story_class(f"{path}:Yours")
    with pytest.raises(FileNotFoundError, match="no file"):
        story_class(f"{tmp_path}/none.py:Mine")
    path.write_text(STORY + "\nvalue = 3\n")
    with pytest.raises(TypeError, match="expected a Story class"):
        story_class(f"{path}:value")


def test_a_file_that_fails_leaves_no_module_behind(tmp_path):
    path = tmp_path / "broken_story.py"
    path.write_text(STORY + "\nraise RuntimeError('half way')\n")
    with pytest.raises(RuntimeError, match="half way"):
        story_class(f"{path}:Mine")
    assert "probclust_story_broken_story" not in sys.modules


def test_other_packages_stories_are_found_by_name_and_when_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(installed, "entry_points", lambda group: [Point("poissons", Poissons)])
    assert story_names() == ["poissons"]
    assert story_class("poissons") is Poissons
    pc.save(Poissons(4, 3), tmp_path / "story")
    assert type(pc.load(tmp_path / "story")) is Poissons


def test_summaries_are_read_from_the_source_as_a_class_gives_them():
    for point in installed.installed_stories().values():
        assert installed.summary(point) == inspect.getdoc(point.load()).partition("\n")[0]
    assert installed.summary(Point("poissons", Poissons)) == inspect.getdoc(Poissons).partition("\n")[0]


def test_registration_is_by_class(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    assert registered_class(qualified_name(Poissons)) is None
    assert pc.register(Poissons) is Poissons
    assert registered_class(qualified_name(Poissons)) is Poissons
    for wrong in (torch.nn.Linear, Poissons(4, 3), "Poissons"):
        with pytest.raises(TypeError, match="expected a Story or Part class"):
            pc.register(wrong)


@pytest.mark.parametrize("part", [GaussianMixture, VaDE, MixtureOfVAEs, Gaussian])
def test_our_own_classes_are_registered(part):
    assert registered_class(qualified_name(part)) is part


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (VaDE, "probclust.models:VaDE"),
        (Gaussian, "probclust.likelihoods:Gaussian"),
        (pc.priors.Flow, "probclust.priors:Flow"),
        (pc.priors.StudentT, "probclust.priors:StudentT"),
        (pc.priors.Dirichlet, "probclust.priors:Dirichlet"),
        (pc.dissimilarities.Euclidean, "probclust.dissimilarities:Euclidean"),
        (pc.networks.MLP, "probclust.networks:MLP"),
        (pc.Story, "probclust:Story"),
        (Totals, "probclust.likelihoods.totals:Totals"),
        (Poissons, "tests.support.stories:Poissons"),
    ],
)
def test_a_class_goes_by_the_shortest_public_path(part, name):
    assert qualified_name(part) == name


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("probclust.models.vade:VaDE", VaDE),
        ("probclust.likelihoods.real:Gaussian", Gaussian),
        ("probclust.architectures:MLP", pc.networks.MLP),
        ("probclust.dissimilarities.norms:Euclidean", pc.dissimilarities.Euclidean),
        ("probclust.priors.dissimilarities.norms:Euclidean", pc.dissimilarities.Euclidean),
        ("probclust.weights:Dirichlet", pc.priors.Dirichlet),
        ("probclust.priors.weights:Dirichlet", pc.priors.Dirichlet),
        ("probclust.prior:Prior", pc.priors.Prior),
    ],
)
def test_every_name_that_a_class_had_is_known_without_a_warning(name, part, recwarn):
    assert registered_class(name) is part
    assert current_name(name) == qualified_name(part)
    assert not recwarn.list


@pytest.mark.parametrize("name", ["probclust.architectures:Gone", "probclust.gone:Part", "probclust.part.no:Part", "x"])
def test_a_name_that_nothing_had_is_left_as_it_is(name, recwarn):
    assert registered_class(name) is None
    assert current_name(name) == name
    assert not recwarn.list


def test_another_packages_class_goes_by_the_package_that_shows_it(monkeypatch):
    package, inner = ModuleType("waiting"), ModuleType("waiting._inner")
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setitem(sys.modules, "waiting", package)
    monkeypatch.setitem(sys.modules, "waiting._inner", inner)
    exec("import probclust as pc\nclass Shown(pc.Part): pass\nclass Hidden(pc.Part): pass", vars(inner))
    package.Shown, package.Hidden, package.__all__ = pc.register(inner.Shown), pc.register(inner.Hidden), ["Shown"]
    assert qualified_name(inner.Shown) == "waiting:Shown"
    assert qualified_name(inner.Hidden) == "waiting._inner:Hidden"
    for name in ("waiting:Shown", "waiting._inner:Shown"):
        assert registered_class(name) is inner.Shown
        assert current_name(name) == "waiting:Shown"
    assert registered_class("waiting:Hidden") is None


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "torch.nn:Linear",
        "probclust.story.joint:Pass",
        "probclust.story.rows:admit",
        "probclust.__main__:app",
    ],
)
def test_nothing_else_is(name):
    assert registered_class(name) is None
