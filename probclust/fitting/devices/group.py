"""The devices of a fit: one, or several that run the same steps in a process each, through Lightning Fabric."""

from __future__ import annotations

import atexit
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

PATIENCE = timedelta(days=7)
"""How long processes wait for each other: a warm start that is computed once may take its time."""

ADVICE = (
    "a fit on several devices runs in processes of its own: start it under `if __name__ == '__main__':` in a script, "
    "with a story whose class stands in a file, and a recipe by its arguments; or start the processes with torchrun"
)
"""What a fit on several devices needs."""


class Devices:
    """What the processes of a fit tell each other. With one device there is one process, which tells nobody.

    Args:
        fabric: Lightning Fabric's, launched.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.number, self.n = fabric.global_rank, fabric.world_size
        self.device = fabric.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that computes what is computed once, and that writes and shows."""
        return self.number == 0

    def agree(self, value: Any) -> Any:
        """The first process's value, for all."""
        return value if self.n == 1 else self.fabric.broadcast(value)

    def once(self, function: Callable[[], Any], memory: dict[str, Tensor], modules: nn.Module | None = None) -> Any:
        """Call a function in the first process only; what it returned, raised and changed is then the same in all.

        Args:
            function: what to call.
            memory: the run's, of which it may replace entries.
            modules: whose parameters and buffers it may change; entries of memory may then be changed in place too.
        """
        if self.n == 1:
            return function()
        told: dict[str, Any] = {}
        if self.is_first:
            before = dict(memory)
            try:
                told["result"] = function()
            except Exception as error:
                told["error"] = _sendable(error)
            changed = {k: v for k, v in memory.items() if modules is not None or before.get(k) is not v}
            told["changed"] = {name: value.cpu() for name, value in changed.items()}
            told["gone"] = list(before.keys() - memory.keys())
            told["state"] = None if modules is None else {k: v.cpu() for k, v in modules.state_dict().items()}
        told = self.fabric.broadcast(told)
        if "error" in told:
            raise told["error"]
        if not self.is_first:
            memory |= {name: value.to(self.device) for name, value in told["changed"].items()}
            for name in told["gone"]:
                memory.pop(name, None)
            if modules is not None:
                modules.load_state_dict(told["state"])
        return told["result"]

    def agree_on_randomness(self) -> None:
        """Put torch's generators into the state that they have in the first process."""
        torch.set_rng_state(self.agree(torch.get_rng_state()))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self.agree(torch.cuda.get_rng_state(self.device)), self.device)

    def generators(self) -> dict[str, torch.Generator]:
        """Generators that go on from where torch's own are, by type of device."""
        found = {"cpu": torch.Generator()}
        found["cpu"].set_state(torch.get_rng_state())
        if self.device.type == "cuda":
            found["cuda"] = torch.Generator(self.device)
            found["cuda"].set_state(torch.cuda.get_rng_state(self.device))
        return found

    def sums(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The sums over all processes of tensors on their devices."""
        if self.n == 1 or not values:
            return list(values)
        flat = torch.cat([value.detach().double().reshape(-1) for value in values])
        total: Any = self.fabric.all_reduce(flat, reduce_op="sum")
        parts = total.split([value.numel() for value in values])
        return [part.reshape(value.shape).to(value.dtype) for part, value in zip(parts, values, strict=True)]

    def first_of(self, message: str | None) -> str | None:
        """The first message that any of the processes has, for all."""
        if self.n == 1:
            return message
        found: list[str | None] = [None] * self.n
        torch.distributed.all_gather_object(found, message)
        return next((text for text in found if text is not None), None)


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


_launched: Fabric | None = None


def enter(fabric: Fabric) -> None:
    """Say that this process was started for a fit on several devices, whose `Fabric` this is."""
    global _launched
    _launched = fabric
    atexit.register(leave)


def leave() -> None:
    """End what this process shares with the others of its fit, while Python still runs.

    A thread of gloo that outlives Python's end ends the process by SIGABRT (5 of 80 exits of a busy machine).
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def fabric_for(device: str, devices: int = 1, precision: Any = None) -> Fabric:
    """Lightning Fabric for a fit.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        devices: how many, on each machine.
        precision: Lightning Fabric's, or "tf32".

    Returns:
        Fabric, launched where the processes are there: with one device; within the processes of `launch`;
        and where torchrun or SLURM started one for each device.

    Raises:
        ValueError: there is no such device, or another number of processes was started.
    """
    if _launched is not None:
        return _launched
    kind, _, number = str(device).partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda', 'cuda:<number>' or 'mps', got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' asked for, but this torch sees no CUDA device; use device='auto' or 'cpu'")
    settings: dict[str, Any] = {"accelerator": kind, "precision": "32-true" if precision == "tf32" else precision}
    if devices == 1:
        if number and kind != "cuda":
            raise ValueError(f"device must be 'auto', 'cpu', 'cuda', 'cuda:<number>' or 'mps', got {device!r}")
        return Fabric(devices=[int(number)] if number else 1, **settings)
    _check_several(kind, number, devices)
    outside = _is_cluster()
    strategy = DDPStrategy(start_method="popen" if outside else "spawn", find_unused_parameters=True, timeout=PATIENCE)
    fabric = Fabric(devices=devices, num_nodes=_n_machines(devices), strategy=strategy, **settings)
    if outside:
        fabric.launch()
        atexit.register(leave)
    return fabric


def processes_exist() -> bool:
    """Whether this process is one of several that were started for a fit."""
    return _launched is not None or _is_cluster()


def _is_cluster() -> bool:
    return TorchElasticEnvironment.detect() or SLURMEnvironment.detect()


def _check_several(kind: str, number: str, devices: int) -> None:
    if number or kind == "mps":
        raise ValueError(
            f"devices={devices} needs device='auto', 'cpu' or 'cuda', got {kind + ':' * bool(number) + number!r}"
        )
    if hasattr(sys, "ps1") and not _is_cluster():
        raise ValueError(f"devices={devices} in an interactive session: {ADVICE}")
    if not torch.distributed.is_available():
        raise ValueError(f"devices={devices} needs a torch with torch.distributed, which this one lacks; use devices=1")
    there = torch.cuda.device_count()
    if kind == "cuda" and devices > there:
        raise ValueError(f"devices={devices} asked for, but this torch sees {there} CUDA devices; use devices={there}")


def _n_machines(devices: int) -> int:
    if TorchElasticEnvironment.detect():
        here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        if here != devices:
            raise ValueError(
                f"torchrun started {here} processes on this machine, but devices={devices}; make them equal"
            )
        return everywhere // here
    return int(os.environ["SLURM_NNODES"]) if SLURMEnvironment.detect() else 1
