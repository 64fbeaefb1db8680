"""Restarts side by side: each in one of joblib's processes, with the very seeds that restarts in turn have."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import torch
from torch import Tensor

from probclust.errors import FitWarning, NonFiniteError
from probclust.fitting.checkpoint import Checkpoint
from probclust.fitting.devices.group import Devices, fabric_for
from probclust.fitting.loop import Ended, FitLoop
from probclust.fitting.trainer import Trainer
from probclust.progress import Progress
from probclust.story.recipe import Run

ADVICE = (
    "restarts side by side run in processes of their own: take a story and steps that can be pickled, without open "
    "files, locks or generators, whose modules can be imported; or leave jobs out, and they run here in turn"
)
"""What restarts side by side need."""


@dataclass(frozen=True)
class _Restart:
    """What a process tells of its restart: how it ended, or the error that it failed with; and what it left on its way.

    Attributes:
        ended: None where it failed.
        error: None where it ended.
        history: an entry for each epoch.
        warnings: category, text, file and line.
    """

    ended: Ended | None
    error: Exception | None
    history: list[dict[str, Any]]
    warnings: list[tuple[type[Warning], str, str, int]]


@contextmanager
def side_by_side(loop: FitLoop, jobs: int) -> Iterator[Iterator[Callable[[], Ended]]]:
    """Run the restarts that a fit has not begun in processes, several at a time; they end with the context.

    The fit's threads are shared out: a process has at most as many as this one, and as its part of the cores.

    Args:
        loop: of the fit, which stands between two restarts or within one.
        jobs: processes.

    Yields:
        For each restart, in order and once it has ended, a function that gives its end, or raises its error.

    Raises:
        ValueError: the story, its rows or its steps cannot be sent to another process.
    """
    numbers = range(loop.keeper.position.restart + loop.is_amid, loop.n_init)
    jobs = max(1, min(jobs, len(numbers)))
    threads = max(1, min(torch.get_num_threads(), joblib.cpu_count() // jobs))
    with tempfile.TemporaryDirectory(prefix="probclust-") as folder:
        path = Path(folder) / "fit"
        try:
            torch.save(_inputs(loop), path, pickle_module=cloudpickle)
        except Exception as error:
            raise ValueError(
                f"{type(loop.story).__name__} cannot be sent to another process ({error}); {ADVICE}"
            ) from error
        with joblib.parallel_config("loky", inner_max_num_threads=threads):
            workers = joblib.Parallel(jobs, return_as="generator", batch_size=1)
        loop.bar.start("restarts", len(numbers))
        results = workers(joblib.delayed(_run)(path, number) for number in numbers)
        try:
            yield (_told(loop, result) for result in results)
            next(results, None)  # to its end, so that joblib keeps its processes for the next fit
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # joblib's, of those that end early
                results.close()


def _told(loop: FitLoop, restart: _Restart) -> Callable[[], Ended]:
    """Put a restart's history into the fit's; what gives its end warns first of what the restart warned of."""

    def end() -> Ended:
        loop.keeper.position.history.extend(restart.history)
        for category, text, file, line in restart.warnings:
            if issubclass(category, FitWarning):
                warnings.warn(text, category, stacklevel=6)
            else:
                warnings.warn_explicit(text, category, file, line)
        if restart.ended is None:
            assert restart.error is not None
            raise restart.error
        return restart.ended

    return end


def _inputs(loop: FitLoop) -> dict[str, Any]:
    trainer, run = loop.trainer, loop.run_state
    return {
        "story": loop.story,
        "steps": loop.steps,
        "trainer": {"batch_size": trainer.batch_size, "engine": trainer.engine, "precision": trainer.precision},
        "run": {"x": run.x, "y": run.y, "seed": loop.seed, "pairs": run.pairs},
        "given": loop.keeper.given,
        "n_init": loop.n_init,
        "is_own_recipe": loop.is_own_recipe,
        "dtype": torch.get_default_dtype(),
    }


def _run(path: Path, number: int) -> _Restart:
    """One restart, in a process."""
    try:
        inputs = torch.load(path, mmap=True, weights_only=False)
    except Exception as error:
        message = f"the story or a step cannot be read in another process ({type(error).__name__}: {error}); {ADVICE}"
        raise ValueError(message) from error
    torch.set_default_dtype(inputs["dtype"])
    loop = _loop(**inputs)
    position = loop.keeper.position
    position.restart = number
    ended, failure = None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if number:
            loop.begin()
        try:
            ended = _plain(loop.restart())
        except (NonFiniteError, torch.linalg.LinAlgError, ValueError) as error:  # type: ignore[attr-defined]
            failure = error
    told = [(item.category, str(item.message), item.filename, item.lineno) for item in caught]
    return _Restart(ended, failure, position.history, told)


def _loop(
    story: Any, steps: Any, trainer: Mapping[str, Any], run: Mapping[str, Any], given: dict[str, Tensor], **rest: Any
) -> FitLoop:
    """The loop of the fit again, for one restart."""
    devices = Devices(fabric_for("cpu", 1, trainer["precision"]))
    keeper = Checkpoint(None, {}, resume=False)
    keeper.given = given
    again = Trainer(story, steps, devices=devices, **trainer)
    return FitLoop(again, steps, Run(story, **run), rest["n_init"], keeper, Progress(), rest["is_own_recipe"])


def _plain(ended: Ended) -> Ended:
    """The end of a restart without what only its process has."""
    state = {name: value.detach() for name, value in ended.state.items()}
    return Ended(ended.bound, ended.labels, state, dict(ended.memory))
