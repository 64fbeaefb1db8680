"""The demo: three stories on scikit-learn's digits, compared beside k-means, sampled and reported."""

from __future__ import annotations

import json
import math
import os
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probclust.cli.page.page import Told, page
from probclust.cli.page.table import rich_table
from probclust.cli.restarts import Job, fit_side_by_side, merge
from probclust.cli.run_folder import RunFolder
from probclust.cli.source import Source, read_source
from probclust.cli.terminal import show
from probclust.data.writing import check_writable, replace_text
from probclust.evaluation.comparison import compare
from probclust.evaluation.evaluation import evaluate
from probclust.evaluation.findings import Findings, find
from probclust.evaluation.metrics import agreement
from probclust.fitting.record import versions
from probclust.story.scoring import predict
from probclust.story.story import Story

SHAPE = (8, 8)
N_CLUSTERS = 10
SPLIT_SEED = 0
LIKELIHOOD = {
    "class": "probclust.likelihoods:Gaussian",
    "arguments": {"n_features": 64, "scale": "row", "floor": 0.01},
}
"""p(x | z) of the deep stories: a mean and a standard deviation for each pixel, both from the decoder, as in the
k-DVAE paper. The floor lies below the standard deviation of the added noise, 1 / (17 sqrt(12)) = 0.017."""


@dataclass(frozen=True)
class Entry:
    """A story of the demo: its name, and the arguments that are not its defaults."""

    story: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


ENTRIES = (
    Entry("gmm"),
    Entry("vade", {"likelihood": LIKELIHOOD}),
    Entry("mixture-of-vaes", {"likelihood": LIKELIHOOD}),
)


def run_demo(
    out: Path, *, seeds: int = 3, jobs: int | None = None, entries: Sequence[Entry] = ENTRIES, particles: int = 100
) -> None:
    """Fit, compare, sample and report; everything is written below `out`.

    Args:
        out: folder; what an earlier demo wrote there is replaced.
        seeds: restarts of each story.
        jobs: fits at a time; None for one on each core.
        entries: the stories.
        particles: draws per row for the bounds.
    """
    from rich.console import Console

    check_writable(out / "report.html", "--out")
    started = time.perf_counter()
    console = Console(stderr=True, highlight=False)
    train, held_out = write_data(out / "data")
    rows, known = (read_source(str(path), image_shape="8x8") for path in (held_out, train))
    stories: dict[str, Story] = {}
    fits: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="probclust-") as workshop:
        for name, folders in _fit(entries, seeds, jobs, train, Path(workshop), console).items():
            fits[name], stories[name] = _keep_best(RunFolder(out / name), folders, known, rows)

    with console.status("scoring"):
        means = k_means(known, rows)
        found = {name: evaluate(story, rows.x, rows.y, particles) for name, story in stories.items()}
        frame = compare(found)
        frame["seconds"] = [fits[str(name)]["seconds"] for name in frame.index]
        frame = pd.concat([frame, pd.DataFrame([means], index=["k-means"])])
    findings: dict[str, Findings] = {}
    for name in frame.index[:-1]:
        with console.status(f"pictures of {name}"):
            findings[name] = find(name, stories[name], found[name], rows.x, rows.y)
            _write_samples(out / name / "samples.npz", findings[name])
    commands = reproduction(out, entries, fits, seeds)
    facts = _data_facts(known, rows)
    seconds = time.perf_counter() - started
    results = {
        "data": facts,
        "comparison": json.loads(frame.reset_index(names="story").to_json(orient="records")),
        "stories": {name: {**told.facts(), "fit": fits[name]} for name, told in findings.items()},
        "commands": commands,
        "versions": versions(),
        "seconds": seconds,
    }
    replace_text(out / "results.json", json.dumps(results, indent=1))
    with console.status("report"):
        replace_text(out / "report.html", _page(frame, findings, fits, commands, facts, seconds, seeds))
    show(rich_table(frame, title=f"digits, {facts['held_out_rows']} rows kept out of the fit"))
    console.print(f"{seconds:.0f} s; wrote {out / 'report.html'}, {out / 'results.json'} and {len(stories)} stories")


