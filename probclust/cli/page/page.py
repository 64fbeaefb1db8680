"""A page about fitted stories: one HTML file that needs no other, in light and dark, for desk and phone."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from probclust.cli.page import figures
from probclust.cli.page.table import caption, cells
from probclust.cli.run_folder import RunFolder
from probclust.cli.source import Source
from probclust.evaluation.comparison import compare
from probclust.evaluation.findings import Confusion, Findings, find
from probclust.fitting.record import versions
from probclust.generate.image_grid import image_grid, png_bytes
from probclust.story.story import Story
from probclust.story.story_file import place_of

Shape = tuple[int, int] | None


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
    records = {name: folder.record() for name, (folder, _) in opened.items()}
    stories = {name: story for name, (_, story) in opened.items()}
    frame = compare(stories, source.x, source.y, particles=particles, seed=seed)
    frame["seconds"] = [records[str(name)]["fit"]["seconds"] for name in frame.index]
    sections = [comparison_section(frame)]
    for name in frame.index:
        record = records[str(name)]
        found = find(str(name), stories[str(name)], source.x, source.y, particles=particles, seed=seed)
        same = opened[str(name)][0].was_fitted_to(stories[str(name)], source.x)
        where = _where(same, record["data"]["source"], source.source)
        intro = f"{record['fit']['story']}, scored on {where}."
        sections.append(story_section(found, record["fit"], source.image_shape, intro))
    folders = [str(folder.path) for folder, _ in opened.values()]
    words = ["probclust", "report", *folders, *source.words()]
    if source.image_shape is not None:
        words += ["--image-shape", "x".join(map(str, source.image_shape))]
    for place in sorted({place_of(type(story)) or "" for story in stories.values()} - {""}):
        words += ["--story", place]
    words += ["--particles", str(particles), "--seed", str(seed), "--out", "report.html"]
    commands = [shlex.join(words)]
    sections.append(reproduction_section(commands, [f"Draws are made under seed {seed}."]))
    rows, features = source.x.shape
    lead = f"{len(opened)} fitted {'story' if len(opened) == 1 else 'stories'} on {rows:,} rows of {features} features"
    return page("Clusters, compared", f"{lead} ({source.source}).", sections)


def _where(same: bool | None, fitted: str, scored: str) -> str:
    """What the rows of the report are to a run: `same`, those of its fit; and the sources of both."""
    if same:
        return "the rows it was fitted to"
    if fitted != scored:
        return f"other rows than it was fitted to ({fitted})"
    return f"other rows than it was fitted to: {scored} has changed since, or is read in another way"


def page(title: str, lead: str, sections: Sequence[str]) -> str:
    """The whole page.

    Args:
        title: of the page.
        lead: one or two sentences below it.
        sections: HTML of each part.
    """
    style = files("probclust.cli.page").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{escape(title)}</h1>\n<p>{escape(lead)}</p></header>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def comparison_section(frame: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """The table of the comparison, and what its columns mean."""
    headings, rows = cells(frame)
    explained = []
    if "log p(x) ≥" in headings:
        explained.append(caption(frame) + ".")
    if "ACC" in headings:
        explained.append(
            "ACC: accuracy under the best one-to-one matching of clusters and labels; NMI: normalised mutual "
            "information; ARI: adjusted Rand index. Labels only score: no fit has seen them."
        )
    table = _table(headings, rows, caption="Comparison")
    return _section("Comparison", table + _notes([*explained, *notes]))


def story_section(found: Findings, fit: Mapping[str, Any], shape: Shape, intro: str) -> str:
    """All about one story.

    Args:
        found: what it says of the rows.
        fit: the record of its fit, as JSON has it.
        shape: height and width where rows are images.
        intro: a sentence below the heading.
    """
    images = ""
    if found.samples is None:
        images = _notes([f"No draws of x are shown: {found.why_no_samples}."])
    elif shape is not None:
        images = _samples(found, found.samples, shape)
    again = "" if shape is None or found.reconstructions is None else _reconstructions(found, shape)
    table = "" if found.confusion is None else _confusion(found.name, found.confusion)
    body = (
        f"<p>{escape(intro)}</p>"
        f'<div class="pair">{images}<div>{again}{_sizes(found)}</div></div>'
        f'<div class="pair">{_embedding(found)}{table}</div>'
        f"{_losses(found.name, fit)}"
    )
    return _section(found.name, body)


def reproduction_section(commands: Sequence[str], notes: Sequence[str] = ()) -> str:
    """Commands, versions and remarks from which the page can be made again."""
    told = "\n".join(escape(command) for command in commands)
    packages = ", ".join(f"{escape(name)} {escape(number)}" for name, number in versions().items())
    return _section(
        "How to reproduce it", f"<pre><code>{told}</code></pre>" + _notes([*notes, f"Versions: {packages}."])
    )


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def _notes(notes: Sequence[str]) -> str:
    return "".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    label = escape(caption, quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table class="numbers">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _figure(body: str, caption: str, kind: str = "") -> str:
    return f'<figure class="{kind}">{body}<figcaption>{escape(caption)}</figcaption></figure>'


def _image(rows: Any, shape: tuple[int, int], alt: str, columns: int) -> str:
    """A strip or grid of images as <img>, enlarged to about 48 pixels each before the browser scales it."""
    grid = image_grid(rows, shape, columns=columns, scale=max(1, round(48 / max(shape))))
    height, width = grid.shape[:2]
    source = figures.data_uri(png_bytes(grid))
    return f'<img src="{source}" alt="{escape(alt, quote=True)}" width="{width}" height="{height}">'


def _strip(label: str, image: str) -> str:
    return f'<div class="strip"><span>{escape(label)}</span>{image}</div>'


def _samples(found: Findings, samples: Tensor, shape: tuple[int, int]) -> str:
    named = _named(found)
    strips = [
        _strip(
            named(k),
            _image(samples[k], shape, f"{len(samples[k])} images drawn from cluster {named(k)}", len(samples[k])),
        )
        for k in _order(found)
    ]
    arrow = " (cluster → the label that it is matched with)" if found.confusion is not None else ""
    caption = f"Images drawn from {found.name}, one line for each cluster{arrow}. They are draws of x, noise and all."
    return _figure("".join(strips), caption)


def _reconstructions(found: Findings, shape: tuple[int, int]) -> str:
    n = len(found.originals)
    strips = [
        _strip("rows", _image(found.originals, shape, f"{n} rows as they are", n)),
        _strip(
            "again", _image(found.reconstructions, shape, f"the same {n} rows as {found.name} reconstructs them", n)
        ),
    ]
    return _figure(
        "".join(strips),
        "Rows, and below each the mean of x under its most probable cluster, latents at the guide's mean.",
    )


def _embedding(found: Findings) -> str:
    if found.points is None:
        return ""
    n_clusters = len(found.scores["sizes"])
    title = f"{found.name}: {len(found.points)} rows in two dimensions, coloured by cluster"
    svg = figures.scatter(found.points, found.clusters[found.shown], n_clusters, title)
    return _figure(
        svg,
        "What decides the cluster, in two dimensions: t-SNE of the log joint of each row and cluster, less the row's "
        "mean. Colours and numbers are clusters.",
        "chart",
    )


def _sizes(found: Findings) -> str:
    sizes, named = found.scores["sizes"], _named(found)
    largest = max(sizes)
    bars = "".join(
        f'<tr><th scope="row">{escape(named(k))}</th><td><span class="bar" style="width:{100 * size / largest:.1f}%">'
        f'</span></td><td class="count">{size}</td></tr>'
        for k, size in ((k, sizes[k]) for k in _order(found))
    )
    caption = (
        f"Rows in each cluster. Mean entropy of p(cluster | x): {found.scores['entropy']:.3f} nats "
        f"(at most {np.log(len(sizes)):.2f})."
    )
    return _figure(f'<table class="bars"><tbody>{bars}</tbody></table>', caption, "chart")


def _confusion(name: str, table: Confusion) -> str:
    head = "".join(f'<th scope="col">{k}</th>' for k in table.clusters)
    matched = "".join(f"<td>{escape(str(table.matched.get(k, '–')))}</td>" for k in table.clusters)
    rows = []
    for label, counts in zip(table.labels, table.counts, strict=True):
        total = max(1, int(counts.sum()))
        shaded = "".join(
            f'<td style="--share:{count / total:.3f}"{_strong(count / total)}>{count or ""}</td>' for count in counts
        )
        rows.append(f'<tr><th scope="row">{escape(str(label))}</th>{shaded}</tr>')
    body = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix of {escape(name, quote=True)}">'
        f'<table class="confusion"><thead><tr><th scope="col">label</th>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody><tfoot><tr><th scope="row">match</th>{matched}</tr></tfoot></table></div>'
    )
    return _figure(
        body,
        "Confusion matrix: labels downwards, clusters across in the order of the labels that they are matched with. "
        "Shades are shares of the label's rows.",
    )


def _strong(share: float) -> str:
    return ' class="strong"' if share >= 0.5 else ""


def _losses(name: str, fit: Mapping[str, Any]) -> str:
    """The bounds of the restarts, and a chart of the losses of each training step."""
    seeds = fit["settings"].get("seeds")
    labels = [f"restart {n + 1}" if seeds is None else f"seed {seeds[n]}" for n in range(len(fit["bounds"]))]
    losses: dict[str, dict[str, list[float]]] = {}
    for entry in fit["history"]:
        losses.setdefault(entry["step"], {}).setdefault(labels[entry["restart"]], []).append(entry["loss"])
    bounded = {entry["step"] for entry in fit["history"] if "occupancy" in entry}
    charts = ""
    for step, lines in losses.items():
        chart = figures.curves(lines, f"{name}, step {step}: loss per epoch", labels[fit["restart"]])
        loss = "minus the bound, nats per row" if step in bounded else "its own loss"
        charts += _figure(chart, f"Step “{step}”: {loss}, mean over the rows.", "chart")
    bounds = [
        [label, f"{bound:.3f}".replace("-", "−"), "kept" if number == fit["restart"] else ""]
        for number, (label, bound) in enumerate(zip(labels, fit["bounds"], strict=True))
    ]
    table = _table(["", "bound", ""], bounds, caption=f"Bounds of the restarts of {name}")
    note = _notes(["Bound on log p(x) on the fitted rows, in nats per row."])
    return f'<h3>Fit</h3>{table}{note}<div class="pair">{charts}</div>'


def _order(found: Findings) -> Sequence[int]:
    """The clusters in the order of the labels that they are matched with, else in their own."""
    return range(len(found.scores["sizes"])) if found.confusion is None else found.confusion.clusters


def _named(found: Findings) -> Callable[[int], str]:
    """Cluster number to its name on the page: with the label that it is matched with, where there are labels."""
    matched = {} if found.confusion is None else found.confusion.matched
    return lambda k: f"{k} → {matched[k]}" if k in matched else str(k)
