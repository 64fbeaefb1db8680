"""The numbers of a story, kept wherever people keep them: parameters, buffers, parts, Pyro's own constrained ones."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn

import probclust as pc

HOMES = ("parameter", "attribute", "list", "frozen", "buffer", "pyro", "shared", "part")
"""Where a number may live."""
CONTAINERS = ("list", "tuple", "dict", "named tuple", "alone")
"""What the parts of a story are passed in."""
Pair = namedtuple("Pair", ["first", "second"])


@pc.register
class Holder(pc.Part):
    """A part with one parameter, drawn anew with each instance."""

    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.value = nn.Parameter(0.7 * torch.randn(shape))


class Numbers(nn.Module):
    """Numbers by name. Those whose name ends in "scale" are positive: kept as logarithms, or as Pyro keeps them.

    Args:
        seed: of their values.
        homes: where they live, one after the other.
        dtype: of all.
    """

    def __init__(self, seed: int, homes: list[str], dtype: torch.dtype) -> None:
        super().__init__()
        self.rng, self.homes, self.dtype = np.random.default_rng(seed), homes, dtype
        self.where: dict[str, str] = {}
        self.kept, self.twice = nn.ParameterDict(), nn.ParameterDict()
        self.listed = nn.ParameterList()
        self.bag = PyroModule()
        self.parts = nn.ModuleDict()

    def draw(self, name: str, *shape: int, spread: float = 0.7) -> None:
        """A new number."""
        value = torch.as_tensor(spread * self.rng.standard_normal(shape), dtype=self.dtype)
        home = self.homes[len(self.where) % len(self.homes)]
        self.where[name] = home if self.where else "parameter"  # the first tells the story's dtype
        self._keep(name, value, self.where[name])

    def _keep(self, name: str, value: Tensor, home: str) -> None:
        if home in ("parameter", "part"):
            self.kept[name] = nn.Parameter(value)
        elif home == "attribute":
            self.register_parameter(name, nn.Parameter(value))
        elif home == "list":
            self.where[name] = str(len(self.listed))
            self.listed.append(nn.Parameter(value))
        elif home == "frozen":
            self.kept[name] = nn.Parameter(value, requires_grad=False)
        elif home == "buffer":
            self.register_buffer(name, value)
        elif home == "shared":
            self.kept[name] = self.twice[name] = nn.Parameter(value)
        elif name.endswith("scale"):
            setattr(self.bag, name, PyroParam(value.exp(), constraint=constraints.positive))
        else:
            setattr(self.bag, name, PyroParam(value))

    def take(self, name: str, part: Holder) -> None:
        """Let a part that was passed in hold a number."""
        self.where[name] = "taken"
        self.parts[name] = part.to(self.dtype)

    def _raw(self, name: str) -> Tensor:
        home = self.where[name]
        if home.isdigit():
            return self.listed[int(home)]
        if home in ("attribute", "buffer"):
            return getattr(self, name)
        if home == "taken":
            return self.parts[name].value
        return self.kept[name]

    def __getitem__(self, name: str) -> Tensor:
        if self.where[name] == "pyro":
            return getattr(self.bag, name)
        raw = self._raw(name)
        return raw.exp() if name.endswith("scale") else raw

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """All numbers in float64, read from the leaves."""
        found = {}
        for name, home in self.where.items():
            positive = name.endswith("scale")
            raw = dict(self.bag.named_parameters())[f"{name}_unconstrained"] if home == "pyro" else self._raw(name)
            value = raw.detach().double().numpy()
            found[name] = np.exp(value) if positive else value
        return found


def contained(container: str, parts: list[Any]) -> Any:
    """Parts as the argument of a constructor."""
    if container == "dict":
        return dict(zip(("first", "second"), parts, strict=True))
    kinds = {"list": list, "tuple": tuple, "named tuple": lambda two: Pair(*two), "alone": lambda two: two[0]}
    return kinds[container](parts)


def first_of(container: str, parts: Any) -> Any:
    """The first part of such an argument, as an author would reach for it."""
    if container == "alone":
        return parts
    if container == "named tuple":
        return parts.first
    return parts["first"] if container == "dict" else parts[0]
