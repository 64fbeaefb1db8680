"""Restarts side by side: each in a process of its own with one thread, the best chosen by its bound."""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probclust.cli.run_folder import RunFolder
from probclust.cli.source import read_source
from probclust.errors import FitWarning
from probclust.progress import Progress

Report = Callable[["Job", str, int | None, int, float | None], None]
"""Told of a job's progress: the step's name, its epochs, those done, the loss."""


@dataclass(frozen=True)
class Job:
    """One restart of one story.

    Attributes:
        name: of the run that it belongs to.
        story: name of the story, or path/to/file.py:Class.
        n_clusters: K.
        seed: of the restart.
        arguments: of the story's constructor; parts as JSON describes them.
        options: keyword arguments of `pc.fit`, as JSON has them.
    """

    name: str
    story: str
    n_clusters: int
    seed: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def fit_side_by_side(
    jobs: Sequence[Job], data: Path, image_shape: str | None, workshop: Path, n_workers: int, report: Report
) -> dict[str, list[RunFolder]]:
    """Fit every job to the same rows, several at a time.

    A job that fails leaves its run to the others; where it is cut off, by Ctrl-C say, finished runs stay in `workshop`.

    Args:
        jobs: what to fit.
        data: file with the rows.
        image_shape: "HxW" where rows are images.
        workshop: folder for the finished runs.
        n_workers: processes.
        report: told of progress.

    Returns:
        Folders of the finished runs by name, in the order of the jobs.

    Raises:
        Exception: all jobs of a name failed; it is the first one's.

    Warns:
        FitWarning: what the fits warned of, with the name and the seed of the job; and jobs that failed.
    """
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    messages = context.Queue()
    folders = [workshop / str(number) for number in range(len(jobs))]
    with _one_thread(), ProcessPoolExecutor(n_workers, context, _start_worker, (messages,)) as pool:
        futures = [
            pool.submit(_fit, number, job, str(data), image_shape, folder)
            for number, (job, folder) in enumerate(zip(jobs, folders, strict=True))
        ]
        try:
            _follow(futures, [job.name for job in jobs], messages, lambda number, *news: report(jobs[number], *news))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    runs: dict[str, list[RunFolder]] = {}
    for job, folder, future in zip(jobs, folders, futures, strict=True):
        if error := future.exception():
            message = f"{job.name}, seed {job.seed} failed, and the others count: {error}"
            warnings.warn(message, FitWarning, stacklevel=2)
            continue
        runs.setdefault(job.name, []).append(RunFolder(folder))
        for warning in future.result():
            warnings.warn(f"{job.name}, seed {job.seed}: {warning}", FitWarning, stacklevel=2)
    return runs


def merge(fits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One record from those of restarts that ran apart, as if one fit had run them in turn.

    Args:
        fits: the records as JSON has them, each of one restart.
    """
    bounds = [fit["bounds"][fit["restart"]] for fit in fits]
    best = max(range(len(fits)), key=lambda number: bounds[number])
    history = [{**entry, "restart": number} for number, fit in enumerate(fits) for entry in fit["history"]]
    seeds = [fit["settings"]["seed"] for fit in fits]
    return {
        **fits[best],
        "settings": {**fits[best]["settings"], "seeds": seeds, "n_init": len(fits)},
        "history": history,
        "bounds": bounds,
        "restart": best,
        "seconds": sum(fit["seconds"] for fit in fits),
    }


def _follow(
    futures: Sequence[Future[list[str]]], names: Sequence[str], messages: Any, tell: Callable[..., None]
) -> None:
    """Pass on the workers' messages until all are done; raises the first error of a name whose jobs all failed."""
    left = set(futures)
    hopeful = dict(Counter(names))
    errors: dict[str, BaseException] = {}
    while left:
        try:
            while True:
                tell(*messages.get(timeout=0.2))
        except queue.Empty:
            pass
        done, left = wait(left, timeout=0)
        for name, future in zip(names, futures, strict=True):
            if future in done and (error := future.exception()):
                errors.setdefault(name, error)
                hopeful[name] -= 1
                if not hopeful[name]:
                    raise errors[name]


class _Messages(Progress):
    """Sends progress to the parent process."""

    def __init__(self, number: int) -> None:
        self.number, self.step, self.done = number, "", 0
        self.epochs: int | None = None

    def start(self, step: str, epochs: int | None) -> None:
        self.step, self.epochs, self.done = step, epochs, 0
        self._send(None)

    def advance(self, loss: float | None = None) -> None:
        self.done += 1
        self._send(loss)

    def _send(self, loss: float | None) -> None:
        _worker_messages.put((self.number, self.step, self.epochs, self.done, loss))


_worker_messages: Any = None


def _start_worker(messages: Any) -> None:
    global _worker_messages
    _worker_messages = messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    import torch

    torch.set_num_threads(1)


def _fit(number: int, job: Job, data: str, image_shape: str | None, folder: Path) -> list[str]:
    """Runs in a worker; returns what the fit warned of."""
    import probclust as pc
    from probclust.fitting.building import new_story, recipe_arguments
    from probclust.story.registry import story_class
    from probclust.story.saving import build

    source = read_source(data, image_shape=image_shape)
    arguments = {name: build(value, {}, {}) for name, value in job.arguments.items()}
    chosen = story_class(job.story)
    options = {**job.options, "recipe": recipe_arguments(chosen, source.known(), job.options.get("recipe"))}
    story = new_story(chosen, source.x.shape[1], job.n_clusters, job.seed, arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FitWarning)
        record = pc.fit(story, source.x, seed=job.seed, progress=_Messages(number), **options)
    RunFolder(folder).write(story, json.loads(record.to_json()), source.facts())
    _worker_messages.put((number, "done", 1, 1, -record.bound))
    return [str(warning.message) for warning in caught if issubclass(warning.category, FitWarning)]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that start within have one thread each for their arithmetic."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name)
        os.environ.update(before)
