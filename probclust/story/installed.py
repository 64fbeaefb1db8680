"""The installed stories, by entry point, and what each says of itself. Nothing heavy is imported to list them."""

from __future__ import annotations

import ast
import inspect
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec, resolve_name
from pathlib import Path

GROUP = "probclust.stories"


def installed_stories() -> dict[str, EntryPoint]:
    """The installed stories by name: ours and those of other packages in entry-point group `probclust.stories`."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def summary(point: EntryPoint) -> str:
    """The first line of a story's docstring, read from its source; imported only where it is not found there."""
    doc = _docstring(point.module, point.attr)
    if doc is None:
        doc = inspect.getdoc(point.load()) or ""
    return doc.partition("\n")[0]


def _docstring(module: str, name: str) -> str | None:
    """Docstring of a class that a module defines, or imports by name from another; None where that cannot be read."""
    spec = find_spec(module)
    if spec is None or not (spec.origin or "").endswith(".py"):
        return None
    stub = Path(f"{spec.origin}i")  # a package whose names are loaded at first use lists them there
    source = stub if stub.exists() else Path(str(spec.origin))
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return ast.get_docstring(node)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    package = str(spec.parent)
                    return _docstring(resolve_name("." * node.level + (node.module or ""), package), alias.name)
    return None
