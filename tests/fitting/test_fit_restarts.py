"""Restarts of one fit: what they draw anew, what they leave alone, and what becomes of the best."""

from __future__ import annotations

import dataclasses
import math
from types import MappingProxyType
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import probclust as pc
from probclust.progress import Progress
from tests.support.stopping import stopped_after

ONCE: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-6, "progress": False}


class Centres(pc.Part):
    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.randn(2, 4))


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass(frozen=True)
class Box:
    part: Any
    size: int = 1


class Holding(pc.Story):
    """A mixture whose centres are the sum of those of all parts that `parts` holds."""

    def __init__(self, n_features, n_clusters, parts):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.found = nn.ModuleList(found_in(parts))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("noise", torch.rand(3))

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(2)))
            loc = sum(part.loc if hasattr(part, "loc") else part.weight for part in self.found)
            pyro.sample("x", dist.Normal(loc[k], self.scale).to_event(1), obs=x)

    def guide(self, x):
        pass


def found_in(value):
    if isinstance(value, nn.ModuleDict):
        value = list(value.values())
    if isinstance(value, nn.Module) and not isinstance(value, nn.ModuleList | nn.Sequential):
        return [value]
    if isinstance(value, Box):
        return found_in(value.part)
    if hasattr(value, "items"):
        value = value.values()
    if isinstance(value, int):
        return []
    return [part for item in value for part in found_in(item)]


HOLDERS = {
    "part": lambda part: part,
    "list": lambda part: [part],
    "tuple": lambda part: (1, (part,)),
    "named tuple": lambda part: Pair(part, 2),
    "dict": lambda part: {"a": part},
    "nested": lambda part: {"a": [{"b": part}]},
    "mapping proxy": lambda part: MappingProxyType({"a": part}),
    "dataclass": lambda part: Box(part),
    "module dict": lambda part: nn.ModuleDict({"a": part}),
    "module list": lambda part: nn.ModuleList([part]),
    "sequential": lambda part: nn.Sequential(part),
}


def rows():
    return torch.randn(60, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("make", [Centres, lambda: nn.Linear(4, 2)], ids=["part", "torch's layer"])
def test_parts_are_drawn_anew_wherever_they_stand(hold, make):
    story = Holding(4, 2, hold(make()))
    assert len(set(pc.fit(story, rows(), n_init=3, **ONCE).bounds)) == 3


class Opaque:
    def __init__(self, part):
        self.part = part

    def values(self):
        return [self.part]

    def items(self):
        return [("part", self.part)]


def test_parts_that_cannot_be_drawn_anew_are_refused():
    story = Holding(4, 2, Opaque(Centres()))
    with pytest.raises(TypeError, match=r"'found\.0\.loc' belongs to an object .* that cannot be built anew"):
        pc.fit(story, rows(), n_init=2, **ONCE)
    pc.fit(story, rows(), n_init=1, **ONCE)


def test_shared_parts_stay_shared():
    part = Centres()
    again = pc.recorded.fresh({"a": [part], "b": part})
    assert again["a"][0] is again["b"]
    assert again["b"] is not part
    story = Holding(4, 2, Pair(part, part))
    pc.fit(story, rows(), n_init=2, **ONCE)
    assert story.found[0] is story.found[1]


def test_frozen_parameters_and_buffers_stay_as_they_were_given():
    story = Holding(4, 2, [Centres(), Centres()])
    story.found[0].loc.requires_grad_(False)
    story.found[1].loc.data.zero_()
    given = torch.tensor([[-3.0, 0, 0, 0], [3.0, 0, 0, 0]])
    story.found[0].loc.copy_(given)
    story.scale.fill_(2.0)
    noise = story.noise.clone()

    def spoil(run):
        run.story.scale.add_(1.0)
        run.story.found[0].loc.add_(1.0)

    steps = [pc.Compute(name="spoil", run=spoil), pc.SVI()]
    record = pc.fit(story, rows(), recipe=steps, n_init=3, **ONCE)
    assert len(set(record.bounds)) == 3
    assert torch.equal(story.found[0].loc, given + 1)
    assert float(story.scale) == 3.0
    assert torch.equal(story.noise, noise)
    assert not story.found[0].loc.requires_grad
    second = story.found[1].loc.detach().clone()
    story.redraw()
    assert not torch.equal(story.found[1].loc, second)
    assert torch.equal(story.found[0].loc, given + 1)


def test_a_recipe_leaves_frozen_parameters_alone_and_says_so():
    x = torch.cat([rows(), rows() + 6])
    story = pc.models.GaussianMixture(4, 2)
    given = torch.stack([x[60:].mean(0), x[:60].mean(0)])
    story.loc.data.copy_(given)
    story.loc.requires_grad_(False)
    with pytest.warns(pc.FitWarning, match=r"step 'em' sets loc, which are frozen"):
        pc.fit(story, x, n_init=2)
    assert torch.equal(story.loc, given)
    own = [pc.Compute(name="set", run=lambda run: run.story.loc.copy_(given + 1)), pc.SVI(epochs=1)]
    pc.fit(story, x, recipe=own)
    assert torch.equal(story.loc, given + 1)  # a step of the user's own may
    pc.fit(pc.models.DissimilarityMixture(4, 2, learn_alpha=False), x)  # frozen by the story itself


def test_statistics_of_trained_layers_start_anew_and_those_of_frozen_ones_stay():
    class Normalised(Holding):
        def __init__(self, n_features, n_clusters):
            super().__init__(n_features, n_clusters, [Centres()])
            self.trained, self.frozen = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

    story = Normalised(4, 2)
    story.frozen.requires_grad_(False)
    for layer in (story.trained, story.frozen):
        layer.running_mean.fill_(7.0)
    story.redraw()
    assert story.trained.running_mean.tolist() == [0] * 4
    assert story.frozen.running_mean.tolist() == [7] * 4


class Fragile(pc.Story):
    """Its scale is next to zero in those of its instances that `broken` numbers."""

    broken: Any = ()
    made = 0

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.number = type(self).made
        type(self).made += 1
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))
        self.log_scale = nn.Parameter(torch.full((), -43.0 if self.number in type(self).broken else 0.0))

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", dist.Normal(self.loc[k], self.log_scale.exp()).to_event(1), obs=x)

    def guide(self, x):
        pass


