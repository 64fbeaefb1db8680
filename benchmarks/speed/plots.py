"""The plots of the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter, ScalarFormatter

from benchmarks.speed.quality import TARGET
from benchmarks.speed.summary import AXES, LIMIT, ORDER, series, slope, title, varied

STYLES: dict[str, dict[str, Any]] = {
    "probclust": {"color": "#1f5fbf", "marker": "o", "linewidth": 2.2, "zorder": 4},
    "hand-written": {"color": "#e08214", "marker": "s"},
    "ClustPy": {"color": "#b2182b", "marker": "^"},
    "scikit-learn": {"color": "#b2182b", "marker": "v"},
    LIMIT: {"color": "#777777", "marker": ".", "linestyle": "--"},
}


def draw(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the plots of a record; their files."""
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update({"svg.hashsalt": "speed", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figures = {"papers": _papers(record), "growth": _growth(record)}
    if "quality" in record:
        figures["quality"] = _quality(record)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.svg")
        figure.savefig(paths[-1], bbox_inches="tight", metadata={"Date": None}, facecolor="white")
        plt.close(figure)
    return paths


def _papers(record: Mapping[str, Any]) -> Any:
    cases = [case for case in record["cases"] if case["group"] == "papers" and not case["note"]]
    sizes = list(dict.fromkeys((case["rows"], case["features"]) for case in cases))
    figure, axes = plt.subplots(1, len(sizes), figsize=(8.5, 3), sharey=True, squeeze=False, layout="constrained")
    for axis, size in zip(axes[0], sizes, strict=True):
        own = [case for case in cases if (case["rows"], case["features"]) == size]
        for place, case in enumerate(own):
            limit = case["contenders"][LIMIT]["median_cpu"]
            for name, facts in case["contenders"].items():
                if name != LIMIT:
                    style = {**STYLES[name], "linestyle": ""}
                    axis.plot(facts["median_cpu"] / limit, place, label=name, markersize=8, **style)
        axis.axvline(1, color=STYLES[LIMIT]["color"], linestyle="--")
        axis.set_yticks(range(len(own)), [title(case["story"], "") for case in own])
        axis.set_xlabel("CPU time of an epoch / its matrix products alone")
        axis.set_title("{} rows x {} features".format(*size))
        axis.grid(axis="y", alpha=0.3)
    axes[0][0].invert_yaxis()
    _legend(figure, axes[0])
    return figure


def _growth(record: Mapping[str, Any]) -> Any:
    bases = list(varied(record["cases"]))
    figure, axes = plt.subplots(
        len(bases), len(AXES), figsize=(10, 2.3 * len(bases)), sharey="row", squeeze=False, layout="constrained"
    )
    for row, (story, note) in zip(axes, bases, strict=True):
        label = title(story, note).replace(", ", "\n") + "\nCPU ms per epoch"
        for axis, size in zip(row, AXES, strict=True):
            found = series(record["cases"], story, note, size)
            if not found:
                axis.set_visible(False)
                continue
            for name in ORDER:
                if name in found:
                    sizes, seconds, _ = zip(*found[name], strict=True)
                    axis.loglog(sizes, [1000 * s for s in seconds], label=name, **STYLES[name])
            axis.set_xticks(sizes)
            axis.xaxis.set_major_formatter(ScalarFormatter())
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_xlabel(f"{size} (slope {slope(found['probclust']):.2f})")
            axis.grid(alpha=0.3)
            if label:
                axis.set_ylabel(label)
                axis.tick_params(labelleft=True)
                label = ""
    _legend(figure, axes.ravel())
    return figure


def _quality(record: Mapping[str, Any]) -> Any:
    figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
    colours = {"MixtureOfVAEs": "#1f5fbf", "VaDE": "#4dac26", "N2D": "#b2182b"}
    for entry in record["quality"]:
        for name, states in entry["states"].items():
            axis.plot(
                [state["cpu"] for state in states],
                [state["accuracy"] for state in states],
                marker="^" if name == "N2D" else "o",
                color=colours[name],
                label=f"ClustPy's {name}" if name == "N2D" else name,
            )
    axis.axhline(TARGET, color="#777777", linestyle="--")
    axis.set_xlim(left=0)
    axis.set_xlabel("CPU seconds from the rows to the clusters")
    axis.set_ylabel("ACC, 10,000 MNIST images")
    axis.grid(alpha=0.3)
    handles, labels = axis.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axis.legend(once.values(), once.keys(), loc="center right", frameon=False)
    return figure


def _legend(figure: Any, axes: Any) -> None:
    once: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        once |= dict(zip(labels, handles, strict=True))
    names = [name for name in ORDER if name in once]
    figure.legend([once[name] for name in names], names, loc="outside upper center", ncols=len(names), frameon=False)
