"""The page about runs, from their folders."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import pandas as pd

from probclust.cli.page.page import Shape, Told, page
from probclust.cli.run_folder import RunFolder
from probclust.cli.source import Source
from probclust.evaluation.comparison import compare
from probclust.evaluation.evaluation import Evaluation, evaluate
from probclust.evaluation.findings import find
from probclust.story.story import Story
from probclust.story.story_file import place_of


def report_runs(
    opened: Mapping[str, tuple[RunFolder, Story]], source: Source, *, particles: int = 100, seed: int = 0
) -> str:
    """The page about runs, from their folders.

    Args:
        opened: run folder and story by name.
        source: the rows to score them on.
        particles: draws per row for the bounds.
        seed: of every draw.

    Returns:
        HTML.
    """
    stories = {name: story for name, (_, story) in opened.items()}
    found = {name: evaluate(story, source.x, source.y, particles, seed) for name, story in stories.items()}
    frame, told, fits = compare(found), {}, {}
    for name, (folder, story) in opened.items():
        record = folder.record()
        fits[name] = record["fit"]
        same = folder.was_fitted_to(story, source.x)
        told[name] = f"{fits[name]['story']}, scored on {_where(same, record['data']['source'], source.source)}."
    frame["seconds"] = [fits[str(name)]["seconds"] for name in frame.index]
    words = ["probclust", "report", *(str(folder.path) for folder, _ in opened.values()), *source.words()]
    if source.image_shape is not None:
        words += ["--image-shape", "x".join(map(str, source.image_shape))]
    for place in sorted({place_of(type(story)) or "" for story in stories.values()} - {""}):
        words += ["--story", place]
    words += ["--particles", str(particles), "--seed", str(seed), "--out", "report.html"]
    lead = f"{_lead(stories, len(source.x))} ({source.source})."
    shape = source.image_shape
    return _page(frame, stories, found, source.x, source.y, told, fits, shlex.join(words), lead, shape)


def _page(
    frame: pd.DataFrame,
    stories: Mapping[str, Story],
    found: Mapping[str, Evaluation],
    x: Any,
    y: Any,
    told: Mapping[str, str],
    fits: Mapping[str, Mapping[str, Any]],
    command: str,
    lead: str,
    shape: Shape,
) -> str:
    """The page, its stories in the order of the table."""
    parts = [
        Told(find(name, stories[name], found[name], x, y), told[name], fits.get(name)) for name in map(str, frame.index)
    ]
    seed = next(iter(found.values())).seed
    remarks = [f"Draws are made under seed {seed}."]
    return page("Clusters, compared", lead, frame, parts, [command], shape=shape, remarks=remarks)


def _lead(stories: Mapping[str, Story], n_rows: int) -> str:
    features = next(iter(stories.values())).n_features
    return (
        f"{len(stories)} fitted {'story' if len(stories) == 1 else 'stories'} on {n_rows:,} rows of {features} features"
    )


def _where(same: bool | None, fitted: str, scored: str) -> str:
    """What the rows of the report are to a run: `same`, those of its fit; and the sources of both."""
    if same:
        return "the rows it was fitted to"
    if fitted != scored:
        return f"other rows than it was fitted to ({fitted})"
    return f"other rows than it was fitted to: {scored} has changed since, or is read in another way"
