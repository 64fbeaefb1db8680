"""Clustering accuracy of the stories with their default recipes, over seeds; labels only score finished fits.

    python benchmarks/accuracy.py [--data digits] [--stories vade mixture-of-vaes] [--seeds 0 1 2 3 4] [--jobs 2]
    python benchmarks/accuracy.py --table

Every run appends one line to benchmarks/results/accuracy.jsonl (a run that is there is not repeated: remove its line
when the code behind it has changed), with the accuracy of k-means on x, of the k-means labels that the recipe starts
from, of the start, and of the fitted story, and its bound on log p(x). `--table` prints mean and standard deviation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

RESULTS = Path(__file__).parent / "results" / "accuracy.jsonl"


def run(data_name: str, story_name: str, seed: int) -> dict[str, Any]:
    import torch
    from sklearn.cluster import KMeans

    import probclust as pc
    from probclust.record import versions
    from probclust.registry import story_class

    torch.set_num_threads(1)
    data = pc.data.load(data_name)
    n_clusters = len(set(data.y.tolist()))
    story = story_class(story_name)(data.x.shape[1], n_clusters)
    record = pc.fit(story, data.x, seed=seed)
    labels = {
        "k-means on x": KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(data.x),
        **{name: record.memory[name] for name in ("k-means", "start") if name in record.memory},
        "story": pc.predict(story, data.x),
    }
    return {
        "data": data_name,
        "story": story_name,
        "seed": seed,
        "accuracy": {name: pc.metrics.accuracy(data.y, found) for name, found in labels.items()},
        "nmi": pc.metrics.nmi(data.y, labels["story"]),
        "ari": pc.metrics.ari(data.y, labels["story"]),
        "bound": record.bound,
        "seconds": record.seconds,
        "settings": json.loads(record.to_json())["settings"],
        "versions": versions(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": 1},
    }


def records() -> list[dict[str, Any]]:
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def table() -> str:
    """Markdown: one row for each data set and story, mean and standard deviation over the seeds."""
    flat = pd.DataFrame(
        [
            {"data": r["data"], "story": r["story"], "seeds": r["seed"], "NMI": r["nmi"], "ARI": r["ari"]}
            | {"bound (nats)": r["bound"], "seconds": r["seconds"], "above its k-means": above(r)}
            | {f"ACC {name}": value for name, value in r["accuracy"].items()}
            for r in records()
        ]
    )
    lines = []
    for (data, story), rows in flat.groupby(["data", "story"]):
        cells = {"data": data, "story": story, "seeds": str(len(rows))}
        for column in flat.columns[3:]:
            values = rows[column]
            if column == "above its k-means":
                cells[column] = f"{int(values.sum())} of {len(values)}"
            elif values.notna().all():
                digits = 1 if column in ("seconds", "bound (nats)") else 3
                cells[column] = f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"
            else:
                cells[column] = ""
        lines.append(cells)
    header = list(lines[0])
    body = [header, ["---"] * len(header), *([cells[c] for c in header] for cells in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in body)


def above(record: dict[str, Any]) -> bool:
    """Whether the story ends above both k-means on x and the k-means labels its recipe starts from."""
    accuracy = record["accuracy"]
    return all(accuracy["story"] > accuracy[name] for name in ("k-means on x", "k-means") if name in accuracy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--stories", nargs="+", default=["vade", "mixture-of-vaes"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--table", action="store_true", help="only print the table of what was run")
    arguments = parser.parse_args()
    if not arguments.table:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        done = {(r["data"], r["story"], r["seed"]) for r in records()}
        wanted = [(arguments.data, story, seed) for story in arguments.stories for seed in arguments.seeds]
        with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(run, *settings) for settings in wanted if settings not in done]
            for future in as_completed(futures):
                record = future.result()
                with RESULTS.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(record["data"], record["story"], record["seed"], record["accuracy"], flush=True)
    print(table())


if __name__ == "__main__":
    main()
