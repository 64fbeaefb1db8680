"""What a few known labels add: accuracy on the rows without a label, with and without them, over seeds.

    python -m benchmarks.labels [--data digits] [--per-class 1] [--seeds 0 1 2 3 4] [--recipes 0 1]
    python -m benchmarks.labels --table

For each seed the known rows are drawn at random, `per-class` of each class. Both fits of a pair, without labels and
with them, have the same seed and are scored on the same rows, those whose label is unknown. Every fit appends one line
to benchmarks/results/labels.jsonl (one that is there is not repeated).
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.record import RESULTS, append, made, read

FILE = RESULTS / "labels.jsonl"

RECIPES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("vade", {"hidden": [256, 256]}, {"pretraining": "autoencoder"}),  # the pre-training of its paper
    ("mixture-of-vaes", {}, {}),
]
"""Story, arguments of its constructor, arguments of its recipe."""


def draw_known(y: np.ndarray[Any, Any], per_class: int, seed: int) -> np.ndarray[Any, Any]:
    """(rows,) labels with all but `per_class` of each class, drawn at random, set to -1."""
    rng = np.random.default_rng(seed)
    known = np.full(len(y), -1)
    for k in np.unique(y):
        known[rng.choice(np.flatnonzero(y == k), per_class, replace=False)] = k
    return known


def run(
    data_name: str,
    story_name: str,
    arguments: dict[str, Any],
    recipe: dict[str, Any],
    seed: int,
    per_class: int,
    use: bool,
) -> dict[str, Any]:
    import torch

    import probclust as pc
    from probclust.story.registry import story_class

    torch.set_num_threads(1)
    data = pc.data.load(data_name)
    known = draw_known(data.y, per_class, seed)
    hidden = known < 0
    story = story_class(story_name)(data.x.shape[1], len(np.unique(data.y)), **arguments)
    record = pc.fit(story, data.x, known if use else None, seed=seed, recipe=recipe, progress=False)
    found = {"start": record.memory["start"].numpy(), "story": pc.predict(story, data.x).numpy()}
    return {
        "data": data_name,
        "story": story_name,
        "arguments": arguments,
        "recipe": recipe,
        "seed": seed,
        "per_class": per_class,
        "labels": use,
        "rows": int(hidden.sum()),
        "accuracy": {name: pc.metrics.accuracy(data.y[hidden], labels[hidden]) for name, labels in found.items()},
        "right": float((found["story"] == data.y)[hidden].mean()),  # without matching: clusters named by their labels
        "nmi": pc.metrics.nmi(data.y[hidden], found["story"][hidden]),
        "ari": pc.metrics.ari(data.y[hidden], found["story"][hidden]),
        "bound": record.bound,
        "seconds": record.seconds,
        **made(1),
    }


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    names = ("data", "story", "arguments", "recipe", "seed", "per_class", "labels")
    return tuple(json.dumps(record[name], sort_keys=True) for name in names)


def table() -> str:
    """Markdown: a row for each recipe and number of labels, with the mean of the paired rises."""
    flat = pd.DataFrame(
        [
            {name: r[name] for name in ("data", "story", "seed", "per_class", "labels")}
            | {"recipe": r["recipe"].get("pretraining", "default"), "acc": r["accuracy"]["story"]}
            for r in read(FILE)
        ]
    )
    lines = [
        "| data | story | pre-training | labels per class | seeds | ACC without | ACC with | rise | of each seed |"
    ]
    lines.append("|" + " --- |" * 9)
    for cells, rows in flat.groupby(["data", "story", "recipe", "per_class"]):
        acc = rows.pivot(index="seed", columns="labels", values="acc").reindex(columns=[False, True]).dropna()
        rise = acc[True] - acc[False]
        numbers = [f"{v.mean():.3f} ± {v.std():.3f}" for v in (acc[False], acc[True], rise)]
        each = ", ".join(f"{value:+.3f}" for value in rise)
        lines.append("| " + " | ".join([*map(str, cells), str(len(acc)), *numbers, each]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--per-class", type=int, default=1)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--recipes", nargs="+", type=int, default=list(range(len(RECIPES))), help=str(RECIPES))
    parser.add_argument("--table", action="store_true", help="only print the table of what was run")
    arguments = parser.parse_args()
    if not arguments.table:
        done = {key(r) for r in read(FILE)}
        for number in arguments.recipes:
            story, settings, recipe = RECIPES[number]
            for seed in arguments.seeds:
                for use in (False, True):
                    wanted = {"data": arguments.data, "story": story, "arguments": settings, "recipe": recipe}
                    wanted |= {"seed": seed, "per_class": arguments.per_class, "labels": use}
                    if key(wanted) in done:
                        continue
                    record = run(arguments.data, story, settings, recipe, seed, arguments.per_class, use)
                    append(FILE, record)
                    print(story, recipe, seed, use, record["accuracy"], f"{record['seconds']:.0f} s", flush=True)
    print(table())


if __name__ == "__main__":
    main()
