"""The demo: three stories on scikit-learn's digits, compared beside k-means, sampled and reported."""

from __future__ import annotations

import json
import math
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probclust.cli.page.page import Told, page
from probclust.cli.page.table import rich_table
from probclust.cli.run_folder import RunFolder
from probclust.cli.source import Source, read_source
from probclust.cli.terminal import show
from probclust.data.writing import check_writable, replace_text
from probclust.evaluation.comparison import compare
from probclust.evaluation.evaluation import evaluate
from probclust.evaluation.findings import Findings, find
from probclust.evaluation.metrics import agreement
from probclust.fitting.building import new_story, recipe_arguments
from probclust.fitting.fitting import fit
from probclust.fitting.record import versions
from probclust.story.registry import story_class
from probclust.story.saving import build
from probclust.story.story import Story

SHAPE = (8, 8)
N_CLUSTERS = 10
SPLIT_SEED = 0
SEED = 0
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
        jobs: restarts at a time; None for one on each core.
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
    for entry in entries:
        console.print(f"{entry.story}: {seeds} restarts")
        fits[entry.story], stories[entry.story] = _fit(
            entry, seeds, jobs or _cores(), RunFolder(out / entry.story), known
        )
        for number, bound in enumerate(fits[entry.story]["bounds"], 1):
            console.print(f"{entry.story}, restart {number}: bound {bound:.2f} nats per row")

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
    commands = reproduction(out, entries, seeds, jobs or _cores())
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


def reproduction(out: Path, entries: Sequence[Entry], seeds: int, jobs: int) -> list[str]:
    """Commands: the demo as a whole, and the fit of each story with its comparison by hand."""
    commands = [f"probclust demo --out {shlex.quote(str(out))} --seeds {seeds}"]
    train, held_out = (shlex.quote(str(out / "data" / name)) for name in ("train.npz", "held_out.npz"))
    restarts = f"--seed {SEED} --restarts {seeds} --jobs {jobs} --device cpu"
    for entry in entries:
        settings = [f"--set {shlex.quote(f'{name}={json.dumps(value)}')}" for name, value in entry.arguments.items()]
        parts = ["probclust fit", entry.story, f"--data {train} --image-shape 8x8 {restarts}"]
        commands.append(" ".join([*parts, *settings, f"--out runs/{entry.story}"]))
    folders = " ".join(f"runs/{entry.story}" for entry in entries)
    commands.append(f"probclust compare {folders} --data {held_out}")
    commands.append(f"probclust sample runs/{entries[-1].story} --cluster 3 -n 40 --out runs/cluster3.png")
    return commands


def _fit(entry: Entry, seeds: int, jobs: int, folder: RunFolder, known: Source) -> tuple[dict[str, Any], Story]:
    """Fit a story and write it to `folder`; the record with each restart's agreement with the labels, and the story."""
    chosen = story_class(entry.story)
    arguments = {name: build(value, {}, {}) for name, value in entry.arguments.items()}
    recipe = recipe_arguments(chosen, known.known(), entry.options.get("recipe"))
    story = new_story(chosen, known.x.shape[1], N_CLUSTERS, SEED, arguments)
    options = {**entry.options, "recipe": recipe, "device": "cpu"}
    record = fit(story, known.x, seed=SEED, n_init=seeds, jobs=jobs, **options)
    found = json.loads(record.to_json())
    ended = [labels.numpy() for labels in record.assignments] if record.assignments is not None else []
    found["restarts"] = [agreement(known.y, labels) for labels in ended]
    folder.write(story, found, known.facts())
    return found, story


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
        f"Each story was fitted from {seeds} starts, and the one with the largest bound on the fitted rows kept. "
        "Seconds are those of all its restarts, side by side. k-means is scikit-learn's, best of 10 starts; it gives "
        "no density.",
    ]
    stories = []
    for name, found in findings.items():
        fit = fits[name]
        each = ", ".join(f"{restart['accuracy']:.3f}" for restart in fit["restarts"])
        intro = f"{fit['story']}. "
        if each:
            intro += (
                f"Accuracy on the fitted rows, restart by restart: {each}. Kept for its bound: {fit['restart'] + 1}. "
            )
        intro += "Below, everything is on rows kept out of the fit, but for the losses."
        stories.append(Told(found, intro, fit))
    remarks = [
        f"The whole demo took {seconds:.0f} s here. Seeds: {SEED} for the fits, {facts['split_seed']} for "
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
