"""The steps of a fit, from a story's recipe and the arguments of `fit`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyro.infer import ELBO

from probclust.arguments import positive, real
from probclust.fitting.learning_rate import DEEP, usual_learning_rate
from probclust.objectives.bounds import Objective
from probclust.objectives.named import objective_named
from probclust.objectives.pyro_elbo import described
from probclust.starts.start import recipe_names
from probclust.story.pairs import Pairs
from probclust.story.recipe import SVI, Compute, Step, Train
from probclust.story.story import Story

EXPLODING = 1000.0
"""Norm of a gradient, in nats per row, to which plain SVI of networks clips; Adam does the same at any scale below."""


def steps_of(
    story: Story,
    recipe: Sequence[Step] | Mapping[str, Any] | None,
    epochs: int | None,
    objective: str | ELBO | None,
    learning_rate: float | None,
) -> list[Step]:
    """The steps of a fit: the story's recipe or the caller's, its SVI steps as the other arguments of `fit` have them.

    Raises:
        ValueError: the steps have no names of their own, belong to another story, or lack what is to be changed.
    """
    if recipe is None or isinstance(recipe, Mapping):
        taken = recipe_names(story.recipe)
        wrong = [name for name in recipe or {} if not (taken is None or name in taken)]
        if wrong:
            raise ValueError(
                f"recipe has no argument {wrong[0]!r}: {type(story).__name__}.recipe takes "
                f"{', '.join(taken or ()) or 'none'}"
            )
        recipe = story.recipe(**(recipe or {}))
    if isinstance(recipe, str | Compute | Train) or not (recipe is None or isinstance(recipe, Iterable)):
        raise TypeError(f"recipe must be a list of steps, such as [pc.SVI(epochs=10)], or a mapping, got {recipe!r}")
    steps: list[Step] = [_plain(story)] if recipe is None else list(recipe)
    for step in steps:
        if not isinstance(step, Compute | Train):
            raise TypeError(f"a recipe holds steps, such as pc.SVI(epochs=10), got {step!r}")
    names = [step.name for step in steps]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"a recipe needs at least one step, and names that differ, got {names}")
    for step in steps:
        function = step.run if isinstance(step, Compute) else step.loss
        owner = getattr(function, "__self__", story)
        if isinstance(owner, Story) and owner is not story:
            raise ValueError(
                f"step '{step.name}' belongs to another story; take the recipe of the story that is fitted"
            )
    if learning_rate is not None:
        real("learning_rate", learning_rate, 0)
    changes: dict[str, Any] = {"epochs": epochs, "objective": objective, "learning_rate": learning_rate}
    changes = {name: value for name, value in changes.items() if value is not None}
    if epochs is not None:
        positive("epochs", epochs)
    objective_named(objective)
    svi = [isinstance(step, SVI) and not step.to_start for step in steps]
    if changes and not any(svi):
        raise ValueError(
            f"{', '.join(changes)} would change the SVI steps, but this recipe has none (its steps: "
            f"{', '.join(names)}); pass recipe={{...}} with arguments of {type(story).__name__}.recipe instead"
        )
    if epochs is not None:
        changes["min_steps"] = 0
    steps = [dataclasses.replace(step, **changes) if free else step for step, free in zip(steps, svi, strict=True)]
    return [
        dataclasses.replace(step, learning_rate=usual_learning_rate(story))
        if isinstance(step, Train) and step.learning_rate is None
        else step
        for step in steps
    ]


def _plain(story: Story) -> SVI:
    """The step of a story without a recipe."""
    return SVI(clip=EXPLODING if usual_learning_rate(story) == DEEP else None)


def check_pairs(pairs: Any, steps: Sequence[Step], n_rows: int, n_clusters: int) -> None:
    """Raise where `pairs` are none, name rows that are not there, or no step would keep to them."""
    if not isinstance(pairs, Pairs):
        raise TypeError(f"pairs must be probclust.Pairs(must=..., cannot=...), got {type(pairs).__name__}")
    pairs.check(n_rows, n_clusters)
    if not any(isinstance(step, SVI) and not step.to_start for step in steps):
        raise ValueError("SVI steps keep to pairs, and this recipe has none after its start; choose another one")


def check_stored(steps: Sequence[Step]) -> None:
    """Raise where a step's objective needs all rows in memory, and they are read from where they are stored."""
    for step in steps:
        objective = getattr(step, "objective", None)
        if isinstance(objective, Objective) and objective.needs_all_rows:
            raise ValueError(
                f"step '{step.name}' ({objective.name}) needs all rows in memory, and these are read by batch; pass "
                "them as an array, or take another story or objective"
            )


def describe_step(step: Step) -> dict[str, Any]:
    """What a record says of a step: all plain settings that decide its result."""
    facts: dict[str, Any] = {}
    for field in dataclasses.fields(step):
        value = getattr(step, field.name)
        if field.name == "separable":  # it decides who computes what, not what comes of it
            continue
        if isinstance(value, Objective):
            value = value.describe()
        elif isinstance(value, ELBO):
            value = described(value)
        if value is None or isinstance(value, bool | int | float | str):
            facts[field.name] = value
    return facts
