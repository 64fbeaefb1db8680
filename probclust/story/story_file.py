"""Stories in files of their own, `path/to/file.py:Class`: loaded as modules, and pickled with their source."""

from __future__ import annotations

import copyreg
import linecache
import sys
from collections.abc import Callable
from importlib.util import decode_source
from pathlib import Path
from types import ModuleType
from typing import Any

from probclust.part import Recorded

FILE_MODULE = "probclust_story_"
"""How the modules of stories' own files are named, before the file's name."""
_loaded: dict[tuple[str, str], ModuleType] = {}
"""By path and text: a file that was changed is run anew, and what was made before keeps its classes."""


def module_in(path: Path) -> ModuleType:
    """The module in a file; it is run once for each text that the file has had.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it cannot be read as Python.
    """
    if not path.is_file():
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise FileNotFoundError(f"no file {path}{where}; expected path/to/file.py:Class")
    try:
        source = decode_source(path.read_bytes())
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read as Python: {error}; save it in UTF-8") from error
    return _module(str(path.resolve()), source)


def _module(path: str, source: str) -> ModuleType:
    name = f"{FILE_MODULE}{Path(path).stem}"
    module = _loaded.get((path, source))
    if module is None:
        module, before = ModuleType(name), sys.modules.get(name)
        module.__file__ = path
        linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)  # the file may be gone
        sys.modules[name] = module
        try:
            exec(compile(source, path, "exec", dont_inherit=True), vars(module))
        except BaseException:
            del sys.modules[name]
            if before is not None:
                sys.modules[name] = before
            raise
        _loaded[path, source] = module
    sys.modules[name] = module
    return module


def _pickled(cls: type) -> str | tuple[Callable[..., Any], tuple[str, str, str]]:
    """How the class of a story or part is pickled: by name, but with its source where it stands in a story's file."""
    origin = _origin(cls)
    return cls.__qualname__ if origin is None else (_unpickled, (*origin, cls.__qualname__))


def place_of(cls: type) -> str | None:
    """The "path/to/file.py:Class" of a class that stands in a story's file; None for others."""
    origin = _origin(cls)
    return None if origin is None else f"{origin[0]}:{cls.__qualname__}"


def _origin(cls: type) -> tuple[str, str] | None:
    """Path and text of the story's file in which a class stands."""
    if cls.__module__.startswith(FILE_MODULE):
        for origin, module in _loaded.items():
            if _attribute(module, cls.__qualname__) is cls:
                return origin
    return None


def _unpickled(path: str, source: str, name: str) -> Any:
    """A class of a story's file from the source that was pickled, so that the file need not be there."""
    try:
        return _attribute(_module(path, source), name)
    except ImportError as error:
        raise ImportError(
            f"the pickled story '{name}' of {path} imports what is not here ({error}); install it, or put its folder "
            "on Python's path"
        ) from error


def _attribute(module: ModuleType, qualified: str) -> Any:
    """What has that qualified name in a module; None where there is nothing."""
    found: Any = module
    for name in qualified.split("."):
        found = getattr(found, name, None)
    return found


copyreg.pickle(Recorded, _pickled)
