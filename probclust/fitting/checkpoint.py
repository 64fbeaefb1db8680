"""The checkpoint of a fit: where it stands, all it needs to go on, in one file that is replaced at once."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from probclust.part import Part, in_earlier_order
from probclust.story.archive import read_archive, write_archive
from probclust.story.registry import current_name

log = logging.getLogger(__name__)


@dataclass
class Position:
    """Where a fit stands: the next epoch of the next step of a restart, and what came before.

    `before` is the bound with which the step began, in nats per row, where it may end below it. Of a restart that
    failed the bound is minus infinity.
    """

    restart: int = 0
    step: int = 0
    epoch: int = 0
    before: float | None = None
    best_restart: int = 0
    bounds: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


class Checkpoint:
    """Keeps a fit's state, in memory and, where a path is given, in a file.

    Random numbers need no state: each step and epoch draws under a seed of its own.

    Args:
        path: the file, or None.
        settings: what decides the result; a file with other settings is refused.
        resume: read the file where it exists.
        writes: False where another process of the same fit writes it.

    Attributes:
        given: what no restart draws anew, as it was when the fit began: frozen parameters, buffers and networks beside
            the story, by name in the fit's modules.
        before: the state with which a step began that may end with a lower bound.

    Raises:
        ValueError: the file belongs to another fit.
        FileExistsError: the file holds an unfinished fit, and `resume` is False.
    """

    interval = 5.0

    def __init__(
        self, path: str | PathLike[str] | None, settings: dict[str, Any], *, resume: bool, writes: bool = True
    ) -> None:
        if resume and path is None:
            raise ValueError("resume=True needs checkpoint=..., the file to continue from")
        self.path = None if path is None else Path(path)
        self.settings, self.position, self.writes = settings, Position(), writes
        self.best: dict[str, Tensor] = {}
        self.given: dict[str, Tensor] = {}
        self.before: dict[str, Tensor] = {}
        self.tensors: dict[str, Tensor] = {}
        self.assignments: list[Tensor] = []
        self.started = self.written = time.monotonic()
        self.resumed = self.is_own = False
        if self.path is not None and self.path.exists():
            self._read(resume)

    def _read(self, resume: bool) -> None:
        tensors, facts = read_archive(self.path, "checkpoint")  # type: ignore[arg-type]
        position = Position(**facts["position"])
        unfinished = position.restart < facts["settings"]["n_init"]
        if not resume:
            if unfinished:
                raise FileExistsError(
                    f"{self.path} holds an unfinished fit; pass resume=True to continue it, or remove the file"
                )
            return
        then, now = (_named_as_today(settings) for settings in (facts["settings"], self.settings))
        differing = sorted(key for key in {*now, *then} if not _equal(then.get(key), now.get(key)))
        if differing:
            said = "; ".join(_difference(key, then.get(key), now.get(key)) for key in differing)
            raise ValueError(f"{self.path} is the checkpoint of another fit ({said}); use the same or another file")
        self.tensors, self.position, self.resumed = tensors, position, True
        self.best, self.given, self.before = (_under(f"{name}.", tensors) for name in ("best", "given", "before"))
        self.assignments = list(tensors.get("assignments", ()))

    def discard(self) -> None:
        """Remove the file of a fit that has failed before it trained anything; what another fit wrote stays."""
        if self.is_own and self.path is not None:
            self.path.unlink(missing_ok=True)

    def restore(self, modules: nn.Module, memory: dict[str, Tensor]) -> None:
        """Give the modules of the fit and the steps' memory their saved state, if there is one."""
        if self.tensors:
            modules.load_state_dict(_under("state.", self.tensors))
            device = next(modules.parameters()).device
            memory.update({k: v.to(device) for k, v in _under("memory.", self.tensors).items()})

    def restore_optimizer(self, optimizer: Any, modules: nn.ModuleList) -> None:
        """Give the optimizer of a step that was cut off its saved state, once.

        Args:
            optimizer: of the step.
            modules: of the fit, the story first.
        """
        names = _parameter_names(optimizer, modules)
        found: dict[str, dict[str, Tensor]] = {}
        for name, tensor in _under("optimizer.", self.tensors).items():
            owner, _, key = name.rpartition(".")
            found.setdefault(owner, {})[key] = tensor
        if all(owner.isdigit() for owner in found):  # an earlier version's, which has the parameters' numbers
            then = _in_earlier_order(names, modules)
            found = {then[int(number)]: state for number, state in found.items()}
        for path, part in modules.named_modules():
            if isinstance(part, Part):
                part.rename_state(found, f"{path}.")
        if unknown := found.keys() - set(names):
            raise ValueError(
                f"{self.path} knows the optimizer's state of parameters that the step does not train: "
                f"{', '.join(sorted(unknown))}; go on with the version that wrote it"
            )
        shapes = {name: parameter.shape for name, parameter in modules.named_parameters()}
        for name, state in found.items():
            if any(value.dim() and value.shape != shapes[name] for value in state.values()):
                raise ValueError(
                    f"{self.path} has the optimizer's state of another parameter in the place of '{name}', whose shape "
                    f"is {tuple(shapes[name])}; go on with the version that wrote it"
                )
        if found:
            numbered = {number: found[name] for number, name in enumerate(names) if name in found}
            optimizer.load_state_dict({"state": numbered, "param_groups": optimizer.state_dict()["param_groups"]})
        self.tensors = {}

    def offer(
        self, bound: float, state: Mapping[str, Tensor], memory: Mapping[str, Tensor], labels: Tensor | None = None
    ) -> None:
        """A restart ended with this bound; keep its (rows,) clusters, and its weights if it is the best so far."""
        self.position.bounds.append(bound)
        if labels is not None:
            self.assignments.append(labels)
        if not self.best or _rank(bound) > _rank(self.position.bounds[self.position.best_restart]):
            self.position.best_restart = len(self.position.bounds) - 1
            self.best = {f"state.{k}": v.detach().clone() for k, v in state.items()}
            self.best |= {f"memory.{k}": v.to("cpu", copy=True) for k, v in memory.items()}

    def failed(self) -> None:
        """A restart came to no end."""
        self.position.bounds.append(-math.inf)

    def best_state(self) -> dict[str, Tensor]:
        """The state of the best restart's story."""
        return _under("state.", self.best)

    def best_memory(self) -> dict[str, Tensor]:
        """What the best restart's steps left in memory."""
        return _under("memory.", self.best)

    def save_when_due(self, modules: nn.ModuleList, memory: dict[str, Tensor], optimizer: Any) -> None:
        """`save`, where the last one is some seconds past."""
        if time.monotonic() - self.written > self.interval:
            self.save(modules, memory, optimizer)

    def save(self, modules: nn.ModuleList, memory: dict[str, Tensor], optimizer: Any = None) -> None:
        """Write the fit's state; `optimizer` where a step is not yet through."""
        now = time.monotonic()
        self.position.seconds += now - self.started
        self.started = now
        if self.path is None or not self.writes:
            return
        tensors = {f"state.{k}": v for k, v in modules.state_dict().items()}
        tensors |= {f"memory.{k}": v for k, v in memory.items()}
        for name, kept in (("best", self.best), ("given", self.given), ("before", self.before)):
            tensors |= {f"{name}.{k}": v for k, v in kept.items()}
        if self.assignments:
            tensors["assignments"] = torch.stack(self.assignments)
        if optimizer is not None:
            names = _parameter_names(optimizer, modules)
            for number, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{names[number]}.{k}": torch.as_tensor(v) for k, v in state.items()}
        write_archive(self.path, "checkpoint", tensors, {"settings": self.settings, "position": asdict(self.position)})
        self.is_own = not self.resumed
        self.written = time.monotonic()
        log.debug("wrote %s", self.path)


