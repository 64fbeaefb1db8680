"""Classes by name: those that the files of a folder define, so that a new file there is all that a new name takes."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

_T = TypeVar("_T")


def classes_named(package: str, base: type[_T]) -> Mapping[str, type[_T]]:
    """The classes of a package that derive from `base` and have a `name` of their own, by that name, in order.

    Args:
        package: such as "probclust.priors"; all its modules are imported.
        base: of the classes.

    Raises:
        ValueError: two classes have one name.

    Examples:
        >>> from probclust.objectives import Objective
        >>> classes_named("probclust.objectives", Objective)["hard"].__name__
        'Hard'
    """
    found: Mapping[str, type[_T]] = _classes_named(package, base)  # type: ignore[arg-type]
    return found


@functools.cache
def _classes_named(package: str, base: Any) -> Any:
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        for value in vars(importlib.import_module(module.name)).values():
            if not (isinstance(value, type) and issubclass(value, base) and value.__module__ == module.name):
                continue
            name = vars(value).get("name")
            if isinstance(name, str):
                if name in found:
                    raise ValueError(f"{found[name].__name__} and {value.__name__} are both named {name!r}")
                found[name] = value
    return MappingProxyType(dict(sorted(found.items())))
