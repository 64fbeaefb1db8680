"""Random stories with one breach of the contract each: all are to be refused, by the name of the site."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

import probclust as pc
from random_stories.composed import RandomStory, parts_of
from random_stories.families import FAMILIES
from random_stories.outcome import Outcome, outcome
from random_stories.plan import Plan, own_columns
from random_stories.walk import Walk

EXTRA = "extra"
"""Name of the site that is added."""
Add = Callable[[RandomStory, Tensor], Any]


def _normal(x: Tensor, *shape: int) -> Any:
    return dist.Normal(torch.zeros(shape).to(x), torch.ones(shape).to(x))


def inside(add: Callable[[Tensor], Any]) -> Add:
    """A statement inside the plate of the rows."""

    def added(story: RandomStory, x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            add(x)

    return added


def outside(add: Callable[[Tensor], Any]) -> Add:
    """A statement outside of it."""
    return lambda story, x: add(x)


def sample(law: Callable[[Tensor], Any], obs: Callable[[Tensor], Tensor | None] = lambda x: None) -> Any:
    """A sample statement of the extra site."""
    return lambda x: pyro.sample(EXTRA, law(x), obs=obs(x))


def first(x: Tensor) -> Tensor:
    """A number of each row, without gaps."""
    return x.nan_to_num().sum(-1)


def of_store(x: Tensor) -> None:
    """A parameter from Pyro's global store."""
    loc = pyro.param(EXTRA, torch.zeros(()).to(x))
    pyro.sample("stray", dist.Normal(loc, 1.0), obs=first(x))


def further(x: Tensor) -> None:
    """A site in a plate of its own beside that of the rows."""
    with pyro.plate("parts", 2, dim=-2):
        pyro.sample(EXTRA, _normal(x), obs=first(x).expand(2, -1))


def both(law: Callable[[Tensor], Any], obs: Callable[[Tensor], Tensor]) -> tuple[Add, None]:
    """A statement in the model's plate that observes."""
    return inside(sample(law, obs)), None


row = sample(lambda x: _normal(x))
code = sample(lambda x: dist.Categorical(torch.ones(2).to(x)))

ADDED: dict[str, tuple[Add | None, Add | None]] = {
    "latent that the guide lacks": (inside(row), None),
    "latent of the guide that the model lacks": (None, inside(row)),
    "latent inside the plate in the model only": (inside(row), outside(row)),
    "latent of each row outside the plate": (outside(sample(lambda x: _normal(x, len(x)))),) * 2,
    "global latent without to_event": (outside(sample(lambda x: _normal(x, 3))),) * 2,
    "observed outside the plate": (outside(sample(lambda x: _normal(x, len(x)), first)), None),
    "observed in the guide": (inside(row), inside(sample(lambda x: _normal(x), first))),
    "second discrete latent": (inside(code), inside(code)),
    "two sites of one name": (inside(sample(lambda x: _normal(x), first)),) * 2,
    "forgotten to_event": both(lambda x: _normal(x, len(x), 2), lambda x: x[:, :1].nan_to_num().expand(-1, 2)),
    "to_event of the rows too": both(lambda x: _normal(x, len(x), 1).to_event(2), lambda x: first(x)[:, None]),
    "reads x": (inside(sample(lambda x: dist.Normal(first(x), 1.0), first)), None),
    "observes the first row for all": both(lambda x: _normal(x, len(x)), lambda x: first(x)[:1]),
    "observes other rows": both(lambda x: _normal(x, len(x)), lambda x: first(x).roll(1)),
    "observes an average of the rows": both(lambda x: _normal(x, len(x)), lambda x: first(x).mean()),
    "parameter of the global store": (inside(of_store), None),
    "further plate": (inside(further), None),
    "guide outside the model's support": (
        inside(sample(lambda x: dist.LogNormal(_normal(x).loc, 1.0))),
        inside(sample(lambda x: dist.Normal(_normal(x).loc - 5, 0.1))),
    ),
}  # fmt: skip