def _rank(bound: float) -> float:
    return -math.inf if math.isnan(bound) else bound


def _parameter_names(optimizer: Any, modules: nn.ModuleList) -> list[str]:
    """Names in the fit's modules of the parameters that the optimizer numbers."""
    names = {id(parameter): name for name, parameter in modules.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _in_earlier_order(names: list[str], modules: nn.ModuleList) -> list[str]:
    """Names of parameters in the order in which an earlier version of the story had them, where a step trains all."""
    story: Any = modules[0]
    own = [name for name, parameter in story.named_parameters() if parameter.requires_grad]
    if names != [f"0.{name}" for name in own]:
        return names
    return [f"0.{name}" for name in in_earlier_order(type(story), own)]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _named_as_today(value: Any) -> Any:
    """Settings with today's names of classes: those of an earlier version may have moved since."""
    if isinstance(value, dict):
        return {key: _named_as_today(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_named_as_today(item) for item in value]
    return current_name(value) if isinstance(value, str) else value


def _equal(then: Any, now: Any) -> bool:
    """Whether two settings are one: what an earlier version did not have yet is as good as None."""
    if isinstance(then, dict) and isinstance(now, dict):
        return all(_equal(then.get(key), now.get(key)) for key in {**then, **now})
    if isinstance(then, list) and isinstance(now, list):
        return len(then) == len(now) and all(map(_equal, then, now))
    return bool(then == now)


def _difference(where: str, then: Any, now: Any) -> str:
    """The first place in which two settings differ, and what stands there."""
    if isinstance(then, dict) and isinstance(now, dict):
        key = next(key for key in {**then, **now} if not _equal(then.get(key), now.get(key)))
        return _difference(f"{where}.{key}", then.get(key), now.get(key))
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        place = next(place for place, pair in enumerate(zip(then, now, strict=True)) if not _equal(*pair))
        return _difference(f"{where}[{place}]", then[place], now[place])
    return f"{where}: expected {_short(then)}, got {_short(now)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."
