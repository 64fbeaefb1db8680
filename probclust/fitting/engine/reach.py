"""All plain state that a program can read: numbers and texts, wherever its code and its objects lead.

A recorded graph holds the numbers that the program read while it was recorded. They may stand in an attribute, a
dictionary, a list, an object of settings, a numpy array, a global of any module, a variable of an enclosing function,
an argument's default, the class. What the program can read is found from its code: the globals that it names, what its
functions enclose, and whatever hangs on the objects that it gets. Tensors the graph itself reads where they stand.
"""

from __future__ import annotations

import dis
import functools
import random
import re
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probclust.fitting.engine.watched import (
    PLAIN,
    Cell,
    ClassEntries,
    Entries,
    Function,
    Items,
    Named,
    Values,
    Watched,
    pickled,
)
from probclust.story.story import Story

MOST_PLACES, MOST_BYTES = 20_000, 2**22
"""What is compared at each epoch's start at most: places, and bytes of arrays."""

_LIBRARIES = {"torch", "pyro", "numpy", "scipy", "sklearn", "pandas", "lightning_fabric", "probclust"}
"""Packages whose code keeps no state of a user's; stories and parts of this package keep theirs in attributes."""

_CONSTANT = (
    *PLAIN,
    *(
        np.generic,
        Tensor,
        torch.dtype,
        torch.device,
        torch.layout,
        torch.Size,
        torch.Generator,
        re.Pattern,
        PurePath,
        range,
        slice,
    ),
    *(types.BuiltinFunctionType, types.CodeType, types.MethodDescriptorType, types.GetSetDescriptorType),
    *(
        types.MemberDescriptorType,
        types.WrapperDescriptorType,
        types.MethodWrapperType,
        type(...),
        type(NotImplemented),
    ),
)
_APART = {"logging", "threading", "_thread", "weakref", "io", "_io", "_abc", "rich", "tqdm", "typing"}
"""Modules whose objects have nothing to do with a loss: logs, locks, files."""

_OUTSIDE = {"open", "input", "eval", "exec"}
_OUTSIDE_ATTRIBUTES = {"open", "read", "read_text", "read_bytes", "getenv", "time", "perf_counter", "now", "today"}
"""Functions and methods by which code reads what no object holds."""

_PROGRAMS = {"model", "guide", "complete_guide", "forward"}
"""Methods of a story that a loss calls."""

_HOLDS: dict[Any, tuple[str, ...]] = {
    types.MethodType: ("__func__", "__self__"),
    staticmethod | classmethod: ("__func__",),
    property: ("fget",),
    functools.cached_property: ("func",),
    functools.partial: ("func", "args", "keywords"),
}
"""What leads on from objects that stand for functions."""

_BOOKKEEPING = vars(nn.Module()).keys() - {"_forward_hooks", "_forward_pre_hooks"}
"""Attributes of every module of torch's own."""


