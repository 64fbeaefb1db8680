"""Places that hold plain state, with what each held at one moment: to tell whether it changed, and to put it back."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence
from operator import is_
from types import CellType, FunctionType
from typing import Any, Protocol

import numpy as np

PLAIN = (type(None), bool, int, float, complex, str, bytes)


class Watched(Protocol):
    """A place and what it held."""

    where: str

    def difference(self) -> str | None:
        """What has changed, in words; None where nothing has."""

    def restore(self) -> None:
        """Put back what it held."""


def same(value: Any, old: Any) -> bool:
    """Whether a place holds what it held: the same object, or an equal number, text or tuple of them."""
    if value is old:
        return True
    if type(value) is not type(old):
        return False
    if isinstance(value, tuple):
        return len(value) == len(old) and all(map(same, value, old))
    return isinstance(value, (*PLAIN, np.generic)) and bool(value == old)


class Entries:
    """All entries of a dictionary: of an object's attributes, or one that a program keeps."""

    def __init__(self, live: MutableMapping[Any, Any], where: str, attributes: bool = False) -> None:
        self.live, self.where, self.attributes = live, where, attributes
        self.then = dict(live)
        self.values = tuple(self.then.values())

    def difference(self) -> str | None:
        """The first entry that is another, or gone, or new."""
        live, then = self.live, self.then
        if len(live) == len(then) and all(map(is_, live.values(), self.values)):
            return None
        if live.keys() != then.keys():
            return self._named(next(iter(live.keys() ^ then.keys())))
        return next((self._named(key) for key, value in live.items() if not same(value, then[key])), None)

    def _named(self, key: Any) -> str:
        return f"attribute '{key}' of {self.where}" if self.attributes else f"[{key!r}] of {self.where}"

    def restore(self) -> None:
        """Put all of them back."""
        self.live.clear()
        self.live.update(self.then)


class ClassEntries(Entries):
    """All entries of a class."""

    def __init__(self, live: type) -> None:
        super().__init__(vars(live), live.__qualname__, attributes=True)  # type: ignore[arg-type]
        self.owner = live

    def restore(self) -> None:
        """Put all of them back."""
        for name in self.live.keys() - self.then.keys():
            delattr(self.owner, name)
        for name, old in self.then.items():
            if self.live.get(name) is not old:
                setattr(self.owner, name, old)


class Named:
    """Some names of a namespace: a module's globals that programs read, an object's slots."""

    def __init__(
        self, get: Callable[[str], Any], put: Callable[[str, Any], None], values: Mapping[str, Any], where: str
    ) -> None:
        self.get, self.put, self.values, self.where = get, put, dict(values), where

    def difference(self) -> str | None:
        """The first name that stands for something else."""
        changed = (name for name, old in self.values.items() if not same(self.get(name), old))
        return next((f"'{name}' of {self.where}" for name in changed), None)

    def restore(self) -> None:
        """Let each name stand for what it stood for."""
        for name, old in self.values.items():
            if self.get(name) is not old:
                self.put(name, old)


class Items:
    """The items of a list, in order."""

    def __init__(self, live: MutableSequence[Any], where: str) -> None:
        self.live, self.where, self.then = live, where, tuple(live)

    def difference(self) -> str | None:
        """The first item that is another."""
        if len(self.live) != len(self.then):
            return f"the length of {self.where}"
        if all(map(is_, self.live, self.then)):
            return None
        pairs = enumerate(zip(self.live, self.then, strict=True))
        return next((f"[{number}] of {self.where}" for number, pair in pairs if not same(*pair)), None)

    def restore(self) -> None:
        """Put all of them back."""
        self.live.clear()
        self.live.extend(self.then)


class Cell:
    """A variable of a function that an inner function reads."""

    def __init__(self, live: CellType, where: str) -> None:
        self.live, self.where, self.then = live, where, live.cell_contents

    def difference(self) -> str | None:
        """The variable, where it stands for something else."""
        return None if same(self.live.cell_contents, self.then) else self.where

    def restore(self) -> None:
        """Let it stand for what it stood for."""
        self.live.cell_contents = self.then


class Function:
    """A function's code and its arguments' defaults."""

    def __init__(self, live: FunctionType, where: str) -> None:
        self.live, self.where = live, where
        self.then = self._now()

    def _now(self) -> tuple[Any, Any, Any]:
        named = self.live.__kwdefaults__
        return self.live.__code__, self.live.__defaults__, named and tuple(named.items())

    def difference(self) -> str | None:
        """The function, where it is another."""
        return None if same(self._now(), self.then) else f"the defaults of {self.where}"

    def restore(self) -> None:
        """Put its code and its defaults back."""
        self.live.__code__, self.live.__defaults__, named = self.then
        self.live.__kwdefaults__ = named and dict(named)


class Values:
    """What something holds that is no object: the elements of an array, the state of a generator of random numbers.

    Args:
        get: a copy of it, of plain values and arrays, or bytes.
        put: puts a copy back.
        where: what it is of.
    """

    def __init__(self, get: Callable[[], Any], put: Callable[[Any], None], where: str) -> None:
        self.get, self.put, self.where, self.then = get, put, where, get()

    def difference(self) -> str | None:
        """The whole of it, where any is different."""
        return None if _equal(self.get(), self.then) else self.where

    def restore(self) -> None:
        """Put it back."""
        self.put(self.then)


def pickled(value: Any) -> bytes:
    """What an object holds that shows no attributes, as bytes.

    Raises:
        Exception: it cannot be told.
    """
    try:
        return bytes(memoryview(value))
    except TypeError:
        return pickle.dumps(value)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    return bool(one == other)
