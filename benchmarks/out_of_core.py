"""Memory of a fit, and of the predictions after it, on data larger than memory.

    python -m benchmarks.out_of_core [--gigabytes 5] [--kind npy|parquet] [--folder DIR]

Writes a file of rows around ten centres, by parts, into a temporary folder that is removed afterwards; a child process
maps it, runs a VaDE's recipe (warm start on a sample, then one epoch over all rows) and predicts every row's cluster.
What counts is the largest resident memory of that process (`ru_maxrss`) and how much of it is there before it opens the
file. The agreement with the centres (ARI) shows that the fit was one. Writes benchmarks/results/out_of_core.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.record import RESULTS, ROOT, write

N_FEATURES, N_CLUSTERS = 784, 10
PART = 20_000


def parts(n_rows: int):
    """(rows, labels) of the data set, some at a time."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(N_CLUSTERS, N_FEATURES)).astype(np.float32)
    for start in range(0, n_rows, PART):
        labels = random.integers(N_CLUSTERS, size=min(PART, n_rows - start))
        noise = random.standard_normal((len(labels), N_FEATURES), np.float32)
        yield centres[labels] + noise, labels


def generate(path: Path, n_rows: int) -> np.ndarray:
    """Write the rows to a .npy or .parquet file, a part at a time; returns the labels."""
    labels = []
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([(f"x{i}", pa.float32()) for i in range(N_FEATURES)])
        with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
            for rows, part in parts(n_rows):
                file.write_table(pa.Table.from_arrays(list(rows.T.copy()), schema=schema))
                labels.append(part)
    else:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n_rows, N_FEATURES)}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for rows, part in parts(n_rows):
                file.write(rows.data)
                labels.append(part)
    return np.concatenate(labels)


def peak() -> int:
    """The largest resident memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(path: str, labels: str) -> None:
    import torch

    import probclust as pc

    torch.set_num_threads(max(1, (os.cpu_count() or 1)))
    story = pc.models.VaDE(N_FEATURES, N_CLUSTERS, latent_dim=10, hidden=(64,))
    pc.fit(story, np.random.default_rng(1).normal(size=(300, N_FEATURES)), epochs=1)  # everything is loaded once
    before = peak()
    x, _ = pc.data.read(path)
    started = time.perf_counter()
    recipe = {"pretraining": "autoencoder", "pretrain_epochs": 2, "fit_epochs": 2, "epochs": 1}
    record = pc.fit(story, x, recipe=recipe, batch_size=1024, device="cpu", progress=False)
    fitted, started = time.perf_counter() - started, time.perf_counter()
    predicted = pc.predict(story, x).numpy()
    facts = {
        "peak_before_bytes": before,
        "peak_bytes": peak(),
        "fit_seconds": fitted,
        "predict_seconds": time.perf_counter() - started,
        "loss": record.losses()[-1],
        "ari": pc.metrics.ari(np.load(labels), predicted),
    }
    print(json.dumps(facts))


def measure(folder: Path, kind: str, n_rows: int) -> dict[str, object]:
    """The facts that a child process finds on a file of that kind."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path, labels = Path(name) / f"rows.{kind}", Path(name) / "labels.npy"
        np.save(labels, generate(path, n_rows))
        size = path.stat().st_size
        command = [sys.executable, "-m", "benchmarks.out_of_core", "--child", str(path), str(labels)]
        found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    facts = json.loads(found.splitlines()[-1])
    return {"kind": kind, "rows": n_rows, "features": N_FEATURES, "file_bytes": size, **facts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--kind", choices=["npy", "parquet"], default="npy")
    parser.add_argument("--folder", type=Path, help="where the temporary file goes")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    facts = measure(options.folder, options.kind, int(options.gigabytes * 1e9 / (4 * N_FEATURES)))
    path = RESULTS / "out_of_core.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    command = f"python -m benchmarks.out_of_core --gigabytes {options.gigabytes:g}"
    write(path, command, os.cpu_count() or 1, runs=runs | {options.kind: facts})
    print(json.dumps(facts, indent=1))
    print(f"peak {facts['peak_bytes'] / 2**30:.2f} GiB for a file of {facts['file_bytes'] / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
