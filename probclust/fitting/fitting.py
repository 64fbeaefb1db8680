"""`fit`: runs a story's recipe, restarts included, from a checkpoint where there is one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor

from probclust.arguments import checked_path, checked_seed, flag, positive
from probclust.data.checks import as_labels, check_varied, enough_rows
from probclust.data.stored import Rows, StoredRows
from probclust.data.tables import ArrayTable
from probclust.data.writing import check_writable
from probclust.fitting.checkpoint import Checkpoint
from probclust.fitting.devices.group import Devices, fabric_for, processes_exist
from probclust.fitting.engine.eager import Engine, checked_engine
from probclust.fitting.loop import FitLoop
from probclust.fitting.precision import checked_precision
from probclust.fitting.record import FitRecord, describe_plain, versions
from probclust.fitting.restarts import side_by_side
from probclust.fitting.row_totals import learn_totals
from probclust.fitting.scale import warn_of_scale
from probclust.fitting.steps import check_pairs, check_stored, describe_step, steps_of
from probclust.fitting.trainer import Trainer
from probclust.locking import alone
from probclust.objectives.monitor import warn_of_clusters, warn_of_truncation
from probclust.objectives.pyro_elbo import check_elbos
from probclust.progress import Progress, progress_bar
from probclust.story.chunks import chunk_size
from probclust.story.contract import check_plate
from probclust.story.pairs import Pairs
from probclust.story.recipe import START, Compute, Run, Step
from probclust.story.rows import admit_all
from probclust.story.scoring import predict
from probclust.story.story import Story, check_state, checked_story, frozen_by_the_user

LEARNT = 100
"""Batches of a fit from which on a cluster without rows is lost; networks that have seen fewer know none yet."""

GPU_SHARE = 0.5
"""Share of a GPU's free memory up to which all rows are kept there."""


