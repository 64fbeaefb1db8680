"""Arguments that a story's recipe takes, at any commit."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any


def taken(recipe: Any, names: Iterable[str]) -> list[str]:
    """Those of `names` that a recipe takes, by itself or among the settings of its start."""
    parameters = inspect.signature(recipe).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return [name for name in names if name in parameters or (open_ended and name == "pretrain_epochs")]
