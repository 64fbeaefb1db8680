"""Stories and parts by name: ours, those of installed packages, and those that a user registers."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from probclust.moved import now
from probclust.part import Part
from probclust.story.installed import installed_stories
from probclust.story.story import Story
from probclust.story.story_file import module_in

_T = TypeVar("_T", bound=type)
OURS = "probclust"
_registered: dict[str, type] = {}
"""By module and name of the definition."""


def qualified_name(cls: Any) -> str:
    """The name under which a file refers to a class, "module:Class": by the shortest public path that leads to it.

    `probclust.likelihoods:Gaussian`, say, wherever the class is defined: files outlive the places of modules.
    """
    return min(_names(cls), key=lambda name: name.count("."))


def _names(cls: Any) -> list[str]:
    """All names by which a file may refer to a class: by the packages that show it, the outermost first, and its own.

    For ours, `probclust.dissimilarities` and the like are among them: older public paths of a package within a room.
    """
    module, qualified = cls.__module__ or "", cls.__qualname__
    parts = module.split(".")
    packages = [".".join(parts[:depth]) for depth in range(1, len(parts))]
    if parts[0] == OURS:
        packages += [f"{OURS}.{part}" for part in parts[1:] if part in sys.modules[OURS].__all__]
    shown = [package for package in packages if _is_shown(cls, package)]
    return [f"{package}:{qualified}" for package in dict.fromkeys([*shown, module])]


def _is_shown(cls: Any, package: str) -> bool:
    """Whether a package gives the very class by its name, as one of its public names."""
    face = _module(package)
    first = cls.__qualname__.partition(".")[0]
    is_public = not any(part.startswith("_") for part in (*package.split("."), first))
    return is_public and first in getattr(face, "__all__", (first,)) and _found(face, cls.__qualname__) is cls


def register(cls: _T) -> _T:
    """Allow `pc.load` to build instances of a story or part class; a class decorator.

    Raises:
        TypeError: `cls` is neither a `Story` nor a `Part` class.
    """
    if not (isinstance(cls, type) and issubclass(cls, Part)):
        raise TypeError(f"expected a Story or Part class, got {cls!r}")
    _registered[f"{cls.__module__}:{cls.__qualname__}"] = cls
    return cls


def registered_class(name: str) -> type | None:
    """The registered class of that qualified name, None where there is none.

    Beside the classes given to `register`, those are the stories of the entry points and the library's own parts, by
    any name that they had.
    """
    if name in _registered:
        return _registered[name]
    module = name.partition(":")[0]
    if module.partition(".")[0] == OURS:
        part = _of_ours(name)
        return part if isinstance(part, type) and issubclass(part, Part) else None
    for cls in _registered.values():
        if name in _names(cls):
            return cls
    for point in installed_stories().values():
        if point.module.partition(".")[0] == module.partition(".")[0]:
            story = point.load()
            if name in _names(story):
                return story
    return None


def current_name(name: str) -> str:
    """Today's name of what an earlier version called by that one, such as a class that has moved since.

    Of other packages' classes and functions, those that are there anyway are known; nothing is imported for a name.
    """
    module, colon, qualified = name.partition(":")
    is_ours = module.partition(".")[0] == OURS
    found = _of_ours(name) if colon and is_ours else _found(sys.modules.get(module), qualified)
    return qualified_name(found) if hasattr(found, "__qualname__") else name


def _of_ours(name: str) -> Any:
    """What has that name in the library, or had it before its module moved; None where there is nothing."""
    module, _, qualified = name.partition(":")
    if module.endswith("__main__"):
        return None
    for place in (*now(module), module):
        found = _found(_module(place), qualified)
        if found is not None:
            return found
    return None


def _module(name: str) -> ModuleType | None:
    """A module, imported where it was not yet; None where no file has it, as for one that has moved."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):  # what should be its package is none
        return None
    return importlib.import_module(name) if spec is not None and spec.origin is not None else None


def _found(module: ModuleType | None, qualified: str) -> Any:
    """What has a qualified name in a module; None where there is nothing."""
    found: Any = module
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found


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