def fit(
    story: Story,
    x: Any,
    y: Any = None,
    *,
    pairs: Pairs | None = None,
    epochs: int | None = None,
    batch_size: int = 256,
    objective: str | ELBO | None = None,
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    checkpoint: str | PathLike[str] | None = None,
    resume: bool = False,
    n_init: int = 1,
    jobs: int | None = None,
    recipe: Sequence[Step] | Mapping[str, Any] | None = None,
    learning_rate: float | None = None,
    precision: Any = None,
    engine: Engine = "auto",
    progress: bool | Progress | None = None,
) -> FitRecord:
    """Fit a story in place: run its recipe, or plain SVI where it has none.

    Args:
        story: the story; its parameters are trained where they stand, and stay on the device of the fit.
        x: (rows, n_features) numbers: numpy, torch, pandas, polars, scipy sparse, AnnData (its X), memory-mapped. The
            story keeps the names of columns (`story.feature_names`): later tables are put in their order by name.
            Sparse and memory-mapped ones, and what `pc.data.read` leaves in a parquet file, are read by batch where
            they exceed 64 MiB: the steps of the warm start then see a random sample of up to 20,000 rows and 64 MiB,
            the training all rows.
        y: (rows,) known clusters, -1 where unknown; None where nothing is known.
        pairs: rows known to share their cluster, or not to; the SVI steps pay for pairs that they break.
        epochs: epochs of the SVI steps, instead of the recipe's.
        batch_size: rows per batch and device (rows are split evenly, so that no small batch is left over); a step's own
            `batch_size` is that of all devices together.
        objective: of the SVI steps, instead of the recipe's: the name of one of `probclust.objectives`, such as
            "exact", or a `pyro.infer.TraceEnum_ELBO`; others, which draw the cluster, are refused.
        seed: of everything random in the fit; one seed gives one result on one machine.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        devices: how many, on each machine; on the CPU, processes. With several, every batch is shared between them:
            the result is one device's with a `batch_size` as many times as large, but for rounding.
        checkpoint: file to keep the state of the fit in; written every few seconds, after each step, and on Ctrl-C.
        resume: continue from `checkpoint` where that file exists; the end is the unbroken run's, bit for bit on a CPU.
        n_init: restarts; the one with the largest bound on log p(x) is kept. Frozen parameters (`requires_grad` False)
            and buffers start each as they were given. A restart that fails is warned of, and the others count; where
            the fit is cut off, by Ctrl-C say, the story has the best of those that ended.
        jobs: restarts at a time, each in a process of its own, on the CPU; None or 1 for one after the other here. The
            result is the same to the last bit where a process has as many threads as this one (`torch.get_num_threads`,
            OMP_NUM_THREADS=1 say), else but for rounding. Progress is then told of whole restarts, and a checkpoint
            keeps those that ended. Story, recipe and rows are pickled for it.
        recipe: steps instead of the story's own, or keyword arguments for `story.recipe`.
        learning_rate: of the SVI steps, instead of the recipe's. That of plain SVI is 0.01; where the story's networks
            have more than 10,000 weights it is 0.001, and gradients whose norm exceeds 1,000 are scaled down to that.
        precision: of matrix products: "32-true" (None); "tf32", which counts on a GPU; or "bf16-mixed" or "16-mixed".
            Densities and their sums are in float32 with any.
        engine: how the batches' gradients are found: "eager" runs the story through Pyro at each; "staged" records it
            once as a tensor graph and runs that; "compiled" compiles the graph too; "auto" stages long steps. All give
            the same result but for rounding, and draw the same numbers, so that a resumed fit may take another.
        progress: show a progress bar; None to show it on a terminal; or an object that shows it.

    Returns:
        The record of the run.

    Raises:
        ValueError: bad data or settings, before any work is done; or a checkpoint of another fit.
        NonFiniteError: a loss became NaN or infinite; names step, epoch and site. The story is left as it was at
            the start of that epoch, and so is the checkpoint. With restarts it is raised where all fail; an SVI step
            that goes on from an exact bound, as after EM, ends there with a warning.

    Warns:
        FitWarning: what usually spoils a fit: an empty cluster, all rows in one, a restart that failed, columns far
            from the scale of about one that the story assumes (`Story.any_scale`), frozen parameters that the story's
            recipe would set.
        PrecisionWarning: the story was put into float64, as columns lie so far from zero that float32 would lose the
            digits which tell rows apart.
    """
    arguments = {name: value for name, value in locals().items() if name not in ("story", "x")}
    checked_story(story)
    check_state(story)
    n_init, batch_size, devices = (
        positive("n_init", n_init),
        positive("batch_size", batch_size),
        positive("devices", devices),
    )
    jobs = positive("jobs", 1 if jobs is None else jobs)
    if jobs > 1 and devices > 1:
        raise ValueError(
            f"jobs={jobs} runs restarts in processes of one device each; with devices={devices} leave it out"
        )
    seed, resume = checked_seed(seed), flag("resume", resume)
    if checkpoint is not None:
        checkpoint = checked_path("checkpoint", checkpoint)
        check_writable(checkpoint, "checkpoint")
    engine, matmuls = checked_engine(engine), checked_precision(precision)
    survey = admit_all(story, x)
    rows = survey.rows
    enough_rows(rows.shape[0], story.n_clusters)
    check_varied(torch.stack([survey.low, survey.high]), n_rows=rows.shape[0])
    known = None if y is None else as_labels(y, rows.shape[0], story.n_clusters)
    with alone, torch.random.fork_rng([]):  # a recipe may construct networks
        steps = steps_of(story, recipe, epochs, objective, learning_rate)
    if isinstance(rows, StoredRows):
        check_stored(steps)
    if not (story.any_scale and isinstance(steps[0], Compute)):
        warn_of_scale(story, survey)
    few = rows[:8].to(story.device)
    check_plate(story, few, rows.shape[0])
    check_elbos(steps, story, few)
    if pairs is not None:
        check_pairs(pairs, steps, rows.shape[0], story.n_clusters)
        if known is not None:
            pairs.check_known(known)
    settings = {
        "story": type(story).__qualname__,
        "arguments": story.arguments,
        "steps": [describe_step(step) for step in steps],
        "batch_size": batch_size,
        "seed": seed,
        "n_init": n_init,
        "precision": None if precision is None else str(precision),
        "rows": rows.shape[0],
        "data": survey.digest,
    }
    if known is not None:
        settings["known"] = _digest(known)
    if frozen := frozen_by_the_user(story):  # they stay as given, where a checkpoint would put its own in their place
        settings["frozen"] = {name: _digest(value.detach().cpu()) for name, value in frozen.items()}
    if isinstance(recipe, Mapping) and recipe:
        settings["recipe"] = dict(recipe)
    if pairs is not None:
        settings["pairs"] = {"must": pairs.must.tolist(), "cannot": pairs.cannot.tolist(), "weight": pairs.weight}
    story.feature_names = survey.names or story.feature_names
    fabric = fabric_for(device, devices, matmuls)
    if jobs > 1 and fabric.device.type != "cpu":
        raise ValueError(
            f"jobs={jobs} runs restarts in processes on the CPU, got device '{fabric.device}'; pass device='cpu', or "
            "leave jobs out"
        )
    if devices > 1:
        settings["devices"] = fabric.world_size
        if rows.shape[0] < fabric.world_size:
            raise ValueError(f"{fabric.world_size} devices need as many rows, got {rows.shape[0]}")
        if not processes_exist():
            from probclust.fitting.devices.launch import launch

            return launch(fabric, fit, story, rows, arguments)
    group = Devices(fabric)
    trainer = Trainer(story, steps, devices=group, batch_size=batch_size, engine=engine, precision=matmuls)
    keeper = Checkpoint(checkpoint, describe_plain(settings), resume=resume, writes=group.is_first)
    with progress_bar(progress if group.is_first else False) as bar:
        known = None if known is None else known.to(trainer.device)
        run = Run(story, _placed(rows, trainer.device), known, seed, pairs=pairs)
        learn_totals(story, run.x)
        is_own_recipe = recipe is None or isinstance(recipe, Mapping)
        beside = partial(side_by_side, jobs=jobs) if jobs > 1 and n_init > 1 else None
        FitLoop(trainer, steps, run, n_init, keeper, bar, is_own_recipe, beside).run()
    with alone:
        story.eval()
    position = keeper.position
    history = [entry for entry in position.history if entry["restart"] == position.best_restart]
    memory = keeper.best_memory()
    if history and group.is_first:
        occupancy = history[-1].get("occupancy") or _occupancy(story, rows)
        has_learnt = len(history) * math.ceil(rows.shape[0] / batch_size) >= LEARNT
        emptied = _emptied(story, rows, memory.get(START)) if has_learnt and not story.may_empty else []
        warn_of_clusters(occupancy, rows.shape[0], emptied, may_empty=story.may_empty)
        warn_of_truncation(history)
    return FitRecord(
        story=type(story).__qualname__,
        settings=settings,
        versions=versions(),
        history=tuple(position.history),
        bounds=tuple(position.bounds),
        restart=position.best_restart,
        seconds=position.seconds,
        memory=memory,
        assignments=torch.stack(keeper.assignments) if keeper.assignments else None,
    )