def write_data(folder: Path) -> tuple[Path, Path]:
    """Write the rows to fit and the rows to score as .npz files; returns their paths.

    Pixels are integers from 0 to 16, on which a continuous density has no upper bound. With u uniform on [0, 1),
    x = (pixel + u) / 17 makes the mean log density of x, less 64 log 17, a lower bound on the log probability of the
    integers.

    Source: Theis, van den Oord, Bethge, "A note on the evaluation of generative models", 2016, section 3.1.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng(SPLIT_SEED)
    order = rng.permutation(len(digits.data))
    x = ((digits.data + rng.uniform(size=digits.data.shape)) / 17).astype(np.float32)
    n_train = round(0.8 * len(x))
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / "train.npz", folder / "held_out.npz")
    for path, part in zip(paths, (order[:n_train], order[n_train:]), strict=True):
        np.savez_compressed(path, x=x[part], y=digits.target[part])
    return paths


def k_means(train: Source, rows: Source) -> dict[str, float]:
    """Scores on `rows` of k-means fitted to `train`: scikit-learn's, best of 10 starts."""
    from sklearn.cluster import KMeans

    started = time.perf_counter()
    fitted = KMeans(N_CLUSTERS, n_init=10, random_state=0).fit(train.x.values)
    seconds = time.perf_counter() - started
    return {**agreement(rows.y, fitted.predict(rows.x.values)), "seconds": seconds}


def reproduction(out: Path, entries: Sequence[Entry], fits: Mapping[str, Mapping[str, Any]], seeds: int) -> list[str]:
    """Commands: the demo as a whole, and the kept fit of each story with its comparison by hand."""
    commands = [f"probclust demo --out {shlex.quote(str(out))} --seeds {seeds}"]
    train, held_out = (shlex.quote(str(out / "data" / name)) for name in ("train.npz", "held_out.npz"))
    for entry in entries:
        settings = [f"--set {shlex.quote(f'{name}={json.dumps(value)}')}" for name, value in entry.arguments.items()]
        seed = fits[entry.story]["settings"]["seed"]
        parts = ["OMP_NUM_THREADS=1 probclust fit", entry.story, f"--data {train} --image-shape 8x8 --seed {seed}"]
        commands.append(" ".join([*parts, *settings, f"--out runs/{entry.story}"]))
    folders = " ".join(f"runs/{entry.story}" for entry in entries)
    commands.append(f"probclust compare {folders} --data {held_out}")
    commands.append(f"probclust sample runs/{entries[-1].story} --cluster 3 -n 40 --out runs/cluster3.png")
    return commands


def _fit(
    entries: Sequence[Entry], seeds: int, jobs: int | None, train: Path, workshop: Path, console: Any
) -> dict[str, list[RunFolder]]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    # The longest fits first, so that no core waits at the end.
    work = [
        Job(entry.story, entry.story, N_CLUSTERS, seed, entry.arguments, entry.options)
        for entry in reversed(entries)
        for seed in range(seeds)
    ]
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[news]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {
            (job.name, job.seed): bars.add_task(f"{job.name}, seed {job.seed}", total=1, start=False, news="waits")
            for job in work
        }

        def report(job: Job, step: str, epochs: int | None, done: int, loss: float | None) -> None:
            task = tasks[job.name, job.seed]
            bars.start_task(task)
            if step == "done" and loss is not None:
                bars.update(task, total=1, completed=1, news=f"bound {-loss:.2f} nats per row")
                bars.stop_task(task)
                if not console.is_terminal:
                    console.print(f"{job.name}, seed {job.seed}: bound {-loss:.2f} nats per row")
                return
            news = step if loss is None else f"{step} {done}/{epochs}, loss {loss:.2f}"
            bars.update(task, total=epochs, completed=done, news=news)

        found = fit_side_by_side(work, train, "8x8", workshop, min(jobs or _cores(), len(work)), report)
    return {entry.story: found[entry.story] for entry in entries}


