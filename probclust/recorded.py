"""Classes whose instances remember their constructor's arguments, so that they can be saved and built anew."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from probclust.locking import alone


class Recorded(type):
    """Metaclass: stores the constructor's arguments in `arguments`, then calls `constructed()`.

    A class tells `inspect.signature` and `help` its constructor's arguments, not those of the metaclass' call.
    """

    @property
    def __signature__(cls) -> inspect.Signature:
        """The arguments of the constructor, without `self`."""
        return inspect.signature(cls.__init__.__get__(object()))  # type: ignore[misc]

    @alone
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Construct an instance and record how."""
        instance = super().__call__(*args, **kwargs)
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        bound = signature.bind(instance, *args, **kwargs)
        bound.apply_defaults()
        arguments = dict(list(bound.arguments.items())[1:])
        for parameter in signature.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                arguments |= arguments.pop(parameter.name)
        instance.arguments = arguments
        instance.constructed()
        return instance


class Part(nn.Module, metaclass=Recorded):
    """A part of a story that is passed in: a likelihood, a prior, a network.

    Attributes:
        arguments: the constructor's arguments, recorded.
    """

    arguments: dict[str, Any]

    def constructed(self) -> None:
        """Called once, after the constructor."""


def construct(cls: type, arguments: Mapping[str, Any]) -> Any:
    """A new instance of `cls` from the `arguments` that an earlier one recorded."""
    positional: list[Any] = []
    named = dict(arguments)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
    while parameters and parameters[-1].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.VAR_POSITIONAL,
    ):
        parameters.pop()
    for parameter in parameters:  # up to the last that takes no name
        value = named.pop(parameter.name)
        positional += value if parameter.kind is inspect.Parameter.VAR_POSITIONAL else [value]
    return cls(*positional, **named)


def fresh(value: Any) -> Any:
    """A new instance with the same constructor's arguments, its parts new too; weights drawn anew."""
    if isinstance(value, Part):
        return construct(type(value), {name: fresh(argument) for name, argument in value.arguments.items()})
    if isinstance(value, nn.Module):
        raise TypeError(
            f"a restart needs fresh weights, but the argument of class {type(value).__name__} cannot be built anew; "
            "derive it from probclust.Part"
        )
    if isinstance(value, list | tuple):
        return type(value)(fresh(item) for item in value)
    return value