def _digest(values: Tensor) -> str:
    """Of a tensor's values."""
    return hashlib.blake2b(values.contiguous().numpy().data, digest_size=16).hexdigest()


def _occupancy(story: Story, rows: Rows) -> list[float]:
    """Share of the rows in each cluster."""
    counts = torch.bincount(predict(story, rows), minlength=story.n_clusters)
    shares: list[float] = (counts.double() / len(rows)).tolist()
    return shares


def _emptied(story: Story, rows: Rows, start: Tensor | None) -> list[int]:
    """Clusters that had rows at the start and are assigned none; looks no further than to where all are seen."""
    unseen, size = set() if start is None else set(start.tolist()), chunk_size(story)
    for first in range(0, len(rows), size):
        if not unseen:
            break
        unseen -= set(predict(story, rows[first : first + size]).tolist())
    return sorted(unseen)


def _placed(rows: Rows, device: torch.device) -> Rows:
    """The rows for batches on a device: in its memory where they fit, else copied there a batch or a pool at a time."""
    if device.type != "cuda":
        return rows.to(device)
    fits = rows.nbytes <= torch.cuda.mem_get_info(device)[0] * GPU_SHARE
    if isinstance(rows, Tensor):
        return rows.to(device) if fits else StoredRows(ArrayTable(rows.numpy()), dtype=rows.dtype, device=device)
    return rows.to(device)
