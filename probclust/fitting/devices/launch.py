"""Processes for a fit on several devices of one machine, where neither torchrun nor SLURM has started them."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from probclust.errors import FitWarning
from probclust.fitting.devices.group import ADVICE, enter
from probclust.fitting.record import FitRecord
from probclust.progress import Progress
from probclust.story.story import Story

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of every process


def launch(
    fabric: Fabric, fit: Callable[..., FitRecord], story: Story, x: Any, arguments: Mapping[str, Any]
) -> FitRecord:
    """Fit a story in new processes, one for each device, and bring its weights back.

    Args:
        fabric: Lightning Fabric's, not yet launched.
        fit: what each process runs, `pc.fit`; a function of a module, which other processes can import.
        story: is sent to the processes, and gets the fitted weights.
        x: (rows, n_features); a tensor is mapped into each process from one temporary file.
        arguments: further ones of `fit`, by name.

    Returns:
        The record of the run.

    Raises:
        ValueError: the story or an argument cannot be sent to another process.
        Exception: what the fit raised.
    """
    recipe, progress = arguments["recipe"], arguments["progress"]
    if not (recipe is None or isinstance(recipe, Mapping)) or isinstance(progress, Progress):
        name = "recipe" if isinstance(progress, bool | None) else "progress"
        raise ValueError(f"{name} is an object of this process, and {ADVICE}")
    with tempfile.TemporaryDirectory(prefix="probclust-") as folder:
        inputs, outcome = Path(folder) / "inputs", Path(folder) / "outcome"
        try:
            torch.save({"story": story, "x": x, **arguments}, inputs)
        except Exception as error:
            raise ValueError(f"{error}: {ADVICE}") from error
        try:
            with _quiet_torch():
                fabric.launch(_fit, fit, inputs, outcome)  # type: ignore[arg-type]
        except Exception as error:
            raise RuntimeError(f"a process of the fit ended early ({error}); {ADVICE}") from error
        result = torch.load(outcome, weights_only=False)
    for category, message in result["warnings"]:
        warnings.warn(message, category, stacklevel=3)
    if "error" in result:
        raise result["error"]
    story.load_state_dict(result["state"])
    story.to(fabric.device).eval()
    record: FitRecord = result["record"]
    return record


@contextmanager
def _quiet_torch() -> Iterator[None]:
    """Processes started within do not print torch's warnings of parameters that all have a gradient."""
    before = os.environ.get("TORCH_CPP_LOG_LEVEL")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        yield
    finally:
        if before is None:
            del os.environ["TORCH_CPP_LOG_LEVEL"]


def _fit(fabric: Fabric, fit: Callable[..., FitRecord], inputs: Path, outcome: Path) -> None:
    """One process's part. The first leaves what came of it; an error on all sides is the first's to tell."""
    result: dict[str, Any] = {}
    enter(fabric)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FitWarning)
        try:
            arguments = torch.load(inputs, mmap=True, weights_only=False)
            story, x = arguments.pop("story"), arguments.pop("x")
            result["record"] = fit(story, x, **arguments)
            result["state"] = {name: value.cpu() for name, value in story.state_dict().items()}
        except Exception as error:
            result["error"] = error
    result["warnings"] = [(item.category, str(item.message)) for item in caught]
    if fabric.global_rank == 0:
        torch.save(result, outcome)
