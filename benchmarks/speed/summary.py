"""What the measurements say: slopes, and the tables of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Case = Mapping[str, Any]

AXES = ("rows", "features", "clusters", "latent")
LIMIT = "products"
NAMES = {
    "vade": "VaDE",
    "mixture-of-vaes": "MixtureOfVAEs",
    "idec": "IDEC",
    "dec": "DEC",
    "dcn": "DCN",
    "gmm": "GaussianMixture",
}


def series(cases: Sequence[Case], story: str, note: str, axis: str) -> dict[str, list[tuple[int, float, float]]]:
    """For each contender (size, CPU seconds per epoch, peak MB) of the base and the cases that vary it, in order."""
    own = [c for c in cases if (c["story"], c["note"]) == (story, note) and c["group"] in ("base", axis)]
    found: dict[str, list[tuple[int, float, float]]] = {}
    for case in sorted(own, key=lambda case: case[axis]):
        for name, facts in case["contenders"].items():
            found.setdefault(name, []).append((case[axis], facts["median_cpu"], facts["peak_mb"]))
    return {name: points for name, points in found.items() if len(points) > 1}


def slope(points: Sequence[tuple[int, float, float]], column: int = 1) -> float:
    """The exponent of a power law through the points, by least squares on the logarithms."""
    size, value = np.log([(point[0], point[column]) for point in points]).T
    return float(np.polyfit(size, value, 1)[0])


def varied(cases: Sequence[Case]) -> Iterator[tuple[str, str]]:
    """(story, note) of each base."""
    yield from ((case["story"], case["note"]) for case in cases if case["group"] == "base")


def title(story: str, note: str) -> str:
    return NAMES[story] + (f", {note}" if note else "")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def paper_table(cases: Sequence[Case]) -> str:
    """Times at the papers' sizes, as ratios, and memory."""
    header = ["story", "data", "ms per epoch", "/ hand-written", "/ ClustPy", "/ products", "ClustPy / products"]
    header += ["peak MB", "ClustPy's"]
    rows = []
    for case in cases:
        if case["group"] != "papers":
            continue
        found, ratios = case["contenders"], case["ratios"]
        cells = [title(case["story"], case["note"]), f"{case['rows']} x {case['features']}"]
        cells.append(f"{1000 * found['probclust']['median_cpu']:.0f}")
        cells += [f"{ratios[name]['cpu']:.2f}" if name in ratios else "" for name in ("hand-written", "ClustPy", LIMIT)]
        peer = found.get("ClustPy")
        cells.append(f"{ratios[LIMIT]['cpu'] / ratios['ClustPy']['cpu']:.2f}" if peer else "")
        cells += [f"{found['probclust']['peak_mb']:.0f}", f"{peer['peak_mb']:.0f}" if peer else ""]
        rows.append(cells)
    return table(header, rows)


def slope_table(cases: Sequence[Case], column: int, contenders: Sequence[str]) -> str:
    """Exponents of time (column 1) or memory (2) in each size."""
    rows = []
    for story, note in varied(cases):
        found = {axis: series(cases, story, note, axis) for axis in AXES}
        for name in contenders:
            cells = [f"{slope(found[axis][name], column):.2f}" if name in found[axis] else "" for axis in AXES]
            if any(cells):
                rows.append([title(story, note), name, *cells])
    return table(["story", "contender", *AXES], rows)


def quality_table(record: Sequence[Mapping[str, Any]]) -> str:
    """The last state of each contender, and its time over N2D's."""
    rows = []
    for entry in record:
        peer = entry["states"].get("N2D", [None])[-1]
        for name, states in entry["states"].items():
            last = states[-1]
            share = f"{last['cpu'] / peer['cpu']:.2f}" if peer else ""
            rows.append([str(entry["seed"]), name, f"{last['accuracy']:.4f}", f"{last['cpu']:.0f}", share])
    return table(["seed", "method", "ACC", "CPU seconds", "/ N2D"], rows)


def start_up_table(found: Mapping[str, Any]) -> str:
    seconds = {name: value for name, value in found.items() if isinstance(value, float)}
    rows = [[f"`{name}`", f"{s:.2f}", f"{s / seconds['import pyro']:.2f}"] for name, s in seconds.items()]
    return table(["program", "CPU seconds", "/ `import pyro`"], rows)


def provenance(record: Mapping[str, Any]) -> str:
    """Machine and versions of a record's cases, each once."""
    lines = []
    machines = {(c["machine"]["processor"], c["machine"]["cores"], c["machine"]["threads"]) for c in record["cases"]}
    for processor, cores, threads in sorted(machines):
        lines.append(f"{processor}, {cores} cores, {threads} thread{'s' if threads > 1 else ''} for each contender.")
    rounds = [len(case["contenders"]["probclust"]["cpu"]) for case in record["cases"]]
    loads = [case["machine"]["load"] for case in record["cases"]]
    lines.append(
        f"{min(rounds)} to {max(rounds)} rounds that count, other programs beside them: load average {min(loads):.1f} "
        f"to {max(loads):.1f} at the ends. Commits {', '.join(sorted({c['commit'] for c in record['cases']}))}."
    )
    versions: dict[str, set[str]] = {}
    for case in record["cases"]:
        for name, facts in case["contenders"].items():
            side = "ClustPy's side" if name == "ClustPy" else "ours"
            versions.setdefault(side, set()).add(", ".join(f"{p} {v}" for p, v in facts["versions"].items()))
    lines += [f"Versions, {side}: {text}." for side, texts in sorted(versions.items()) for text in sorted(texts)]
    return "\n\n".join(lines)


def page(record: Mapping[str, Any]) -> str:
    """The tables, as Markdown."""
    cases = record["cases"]
    parts = ["### At the papers' sizes", paper_table(cases), "### Growth of time", slope_table(cases, 1, ORDER)]
    parts += ["### Growth of peak memory", slope_table(cases, 2, [name for name in ORDER if name != LIMIT])]
    if "quality" in record:
        parts += ["### Time to quality", quality_table(record["quality"])]
    if "start-up" in record:
        parts += ["### Start-up", start_up_table(record["start-up"])]
    return "\n\n".join([*parts, "### Machine and versions", provenance(record)])


ORDER = ("probclust", "hand-written", "ClustPy", "scikit-learn", LIMIT)
