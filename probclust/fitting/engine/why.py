"""Why a story cannot be recorded as a graph: said in a line, with the line of the story that is the cause."""

from __future__ import annotations

import inspect
import linecache
import traceback
from pathlib import Path

import lightning_fabric
import pyro
import torch


def why(error: Exception) -> str:
    """What kept a story from being traced, and the line of it that did."""
    reason = first_line(error)
    kind = type(error).__name__
    if "DataDependent" in kind or "DynamicOutputShape" in kind or "tracing tensor" in str(error):
        reason = "its course, or a shape, depends on values"
    elif "numpy" in str(error) or "tolist" in str(error):
        reason = "it takes values out of tensors"
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)]
    for frame in reversed(outside):
        line = linecache.getline(frame.filename, frame.lineno or 0).strip()
        return f"{reason}, at {frame.filename}:{frame.lineno}: {line}"
    return reason


def first_line(error: Exception) -> str:
    """What an error says, or its name where it says nothing."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]


_PACKAGE = Path(__file__).parents[2]
_LIBRARIES = (
    *(str(Path(inspect.getfile(package)).parent) for package in (torch, pyro, lightning_fabric)),
    *(str(path) for path in _PACKAGE.iterdir() if path.name != "models"),
)
"""Where lines of code are not the story's: the packages that run it, and this one without its stories."""
