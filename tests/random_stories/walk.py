"""Takes a random story through every public function and says what became of each call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from random_stories.ancestral import drawn_rows
from random_stories.composed import told
from random_stories.outcome import Outcome, Wrong, outcome, require_between, require_close, rounding
from random_stories.plan import Plan, own_columns
from random_stories.shared import automatic_laws
from random_stories.truth import Expectation, Truth, global_draw, is_spread, log_weights

Array = NDArray[np.float64]
Check = Callable[["Walk"], None]

REPEATS = 400
"""Copies of a row, each with draws of its own, whose average is compared with an expectation."""
PASSES = 2
"""Draws of each copy."""
GLOBAL_PASSES = 8
"""Likewise, where global latents are drawn, once for all rows of a pass; the copies are fewer by as much."""
DEVIATIONS = 6.0
"""Standard errors that an average of draws may lie from its expectation: 2e-9 of false alarms where it is normal, and
about the square of what it is otherwise, as a value counts as wrong only where a second seed says so too."""


class Walk:
    """A story, its rows and the truth of both.

    Args:
        plan: the story's.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.dtype = plan, plan["dtype"]
        self.story = told(plan)
        self.rng = np.random.default_rng(plan["seed"] + 1)
        self.is_spread = any(is_spread(plan, latent) for latent in plan["globals"])
        self.by_cluster = any(latent["by_cluster"] for latent in plan["latents"])
        self.passes = GLOBAL_PASSES if self.is_spread else PASSES
        self.repeats = REPEATS * PASSES // self.passes
        self.x = self.rows(plan["n_rows"])
        self.tensor = torch.as_tensor(self.x, dtype=self.story.dtype)
        self.copies = self.tensor.repeat(self.repeats, 1)
        self.before = {name: value.clone() for name, value in self.story.state_dict().items()}

    @cached_property
    def right(self) -> Truth:
        """The truth of the rows."""
        return Truth(self.story, self.x)

    @cached_property
    def numbers(self) -> dict[str, Array]:
        """All numbers of the story, global latents at the guide's mean."""
        v = self.story.arrays()
        return v | global_draw(self.plan, v, automatic_laws(self.story), None)[0]

    def clusters(self, n: int) -> NDArray[np.int64]:
        """Of n rows, from the story."""
        return self.rng.choice(self.plan["n_clusters"], n, p=softmax(log_weights(self.plan, self.numbers)))

    def rows(self, n: int) -> Array:
        """(n, features) rows of the story, with some entries missing where it takes that."""
        x, _ = drawn_rows(self.plan, self.numbers, self.clusters(n), self.rng)
        for site, columns in zip(self.plan["sites"], own_columns(self.plan), strict=True):
            if site["family"] in ("beta", "dirichlet"):  # whose support is open: rounding would leave it
                x[:, columns] = x[:, columns].clip(1e-4, 1 - 1e-4)
        if self.plan["missing"]:
            x[self.rng.random(x.shape) < 0.25] = np.nan
        return x.astype(self.dtype).astype(np.float64)

    def close(self, what: str, got: Any, right: Any, slack: Any = 0.0) -> None:
        """Equal but for rounding and `slack`."""
        require_close(what, got, right, rounding(np.asarray(right), self.dtype) + slack)

    def likely(self, what: str, draws: Callable[[int], Any], expected: Expectation, passes: int | None = None) -> None:
        """The average of draws lies about its expectation, by one seed or another.

        Args:
            what: the function.
            draws: (copies, ...) from a seed; each the average over the passes.
            expected: of one draw.
            passes: of each draw.
        """
        slack = 1e-3 * (1 + np.abs(expected.mean))  # of the quadrature

        def check(seed: int) -> None:
            values = np.asarray(draws(seed), dtype=np.float64).reshape(-1, *expected.mean.shape)
            error = expected.error(passes or self.passes, len(values))
            self.close(what, values.mean(0), expected.mean, DEVIATIONS * error + slack)

        twice(check)

    def between(self, what: str, draws: Callable[[int], Any], low: Array, high: Array) -> None:
        """The average of draws lies between two values, by one seed or another."""

        def check(seed: int) -> None:
            values = np.asarray(draws(seed), dtype=np.float64).reshape(-1, *low.shape)
            error = DEVIATIONS * values.std(0) / np.sqrt(len(values)) + 1e-2
            require_between(what, values.mean(0), low - error, high + error)

        if not self.is_spread:
            twice(check)


def twice(check: Callable[[int], None]) -> None:
    """Passes where it passes under one of two seeds."""
    try:
        check(1)
    except Wrong:
        check(2)


def leaves_no_trace(w: Walk) -> None:
    """The story is what it was, and Pyro's store empty."""
    for name, value in w.story.state_dict().items():
        if not torch.equal(value, w.before[name]):
            raise Wrong(f"'{name}' of the story was changed")
    if list(pyro.get_param_store().keys()):
        raise Wrong(f"Pyro's store holds {list(pyro.get_param_store().keys())}")
    if not w.story.training:
        raise Wrong("the story was left in evaluation mode")


def calls() -> dict[str, Check]:
    """Every call of the walk, by name."""
    from random_stories import generation, life, scores

    return scores.CALLS | generation.CALLS | life.CALLS


RARE = {"to_inference_data": 8, "predictive_check": 4, "fit, staged": 10, "fit(n_init=2)": 3, "fit(objective)": 3}
"""Calls that take long, and one in how many stories takes them."""


def walk(plan: Plan, only: Any = None) -> Iterator[Outcome]:
    """What became of each call.

    Args:
        plan: the story's.
        only: names of the calls to make; all where None.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[Walk] = []
        made = outcome("constructor", lambda: found.append(Walk(plan)))
        yield made
        if made.status != "right":
            return
        for name, check in calls().items():
            if (only and name not in only) or (plan["seed"] + 1) % RARE.get(name, 1):
                continue
            yield outcome(name, lambda check=check: check(found[0]))
        yield outcome("leaves no trace", lambda: leaves_no_trace(found[0]))
