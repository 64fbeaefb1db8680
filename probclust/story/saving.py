"""Save and load stories: weights as safetensors, the constructor's arguments as JSON, never pickle."""

from __future__ import annotations

import json
import os
from collections import namedtuple
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probclust.arguments import checked_path
from probclust.data.writing import check_writable
from probclust.errors import SavedStoryError
from probclust.locking import alone
from probclust.part import Part, construct
from probclust.story.archive import read_archive, write_archive
from probclust.story.registry import qualified_name, registered_class
from probclust.story.story import Story, check_state, checked_story

REMEDY = "decorate it with @pc.register and import its module first"


@alone
def save(story: Story, path: str | os.PathLike[str], facts: Mapping[str, Any] | None = None) -> None:
    """Write a story to one file: its weights as safetensors, its class and constructor's arguments as JSON.

    Args:
        story: any story.
        path: the file to write, replaced whole or not at all.
        facts: further JSON facts to keep with it, such as the record of its fit.

    Raises:
        TypeError: an argument of the constructor can be neither written as JSON nor built anew, or `facts` not
            written as JSON.
    """
    checked_story(story)
    check_state(story)
    check_writable(checked_path("path", path))
    if not (facts is None or isinstance(facts, Mapping)):
        raise TypeError(f"facts must be a mapping of what JSON can hold, got {facts!r}")
    try:
        json.dumps(facts)
    except (TypeError, ValueError) as error:
        raise TypeError(f"facts must be a mapping of what JSON can hold: {error}; got {facts!r}") from error
    story.add_global_guide()
    tensors: dict[str, Tensor] = {f"state.{name}": value for name, value in story.state_dict().items()}
    description = {
        "story": describe(story, tensors),
        "global_guide": story.global_guide_kind,
        "dtype": str(story.dtype).removeprefix("torch."),
        "feature_names": story.feature_names,
        "facts": dict(facts or {}),
    }
    write_archive(path, "story", tensors, description)


def load(path: str | os.PathLike[str], story_class: type[Story] | None = None) -> Story:
    """The story saved at `path`, on the CPU, in evaluation mode.

    Only classes that are registered (the library's, those of installed packages' entry points, those given to
    `pc.register`) or passed in are built; nothing in the file is executed.

    Args:
        path: a file written by `pc.save`.
        story_class: the story's class, where it is not registered.

    Raises:
        FileNotFoundError: there is no such file.
        SavedStoryError: the file is damaged, foreign, or names a class that is not registered.
    """
    tensors, description = read_archive(path, "story")
    state = {name.removeprefix("state."): t for name, t in tensors.items() if name.startswith("state.")}
    if story_class is not None and not (isinstance(story_class, type) and issubclass(story_class, Story)):
        raise TypeError(f"story_class must be a Story class, got {story_class!r}")
    try:
        name = str(description["story"]["class"])
    except (KeyError, TypeError) as error:
        raise SavedStoryError(f"{path} does not say which story it holds; write it anew with pc.save") from error
    known = {} if story_class is None else {name: story_class}
    try:
        if story_class is None and registered_class(name) is None:
            raise SavedStoryError(f"{path}: class {name} is not registered; pass it as story_class=..., or {REMEDY}")
        with alone, torch.random.fork_rng():
            story: Story = build(description["story"], tensors, known)
            story.use_global_guide(description["global_guide"])
            story.to(getattr(torch, description["dtype"]))  # the guide too: its priors may be of another dtype
            story.load_state_dict(state)
            story.feature_names = tuple(description.get("feature_names") or ()) or None
    except SavedStoryError:
        raise
    except Exception as error:
        raise SavedStoryError(
            f"{path} does not fit its class {name} ({error}); load it with the version of the class that saved it"
        ) from error
    return story.eval()


def saved_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The facts that `save` kept with a story."""
    facts: dict[str, Any] = read_archive(path, "story")[1]["facts"]
    return facts


def describe(
    value: Any, tensors: dict[str, Tensor] | None = None, where: str = "", places: dict[int, str] | None = None
) -> Any:
    """`value` as JSON: parts by class and arguments; tensors are put into `tensors` (or digested, without it).

    Args:
        value: a story, or an argument of it.
        tensors: by name.
        where: the value stands in the story's arguments.
        places: of the parts that were described already, by `id`: a part that stands in several places is one.
    """
    places = {} if places is None else places
    if isinstance(value, Part):
        if id(value) in places:
            return {"same": places[id(value)]}
        places[id(value)] = where
        arguments = {k: describe(v, tensors, f"{where}.{k}", places) for k, v in value.arguments.items()}
        return {"class": qualified_name(type(value)), "arguments": arguments}
    if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "biufc"):
        name = f"argument{where}"
        if tensors is not None:
            tensors[name] = torch.as_tensor(value)
        return {"tensor": name, "numpy": isinstance(value, np.ndarray)}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = {k: describe(v, tensors, f"{where}.{k}", places) for k, v in zip(value._fields, value, strict=True)}
        return {"named tuple": type(value).__name__, "fields": fields}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [describe(v, tensors, f"{where}.{i}", places) for i, v in enumerate(value)]}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {k: describe(v, tensors, f"{where}.{_quoted(k)}", places) for k, v in value.items()}}
    raise TypeError(
        f"the story's argument '{where.lstrip('.')}' is {type(value).__name__}, which cannot be saved; "
        "expected numbers, strings, lists, tensors, or an object whose class derives from probclust.Part"
    )


def _quoted(key: str) -> str:
    """A key of a mapping without dots, so that no two places have one name."""
    return key.replace("%", "%25").replace(".", "%2E")


def build(
    description: Any,
    tensors: Mapping[str, Tensor],
    known: Mapping[str, type],
    where: str = "",
    places: dict[str, Any] | None = None,
) -> Any:
    """The value that `describe` described; classes must be in `known` or registered.

    A named tuple comes back as one of the same name and fields, whose class is new.
    """
    places = {} if places is None else places

    def inner(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: build(value, tensors, known, f"{where}.{name}", places) for name, value in values.items()}

    if not isinstance(description, dict):
        return description
    if "class" in description:
        name = description["class"]
        cls = known.get(name) or registered_class(name)
        if cls is None:
            raise SavedStoryError(f"part {name} is not registered; {REMEDY}")
        places[where] = construct(cls, inner(description["arguments"]))
        return places[where]
    if "same" in description:
        return places[description["same"]]
    if "tensor" in description:
        tensor = tensors[description["tensor"]]
        return tensor.numpy() if description["numpy"] else tensor
    if "dict" in description:
        return {k: build(v, tensors, known, f"{where}.{_quoted(k)}", places) for k, v in description["dict"].items()}
    if "named tuple" in description:
        fields = inner(description["fields"])
        return namedtuple(description["named tuple"], fields)(**fields)
    (kind, values), *_ = description.items()
    items = list(inner({str(i): value for i, value in enumerate(values)}).values())
    return tuple(items) if kind == "tuple" else items
