"""`report`: the page about stories in memory, and that about runs in their folders."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from typing import Any

import pandas as pd

from probclust.arguments import checked_path, checked_seed, positive
from probclust.cli.page.page import Shape, Told, page
from probclust.cli.run_folder import RunFolder
from probclust.cli.source import Source
from probclust.data.dataset import Dataset
from probclust.data.kinds import checked_image_shape
from probclust.data.writing import check_writable, replace_text
from probclust.evaluation.comparison import check_records, check_stories, compare
from probclust.evaluation.evaluation import Evaluation, check_labels, evaluate, evaluate_view, view
from probclust.evaluation.findings import find
from probclust.fitting.record import FitRecord
from probclust.generate.image_grid import need_matplotlib
from probclust.story.rows import digest_of
from probclust.story.story import Story
from probclust.story.story_file import place_of


def report(
    stories: Mapping[str, Story],
    x: Any,
    y: Any = None,
    out: str | os.PathLike[str] = "report.html",
    *,
    particles: int = 100,
    seed: int = 0,
    records: Mapping[str, FitRecord] | None = None,
    image_shape: tuple[int, int] | None = None,
) -> dict[str, Evaluation]:
    """Write a page about stories: the table of `pc.compare`, and of each its clusters, samples and reconstructions.

    It is the page of `probclust report`, one HTML file that needs no other. Give it rows that were kept out of the fit.

    Args:
        stories: fitted stories by name, of the same `n_features`.
        x: (rows, n_features).
        y: (rows,) labels, integers or strings; they only score.
        out: the page's path, which ends in .html; a file there is replaced.
        particles: draws per row for the bounds.
        seed: of every draw, and of the picture of the rows.
        records: what `pc.fit` returned, by the names of the stories; for the losses, the seconds, and whether `x` are
            the rows of the fit.
        image_shape: height and width where each row is an image with pixels from 0 to 1, which is then shown; that of
            `x` where it is a data set that knows.

    Returns:
        What `pc.evaluate` says of each story, in the order of `stories`; `pc.compare` takes it without more work.

    Raises:
        ImportError: matplotlib is missing; the message names the extra to install.
        TypeError: `stories` is no mapping from strings to stories, or an argument is of another kind.
        ValueError: `x`, `y`, `records` or `image_shape` do not fit the stories or each other, or `out` has another
            ending.
        OSError: nothing can be written at `out`.

    Warns:
        ComparisonWarning: as `pc.compare` does.

    Examples:
        >>> import torch, probclust as pc
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     found = report({"mine": pc.models.GaussianMixture(2, 3)}, torch.randn(9, 2), out=f"{folder}/page.html")
        >>> found["mine"].bound.shape
        torch.Size([9])
    """
    path = checked_path("out", out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"out must end in .html, got {str(path)!r}")
    check_writable(path, "out")
    need_matplotlib()
    check_stories(stories)
    for name, story in stories.items():
        if not isinstance(story, Story):
            raise TypeError(
                f"stories[{name!r}] must be a probclust.Story itself, as the page shows draws of x, got a "
                f"{type(story).__name__}"
            )
    particles, seed = positive("particles", particles), checked_seed(seed)
    if records is not None:
        check_records(records, stories)
    n_features = next(iter(stories.values())).n_features
    if image_shape is None and isinstance(x, Dataset):
        image_shape = x.image_shape
    shape = None if image_shape is None else checked_image_shape(image_shape, n_features)
    seen = {name: view(story, x) for name, story in stories.items()}
    n_rows = len(next(iter(seen.values())).rows)
    check_labels(y, n_rows)

    found = {name: evaluate_view(one, y, particles, seed) for name, one in seen.items()}
    told = {name: _told(story, x, None if records is None else records[name]) for name, story in stories.items()}
    fits = {} if records is None else {name: json.loads(record.to_json()) for name, record in records.items()}
    given = "".join(
        f", {text}"
        for text, there in (
            ("y", y is not None),
            (f"out={path.name!r}, particles={particles}, seed={seed}", True),
            ("records=records", records is not None),
            (f"image_shape={shape}", shape is not None),
        )
        if there
    )
    frame = compare(found, records=records)
    command = f"pc.report(stories, x{given})"
    replace_text(path, _page(frame, stories, found, x, y, told, fits, command, f"{_lead(stories, n_rows)}.", shape))
    return found


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


def _told(story: Story, x: Any, record: FitRecord | None) -> str:
    """The sentence below the heading of a story in memory."""
    fitted = None if record is None else record.settings.get("data")
    if fitted is None:
        return f"{type(story).__name__}, {story.n_clusters} clusters."
    whose = "the rows it was fitted to" if fitted == digest_of(story, x) else "other rows than it was fitted to"
    return f"{type(story).__name__}, scored on {whose}."


def _where(same: bool | None, fitted: str, scored: str) -> str:
    """What the rows of the report are to a run: `same`, those of its fit; and the sources of both."""
    if same:
        return "the rows it was fitted to"
    if fitted != scored:
        return f"other rows than it was fitted to ({fitted})"
    return f"other rows than it was fitted to: {scored} has changed since, or is read in another way"