def _keep_best(
    folder: RunFolder, restarts: Sequence[RunFolder], known: Source, rows: Source
) -> tuple[dict[str, Any], Story]:
    """Write the restart with the largest bound to `folder`; the merged record, and the story."""
    fit = merge([restart.record()["fit"] for restart in restarts])
    candidates = [restart.story() for restart in restarts]
    fit["restarts"] = [
        {
            "seed": seed,
            "bound": bound,
            "held_out": agreement(rows.y, predict(story, rows.x).numpy()),
            "train": agreement(known.y, predict(story, known.x).numpy()),
        }
        for seed, bound, story in zip(fit["settings"]["seeds"], fit["bounds"], candidates, strict=True)
    ]
    story = candidates[fit["restart"]]
    folder.write(story, fit, known.facts())
    return fit, story


def _write_samples(path: Path, found: Findings) -> None:
    if found.samples is not None:
        n_clusters, n, n_features = found.samples.shape
        x = found.samples.reshape(-1, n_features).numpy()
        np.savez_compressed(path, x=x, cluster=np.repeat(np.arange(n_clusters), n))


def _data_facts(train: Source, rows: Source) -> dict[str, Any]:
    n_features = rows.x.shape[1]
    return {
        "name": "scikit-learn's digits, 8x8 pixels",
        "rows": len(train.x) + len(rows.x),
        "train_rows": len(train.x),
        "held_out_rows": len(rows.x),
        "split_seed": SPLIT_SEED,
        "transformation": "(pixel + uniform noise) / 17",
        "log_volume": n_features * math.log(17),
    }


def _page(
    frame: pd.DataFrame,
    findings: Mapping[str, Findings],
    fits: Mapping[str, Mapping[str, Any]],
    commands: Sequence[str],
    facts: Mapping[str, Any],
    seconds: float,
    seeds: int,
) -> str:
    notes = [
        "Pixels are integers from 0 to 16. Uniform noise of one grey level was added under a fixed seed, and x = "
        "(pixel + noise) / 17, so that no density can grow without limit on pixels that are always 0. The bound on "
        f"log p(x) less {facts['log_volume']:.1f} nats (64 log 17) bounds the log probability of the integer pixels "
        "from below.",
        f"Each story was fitted from {seeds} seeds, and the one with the largest bound on the fitted rows kept. "
        "Seconds are those of all its fits, with one thread each. k-means is scikit-learn's, best of 10 starts; it "
        "gives no density.",
    ]
    stories = []
    for name, found in findings.items():
        fit = fits[name]
        each = ", ".join(f"{restart['held_out']['accuracy']:.3f}" for restart in fit["restarts"])
        intro = (
            f"{fit['story']}. Accuracy on the rows kept out of the fit, seed by seed: {each}. Kept for its bound: seed "
            f"{fit['settings']['seed']}. Below, everything is on rows kept out of the fit, but for the losses."
        )
        stories.append(Told(found, intro, fit))
    remarks = [
        f"The whole demo took {seconds:.0f} s here. Seeds: 0 to {seeds - 1} for the fits, {facts['split_seed']} for "
        "the split and the noise, 0 for every draw and for t-SNE. One seed gives one result on one machine."
    ]
    lead = (
        f"Three generative stories of clusters on scikit-learn's handwritten digits: fitted to "
        f"{facts['train_rows']:,} images without their labels, scored on {facts['held_out_rows']} others."
    )
    title = "Digits, clustered by generative stories"
    return page(title, lead, frame, stories, commands, shape=SHAPE, notes=notes, remarks=remarks)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
