"""Classes whose instances remember their constructor's arguments, so that they can be saved and built anew."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections import OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

import torch
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
        renamed_state: names in the `state_dict` of an earlier version of the class, and what they are today, such as
            {"encoder": "codec.encoder"}: files and checkpoints with the old ones load. A class that has something of
            an old name still, as one that derives from this may, keeps it. Where the order of the parameters has
            changed too, all names in the earlier order, those that did not change included: earlier checkpoints number
            what the optimizer knows of each parameter.
    """

    arguments: dict[str, Any]
    renamed_state: ClassVar[Mapping[str, str]] = {}

    def constructed(self) -> None:
        """Called once, after the constructor."""

    def rename_state(self, state: MutableMapping[str, Any], prefix: str = "") -> None:
        """Give the entries of a state today's names, in place, where an earlier version of the class wrote it.

        Args:
            state: by name, of a module of which this part is one.
            prefix: of this part's names.
        """
        for old, new in renamed_state(type(self)).items():
            named = [name for name in state if _is_within(name, f"{prefix}{old}", f"{prefix}{new}")]
            if named and old != new and not any(_is_within(name, old, new) for name in self._state_names()):
                for name in named:
                    today = f"{prefix}{new}{name.removeprefix(prefix + old)}"
                    if today not in state:  # else the old one is unexpected, and torch says so
                        state[today] = state.pop(name)

    def _state_names(self) -> Iterator[str]:
        for named in (self.named_parameters, self.named_buffers):
            yield from (name for name, _ in named(remove_duplicate=False))

    def _load_from_state_dict(self, state_dict: MutableMapping[str, Any], prefix: str, *further: Any) -> None:
        self.rename_state(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *further)


def renamed_state(cls: type[Part]) -> dict[str, str]:
    """The names that changed in the `state_dict` of a class and of those that it derives from: today's by earlier."""
    return {old: new for base in reversed(cls.__mro__) for old, new in vars(base).get("renamed_state", {}).items()}


def in_earlier_order(cls: type[Part], names: Sequence[str]) -> list[str]:
    """Names of a part's parameters in the order of the version whose names `renamed_state` lists, if it lists all.

    Parameters of the part itself, which come first in any order, need not be listed.
    """
    listed = list(renamed_state(cls).values())
    places = {name: next((i for i, new in enumerate(listed) if _is_within(name, new)), -1) for name in names}
    if any(place < 0 and "." in name for name, place in places.items()):
        return list(names)
    return sorted(names, key=places.__getitem__)


def _is_within(name: str, path: str, less: str | None = None) -> bool:
    """Whether a name is that of `path` or of what is in it, but not within `less`."""
    return f"{name}.".startswith(f"{path}.") and (less is None or less == path or not _is_within(name, less))


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


def fresh(value: Any, made: dict[int, Any] | None = None) -> Any:
    """A new instance with the same constructor's arguments, its parts new too, wherever they stand; weights drawn anew.

    Parts inside lists, tuples, mappings, sets, dataclasses and torch's containers are found. A part that stands in
    several places stays one part. A module of another class is copied, and its layers draw their weights as their
    `reset_parameters` does; frozen weights (`requires_grad` False) stay.

    Args:
        value: a part, or what may hold parts; anything else is given back as it is.
        made: new instances by the `id` of the old, for what stands in several places.

    Raises:
        TypeError: a module has weights to train that nothing draws anew.
    """
    made = {} if made is None else made
    if id(value) not in made:
        made[id(value)] = _fresh(value, made)
    return made[id(value)]


def _fresh(value: Any, made: dict[int, Any]) -> Any:
    if isinstance(value, Part):
        arguments = {name: fresh(argument, made) for name, argument in value.arguments.items()}
        return construct(type(value), arguments)
    if type(value) is nn.Sequential or type(value) is nn.ModuleDict:
        return type(value)(OrderedDict((name, fresh(part, made)) for name, part in value._modules.items()))
    if type(value) is nn.ModuleList:
        return nn.ModuleList(fresh(part, made) for part in value)
    if isinstance(value, nn.Module):
        return _redrawn(value)
    if not _holds_modules(value):
        return value
    if isinstance(value, Mapping):
        again = {key: fresh(item, made) for key, item in value.items()}
        return again if type(value) is dict else _refilled(value, again)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(fresh(item, made) for item in value))
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(fresh(item, made) for item in value)
    again = copy.copy(value)  # a dataclass
    for field in dataclasses.fields(value):
        object.__setattr__(again, field.name, fresh(getattr(value, field.name), made))
    return again


def _holds_modules(value: Any) -> bool:
    if isinstance(value, nn.Module):
        return True
    if isinstance(value, Mapping):
        return any(_holds_modules(item) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return any(_holds_modules(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(_holds_modules(getattr(value, field.name)) for field in dataclasses.fields(value))
    return False


def _refilled(mapping: Any, items: dict[Any, Any]) -> Any:
    """A copy of a mapping of any class with other items under the same keys."""
    if not isinstance(mapping, MutableMapping):  # such as a mappingproxy
        return items
    again = copy.copy(mapping)
    again.update(items)
    return again


def _redrawn(module: nn.Module) -> nn.Module:
    again = copy.deepcopy(module)
    for layer in again.modules():
        own = list(layer.parameters(recurse=False))
        if not any(parameter.requires_grad for parameter in own):
            continue
        if not callable(reset := getattr(layer, "reset_parameters", None)):
            raise TypeError(
                f"a restart needs fresh weights, but the argument of class {type(module).__name__} cannot be built "
                f"anew; derive it from probclust.Part"
            )
        frozen = [(parameter, parameter.clone()) for parameter in own if not parameter.requires_grad]
        reset()
        with torch.no_grad():
            for parameter, kept in frozen:
                parameter.copy_(kept)
    return again