class Reach:
    """The plain state that things lead to, at one moment.

    Args:
        things: modules, objects and functions.

    Attributes:
        is_complete: False where something is reached that cannot be compared: a file, a running generator.
    """

    def __init__(self, things: Iterable[Any]) -> None:
        self.places: list[Watched] = []
        self.is_complete = True
        self.n_bytes = 0
        self.seen: dict[int, Any] = {}
        self.names: set[tuple[int, str]] = set()
        self.attributes: frozenset[str] = frozenset()
        self.modules: dict[int, types.ModuleType] = {}
        self.methods: list[tuple[str, Any]] = []
        self.waiting = deque((thing, _name_of(thing)) for thing in things)
        while self.waiting:
            if len(self.places) > MOST_PLACES:
                self.is_complete = False
                break
            self._visit(*self.waiting.popleft())
            if not self.waiting:
                self._follow_names()
        self.waiting.clear()

    def changed(self) -> str | None:
        """The first place that no longer holds what it held, in words; None where all do."""
        return next((found for place in self.places if (found := place.difference()) is not None), None)

    def restore(self) -> None:
        """Put back what has changed."""
        for place in self.places:
            if place.difference() is not None:
                place.restore()

    def _visit(self, value: Any, where: str) -> None:
        if isinstance(value, _CONSTANT) or id(value) in self.seen:
            return
        self.seen[id(value)] = value
        if isinstance(value, nn.Module):
            self._attributes(value, where)
            self._later(value._modules, where)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, dict):
            self.places.append(Entries(value, where))
            self._later(value, where)
        elif isinstance(value, list | deque):
            self._list(value, where)
        elif isinstance(value, tuple | frozenset | set):
            self._collection(value, where)
        elif isinstance(value, np.ndarray):
            self._array(value, where)
        elif isinstance(value, np.random.Generator | np.random.RandomState | random.Random):
            self._generator(value, where)
        elif isinstance(value, types.ModuleType):
            self.modules[id(value)] = value
        else:
            self._object(value, where)

    def _follow_names(self) -> None:
        """What the code found so far reads of modules, and the stories' methods that it calls."""
        for module in list(self.modules.values()):
            self._namespace(vars(module), self.attributes)
        called = [method for method in self.methods if method[0] in self.attributes]
        self.methods = [method for method in self.methods if method[0] not in self.attributes]
        self.waiting.extend((function, name) for name, function in called)

    def _later(self, values: Mapping[Any, Any], where: str) -> None:
        for key, value in values.items():
            if not isinstance(value, PLAIN):
                self.waiting.append((value, f"[{key!r}] of {where}"))

    def _attributes(self, value: Any, where: str) -> None:
        own = vars(value)
        self.places.append(Entries(own, where, attributes=True))
        for name, held in own.items():
            if name not in _BOOKKEEPING and not isinstance(held, PLAIN):
                self.waiting.append((held, f"attribute '{name}' of {where}"))
        self.waiting.append((type(value), ""))

    def _list(self, value: Any, where: str) -> None:
        self.places.append(Items(value, where))
        if len(value) > MOST_PLACES:
            self.is_complete = False
            return
        self.waiting.extend((item, f"[{n}] of {where}") for n, item in enumerate(value) if not isinstance(item, PLAIN))

    def _collection(self, value: Any, where: str) -> None:
        if isinstance(value, set):
            self.places.append(Values(lambda: set(value), lambda then: _refill(value, then), where))
        self.waiting.extend((item, where) for item in value if not isinstance(item, PLAIN))

    def _array(self, value: Any, where: str) -> None:
        if value.dtype.hasobject:
            self.waiting.append((value.tolist(), where))
        self.n_bytes += value.nbytes
        if value.dtype.hasobject or self.n_bytes > MOST_BYTES:
            self.is_complete = False
            return
        self.places.append(Values(value.copy, lambda then: np.copyto(value, then), where))

    def _generator(self, value: Any, where: str) -> None:
        if isinstance(value, np.random.Generator):
            bits = value.bit_generator
            get, put = lambda: bits.state, lambda then: setattr(bits, "state", then)
        elif isinstance(value, np.random.RandomState):
            get, put = lambda: value.get_state(legacy=False), value.set_state
        else:
            get, put = value.getstate, value.setstate
        self.places.append(Values(get, put, where))

    def _object(self, value: Any, where: str) -> None:
        kind = type(value)
        top = kind.__module__.partition(".")[0]
        if top in _APART or "ock" in kind.__name__:
            return
        for known, names in _HOLDS.items():
            if isinstance(value, known):
                self.waiting.extend((getattr(value, name), where) for name in names)
                return
        own = getattr(value, "__dict__", None)
        if isinstance(own, dict) and top in ("torch", "pyro"):
            # they remember what they computed; what a user sets is a number
            numbers = {name: item for name, item in own.items() if isinstance(item, bool | int | float | str)}
            self.places.append(Named(own.get, own.__setitem__, numbers, where))
            self.waiting.extend((item, where) for item in own.values() if isinstance(item, list | tuple | dict))
        elif isinstance(own, dict):
            self._attributes(value, where)
        slots = [name for cls in kind.__mro__ for name in _slots(cls) if hasattr(value, name)]
        if slots:
            values = {name: getattr(value, name) for name in slots}
            get = functools.partial(getattr, value)
            self.places.append(Named(get, functools.partial(object.__setattr__, value), values, where))
            self._later(values, where)
            self.waiting.append((kind, ""))
        if (own is None and not slots) or not all(map(_is_python, kind.__mro__[:-1])):
            self._opaque(value, where)

    def _opaque(self, value: Any, where: str) -> None:
        """An object that shows no attributes: an iterator, a C type."""
        try:
            self.n_bytes += len(pickled(value))
            if self.n_bytes > MOST_BYTES:
                raise ValueError
        except Exception:
            self.is_complete = False
            return
        self.places.append(Values(lambda: pickled(value), lambda then: None, where))

    def _class(self, value: type) -> None:
        for cls in value.__mro__:
            if _is_library(cls.__module__) or (cls is not value and id(cls) in self.seen):
                continue
            self.seen[id(cls)] = cls
            self.places.append(ClassEntries(cls))
            held = {name: item for name, item in vars(cls).items() if name != "_abc_impl"}
            if issubclass(cls, Story):  # of its methods, those that the loss calls
                self.methods += [(name, item) for name, item in held.items() if isinstance(item, types.FunctionType)]
                held = {name: item for name, item in held.items() if name in _PROGRAMS or not callable(item)}
            self._later(held, cls.__qualname__)

    def _function(self, value: types.FunctionType) -> None:
        if _is_library(value.__module__ or ""):
            return
        self.places.append(Function(value, value.__qualname__))
        self.waiting.extend((item, value.__qualname__) for item in (value.__defaults__ or ()))
        self._later(value.__kwdefaults__ or {}, value.__qualname__)
        self.places.append(Entries(vars(value), value.__qualname__, attributes=True))
        self._later(vars(value), value.__qualname__)
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            if id(cell) not in self.seen and _is_filled(cell):
                self.seen[id(cell)] = cell
                self.places.append(Cell(cell, f"'{name}' around {value.__qualname__}"))
                self.waiting.append((cell.cell_contents, f"'{name}' around {value.__qualname__}"))
        names, attributes = _names(value.__code__)
        self.attributes |= attributes
        if names & _OUTSIDE - value.__globals__.keys() or attributes & _OUTSIDE_ATTRIBUTES:
            self.is_complete = False
        self._namespace(value.__globals__, names)
        imported = [sys.modules[name] for name in attributes & sys.modules.keys()]
        self.modules |= {id(module): module for module in imported}

    def _namespace(self, space: dict[str, Any], names: frozenset[str]) -> None:
        """The names of a module that code reads."""
        module = str(space.get("__name__", "__main__"))
        if module.partition(".")[0] in _LIBRARIES:
            return
        fresh = {name: space[name] for name in names & space.keys() if (id(space), name) not in self.names}
        if not fresh:
            return
        self.names |= {(id(space), name) for name in fresh}
        self.places.append(Named(space.get, space.__setitem__, fresh, module))
        self.waiting.extend((item, f"'{name}' of {module}") for name, item in fresh.items())


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The globals that code reads, and the names of attributes and modules, or texts that may be such names."""
    found = {"LOAD_GLOBAL": set(), "LOAD_NAME": set()}  # type: dict[str, set[str]]
    for step in dis.get_instructions(code):
        if step.opname in found:
            found[step.opname].add(step.argval)
    names = frozenset().union(*found.values())
    attributes = frozenset(code.co_names) - names | {
        item for item in code.co_consts if isinstance(item, str) and item.isidentifier()
    }
    if "globals" in names:
        names |= attributes
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names, attributes = names | _names(inner)[0], attributes | _names(inner)[1]
    return names, attributes | names


@functools.lru_cache(maxsize=4096)
def _is_library(module: str) -> bool:
    top = module.partition(".")[0]
    if top in _LIBRARIES:
        return True
    file = getattr(sys.modules.get(top), "__file__", None)  # a script may have the name of one of Python's modules
    return top in sys.stdlib_module_names and top != "__main__" and (file is None or file.startswith(_PYTHON))


_PYTHON = sysconfig.get_path("stdlib")


def _refill(value: set[Any], then: set[Any]) -> None:
    value.clear()
    value.update(then)


def _is_python(cls: type) -> bool:
    """Whether a class was written in Python, so that its instances hold nothing but attributes."""
    return bool(cls.__flags__ & 1 << 9)


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _slots(cls: type) -> list[str]:
    slots = vars(cls).get("__slots__", ())
    return [name for name in ([slots] if isinstance(slots, str) else slots) if name not in ("__dict__", "__weakref__")]


def _name_of(thing: Any) -> str:
    return getattr(thing, "__qualname__", None) or type(thing).__name__