class Broken(RandomStory):
    """A random story whose plan names a breach."""

    @property
    def breach(self) -> str:
        return self.plan["breach"]

    def plate(self, x: Tensor) -> Any:
        if self.breach == "plate of another size":
            return pyro.plate("data", 3)
        if self.breach == "mini-batch of another size":
            return pyro.plate("data", 100, subsample_size=3)
        return super().plate(x)

    def cluster(self, law: Any) -> Tensor:
        k, logits = self.n_clusters, law.logits
        if self.breach == "no cluster":
            return pyro.sample("component", law)
        if self.breach == "too many clusters":
            return pyro.sample("cluster", dist.Categorical(logits=torch.cat([logits, logits[:1]]))).clamp(max=k - 1)
        if self.breach == "too few clusters":
            return pyro.sample("cluster", dist.Categorical(logits=logits[:-1]))
        if self.breach == "observed cluster":
            return pyro.sample("cluster", law, obs=torch.zeros((), dtype=torch.long))
        if self.breach == "clusters that are no whole numbers":
            return pyro.sample("cluster", dist.Bernoulli(logits=logits[0])).long().clamp(max=k - 1)
        if self.breach == "one-hot clusters":
            return pyro.sample("cluster", dist.OneHotCategorical(logits=logits)).argmax(-1)
        return super().cluster(law)

    def site(self, i: int, k: Tensor, values: list[Tensor], shared: dict[str, Tensor], x: Tensor) -> None:
        if i == 0 and self.breach == "observes nothing of a site":
            with pyro.poutine.uncondition():
                super().site(i, k, values, shared, x)
        else:
            super().site(i, k, values, shared, x)

    def model(self, x: Tensor) -> Any:
        super().model(x)
        add = ADDED.get(self.breach, (None, None))[0]
        if add is not None:
            add(self, x)
        if self.breach == "two sites of one name":
            add(self, x)

    def guide(self, x: Tensor) -> Any:
        super().guide(x)
        add = ADDED.get(self.breach, (None, None))[1]
        if add is not None and self.breach != "two sites of one name":
            add(self, x)


NAMED = {
    "no cluster": "cluster", "too many clusters": "cluster", "too few clusters": "cluster",
    "observed cluster": "cluster", "clusters that are no whole numbers": "cluster", "one-hot clusters": "cluster",
    "plate of another size": "data", "mini-batch of another size": "data",
    "parameter of the global store": EXTRA, "outside the support": None, "observes nothing of a site": None,
} | dict.fromkeys(ADDED, EXTRA)  # fmt: skip
"""What a refusal names, by breach; None for the first site."""


def applies(name: str, plan: Plan) -> bool:
    """Whether a plan can have that breach."""
    site = plan["sites"][0]
    if name == "outside the support":
        return not FAMILIES[site["family"]].spans and site["mask"] is None and site["family"] != "von Mises"
    if name in ("too few clusters", "clusters that are no whole numbers"):
        return plan["n_clusters"] == 2
    if name == "observes nothing of a site":
        return site["mask"] not in ("observed", "off") and "rows" not in plan["values"]
    return True


def broken(plan: Plan, name: str) -> Broken:
    """The story of a plan with a breach."""
    with torch.random.fork_rng():
        torch.manual_seed(plan["seed"])
        return Broken({**plan, "breach": name}, parts_of(plan))


def breach(plan: Plan, name: str | None = None) -> Outcome:
    """Whether a breach in a story of that plan is refused: "right" where it is, by name, at each door.

    Args:
        plan: the story's.
        name: of the breach; None for one that its seed chooses.
    """
    if name is None:
        fitting = [name for name in NAMED if applies(name, plan)]
        name = fitting[plan["seed"] % len(fitting)]
    named = NAMED[name] or plan["sites"][0]["name"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = torch.as_tensor(Walk({**plan, "n_rows": 24}).x, dtype=getattr(torch, plan["dtype"]))
        if name == "outside the support":
            x[0, own_columns(plan)[0]] = -1.5
        for door in (pc.log_joint, lambda story, x: pc.fit(story, x, epochs=1, engine="eager", progress=False)):
            found = outcome(name, lambda door=door: door(copy.deepcopy(broken(plan, name)), x))
            pyro.clear_param_store()
            if found.status == "right":
                return Outcome(name, "wrong", "the breach passes")
            if found.status != "refused":
                return found
            if named not in found.detail:
                return Outcome(name, "wrong", f"the refusal does not name '{named}': {found.detail}")
    return Outcome(name, "right")