def fragile(broken):
    Fragile.broken, Fragile.made = broken, 0
    torch.manual_seed(0)
    return Fragile(4, 2)


@pytest.mark.parametrize("broken", [(0,), (2,), (1, 3)])
def test_a_restart_that_fails_leaves_the_others(broken):
    fits = {"epochs": 5, "n_init": 4, "progress": False}
    whole = pc.fit(fragile(()), rows(), **fits)
    story = fragile(broken)
    with pytest.warns(pc.FitWarning) as caught:
        record = pc.fit(story, rows(), **fits)
    assert [str(w.message)[:21] for w in caught] == [f"restart {n + 1} of 4 failed" for n in broken]
    assert all("is not finite" in str(w.message) for w in caught)
    rest = [n for n in range(4) if n not in broken]
    assert [record.bounds[n] for n in broken] == [-math.inf] * len(broken)
    assert all(math.isfinite(record.bounds[n]) for n in rest)
    assert record.restart == max(rest, key=lambda n: record.bounds[n])
    assert record.assignments.shape == (len(rest), 60)
    assert float(pc.elbo(story, rows()).mean()) == pytest.approx(record.bound, abs=1e-5)
    if broken != (0,):
        assert record.bounds[0] == whole.bounds[0]


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
def test_where_all_fail_the_first_error_is_raised():
    with pytest.raises(pc.NonFiniteError, match="is not finite"):
        pc.fit(fragile((0, 1)), rows(), epochs=5, n_init=2)


class Interrupting(Progress):
    """Raises after so many epochs."""

    def __init__(self, after, error):
        self.left, self.error = after, error

    def start(self, step, epochs):
        pass

    def advance(self, loss=None):
        self.left -= 1
        if self.left < 0:
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no memory")])
def test_a_fit_that_is_cut_off_leaves_the_best_restart_in_the_story(error):
    x, story = rows(), fragile(())
    start = {name: value.clone() for name, value in story.state_dict().items()}
    expected = pc.fit(story, x, epochs=10, learning_rate=0.1, seed=4).bound
    story.load_state_dict(start)
    with pytest.raises(type(error)):
        pc.fit(story, x, epochs=10, learning_rate=0.1, seed=4, n_init=3, progress=Interrupting(10, error))
    assert float(pc.elbo(story, x).mean()) == expected


def test_restarts_go_on_from_a_checkpoint_with_what_was_given(tmp_path, monkeypatch):
    def build():
        torch.manual_seed(0)
        story = Holding(4, 2, [Centres(), Centres()])
        story.found[1].loc.requires_grad_(False)
        return story

    def drift(run):
        run.story.scale.add_(0.5)
        run.story.found[1].loc.add_(0.5)

    fits = {"recipe": [pc.Compute(name="drift", run=drift), pc.SVI(epochs=4, learning_rate=0.1)], "n_init": 3}
    whole, again = build(), build()
    record = pc.fit(whole, rows(), **fits)
    with stopped_after(6, monkeypatch):
        pc.fit(build(), rows(), checkpoint=tmp_path / "fit", **fits)
    resumed = pc.fit(again, rows(), checkpoint=tmp_path / "fit", resume=True, **fits)
    assert resumed.bounds == record.bounds
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
