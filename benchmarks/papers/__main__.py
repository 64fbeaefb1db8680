"""Run methods on data sets over seeds, and print the tables of what was run.

    python -m benchmarks.papers [--data digits usps] [--methods VaDE DMAE] [--seeds 0 1 2] [--jobs 2]
    python -m benchmarks.papers --held-out 0.2 --seeds 0
    python -m benchmarks.papers --table

Each run ends with a line in benchmarks/results/papers.jsonl; a run that has one is not repeated (remove the line when
the code behind it has changed), and a stopped one goes on from its checkpoint. The tables of all lines are written to
benchmarks/results/papers.md, which the documentation shows. Labels only score finished fits.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from benchmarks.papers import records
from benchmarks.papers.data import SETS
from benchmarks.papers.methods import METHODS
from benchmarks.papers.table import page
from benchmarks.record import append, read


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.papers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=list(SETS), default=["digits", "usps", "har", "mnist-10k"])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--held-out", type=float, default=0.0, help="share of the rows kept from the fit")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--table", action="store_true", help="only write and print the tables of what was run")
    arguments = parser.parse_args()
    if not arguments.table:
        done = {records.key(record) for record in read(records.FILE)}
        wanted = [
            (data, method, seed, arguments.held_out)
            for data in arguments.data
            for seed in arguments.seeds
            for method in arguments.methods
        ]
        # a fresh process for each run: memory goes back, and no run sees what another left
        with ProcessPoolExecutor(arguments.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
            futures = {pool.submit(records.run, *settings): settings for settings in wanted if settings not in done}
            for future in as_completed(futures):
                try:
                    record = future.result()
                except Exception as error:  # the other runs go on
                    print(*futures[future], "failed:", error, flush=True)
                    continue
                append(records.FILE, record)
                print(*futures[future], f"ACC {record['accuracy']:.3f}, {record['seconds']:.0f} s", flush=True)
    tables = page(read(records.FILE))
    records.TABLES.write_text(tables + "\n")
    print(tables)


if __name__ == "__main__":
    main()
