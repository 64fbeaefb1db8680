"""Stories and parts by name: ours, those of installed packages, and those that a user registers."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any, TypeVar

from probclust.part import Part
from probclust.story.installed import installed_stories
from probclust.story.story import Story
from probclust.story.story_file import module_in

_T = TypeVar("_T", bound=type)
_registered: dict[str, type] = {}


def qualified_name(cls: type) -> str:
    """The name under which a saved story refers to a class, "module:Class"."""
    return f"{cls.__module__}:{cls.__qualname__}"


def register(cls: _T) -> _T:
    """Allow `pc.load` to build instances of a story or part class; a class decorator.

    Raises:
        TypeError: `cls` is neither a `Story` nor a `Part` class.
    """
    if not (isinstance(cls, type) and issubclass(cls, Part)):
        raise TypeError(f"expected a Story or Part class, got {cls!r}")
    _registered[qualified_name(cls)] = cls
    return cls


def registered_class(name: str) -> type | None:
    """The registered class of that qualified name, None where there is none.

    Beside the classes given to `register`, those are the stories of the entry points and the library's own parts.
    """
    if name in _registered:
        return _registered[name]
    module, _, qualified = name.partition(":")
    if module == "probclust" or (module.startswith("probclust.") and not module.endswith("__main__")):
        part = getattr(sys.modules.get(module), qualified, None)
        if part is None and importlib.util.find_spec(module) is not None:
            part = getattr(importlib.import_module(module), qualified, None)
        return part if isinstance(part, type) and issubclass(part, Part) else None
    for point in installed_stories().values():
        if point.module.partition(".")[0] == module.partition(".")[0]:
            story = point.load()
            if qualified_name(story) == name:
                return story
    return None


def story_names() -> list[str]:
    """Names of the installed stories."""
    return list(installed_stories())


def story_class(name: Any) -> type[Story]:
    """The story class of a name, of `path/to/file.py:Class`, or the class itself.

    Raises:
        ValueError: no such story; the message lists those there are.
        FileNotFoundError: the file does not exist.
        TypeError: what was found is no `Story` class.
    """
    found: Any = name
    if isinstance(name, str):
        path, colon, attribute = name.rpartition(":")
        if colon and path.endswith(".py"):
            found = _from_file(Path(path), attribute)
        else:
            if name not in story_names():
                raise ValueError(
                    f"no story is named {name!r}; expected one of {story_names()} or path/to/file.py:Class"
                )
            found = installed_stories()[name].load()
    if not (isinstance(found, type) and issubclass(found, Story)):
        raise TypeError(f"expected a Story class or the name of one, got {found!r}")
    return found


def _from_file(path: Path, attribute: str) -> Any:
    module = module_in(path)
    if not hasattr(module, attribute):
        stories = [
            n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Story) and v is not Story
        ]
        raise ValueError(f"{path} has no class {attribute!r}; its stories: {stories}")
    return getattr(module, attribute)
