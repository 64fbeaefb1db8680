"""Digits with a share of their entries missing at random: accuracy, and the error of imputed entries.

    python -m benchmarks.missing [--story vade] [--shares 0 0.3] [--seeds 0 1 2 3 4]
    python -m benchmarks.missing --table

For each seed the story is fitted with its default recipe to all entries, and to those that a mask drawn under that
seed leaves; labels only score finished fits. (Like the rest of the default start, the way in which it fills gaps was
chosen on these digits with their labels in view.) At the missing entries, the mean squared error of `pc.reconstruct`
stands beside that of the mean of the row's cluster (the story's own, over observed entries) and of the column's mean.
Every fit appends a line to benchmarks/results/missing.jsonl; one that is there is not repeated.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.record import RESULTS, append, made, read

FILE = RESULTS / "missing.jsonl"


def run(story_name: str, share: float, seed: int) -> dict[str, Any]:
    import torch

    import probclust as pc
    from probclust.story.registry import story_class

    torch.set_num_threads(1)
    data = pc.data.load("digits")
    x = torch.as_tensor(data.x)
    missing = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < share
    shown = x.masked_fill(missing, torch.nan)
    torch.manual_seed(seed)
    story = story_class(story_name)(x.shape[1], 10, **({"missing": True} if share else {}))
    record = pc.fit(story, shown, seed=seed, progress=False)
    labels = pc.predict(story, shown)
    errors = {}
    if share:
        means = torch.stack([shown[labels == k].nanmean(0) for k in range(10)]).nan_to_num()
        guesses = {
            "story": pc.reconstruct(story, shown),
            "cluster mean": means[labels],
            "column mean": shown.nanmean(0),
        }
        errors = {name: (guess.expand_as(x) - x)[missing].square().mean().item() for name, guess in guesses.items()}
    return {
        "data": "digits",
        "story": story_name,
        "share": share,
        "seed": seed,
        "accuracy": pc.metrics.accuracy(data.y, labels),
        "accuracy of start": pc.metrics.accuracy(data.y, record.memory["start"]),
        "squared error": errors,
        "bound": record.bound,
        "seconds": record.seconds,
        **made(1),
    }


def table() -> str:
    """Markdown: one row for each story and share, mean and standard deviation over the seeds."""
    import pandas as pd

    flat = pd.json_normalize(read(FILE))
    columns = ["accuracy", "accuracy of start", *(c for c in flat if c.startswith("squared error."))]
    lines = [["story", "missing", "seeds", *(c.replace(".", ": ") for c in columns)]]
    lines.append(["---"] * len(lines[0]))
    for (story, share), rows in flat.groupby(["story", "share"]):
        cells = [f"{rows[c].mean():.4f} ± {rows[c].std():.4f}" if rows[c].notna().all() else "" for c in columns]
        lines.append([story, f"{share:.0%}", str(len(rows)), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--story", default="vade")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--table", action="store_true", help="only print the table of what was run")
    arguments = parser.parse_args()
    if not arguments.table:
        done = {(r["story"], r["share"], r["seed"]) for r in read(FILE)}
        for seed in arguments.seeds:
            for share in arguments.shares:
                if (arguments.story, share, seed) not in done:
                    record = run(arguments.story, share, seed)
                    append(FILE, record)
                    print(share, seed, record["accuracy"], record["squared error"], record["seconds"], flush=True)
    print(table())


if __name__ == "__main__":
    main()
