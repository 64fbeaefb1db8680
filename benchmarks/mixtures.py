"""The Gaussian mixture beside scikit-learn's: the mean log-likelihood of the fitted rows, in nats per row.

    python -m benchmarks.mixtures FOLDER [--data segment yeast] [--seeds 0 1 2]
    python -m benchmarks.mixtures --table

FOLDER holds .npz files with `x` (or the parts of a CSR matrix) and `y`; the tables of `MADE` need none. Each is fitted
with as many clusters as it has classes by `pc.fit` with the default recipe of `GaussianMixture`, and by scikit-learn's
`GaussianMixture` with its defaults and the same seed. Before both: tables are standardised, categories as 0/1 columns
first, missing numbers set to the mean; images are divided by 255, text is tf-idf, cells are log1p(10000 x count /
total), and those three become their 50 largest principal axes. Every pair of fits appends a line to
benchmarks/results/mixtures.jsonl; one that is there is not repeated. The table of all stands in
benchmarks/results/mixtures.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, append, made, read

FILE = RESULTS / "mixtures.jsonl"
AXES = 50
MADE = ("three blobs", "0/1 table", "breast cancer", "digits")


def tables(name: str) -> Iterator[tuple[Any, int]]:
    """Rows and numbers of clusters of a made or bundled table."""
    from sklearn.datasets import load_breast_cancer, load_digits
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(1)
    if name == "three blobs":
        y = rng.integers(0, 3, 150)
        yield rng.normal(size=(150, 100)) + 15 * np.eye(100)[y], 3
    elif name == "0/1 table":
        yield (np.random.default_rng(0).random((400, 200)) < 0.05) * 1.0, 3
    elif name == "digits":
        yield load_digits().data / 16, 10
    else:
        x = StandardScaler().fit_transform(load_breast_cancer().data)
        yield from ((x, 8), (x, 12))


def stored(path: Path) -> tuple[Any, int]:
    """Rows, prepared as the page says, and the number of classes of a file."""
    import pandas as pd
    import scipy.sparse
    from sklearn.decomposition import PCA, TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.preprocessing import StandardScaler

    file = np.load(path)
    n_clusters = len(np.unique(file["y"]))
    if "indptr" in file:
        parts = file["data"].astype("float64"), file["indices"].astype("int32"), file["indptr"]
        x = scipy.sparse.csr_matrix(parts, shape=tuple(file["shape"]))
        if "total" not in file:
            x = TfidfTransformer(norm="l2", sublinear_tf=True).fit_transform(x)
            return TruncatedSVD(AXES, random_state=0).fit_transform(x), n_clusters
        x = np.log1p(10_000 * x.toarray() / file["total"][:, None])
        return PCA(AXES, random_state=0).fit_transform(x), n_clusters
    x = file["x"]
    if x.ndim > 2:
        return PCA(AXES, random_state=0).fit_transform(x.reshape(len(x), -1) / 255.0), n_clusters
    frame = pd.DataFrame(x.astype("float64"))
    if "categorical" in file:
        frame = pd.get_dummies(frame, columns=list(np.flatnonzero(file["categorical"])), dtype=float)
    return StandardScaler().fit_transform(frame.fillna(frame.mean()).to_numpy()), n_clusters


def run(x: Any, n_clusters: int, covariance: str, seed: int) -> dict[str, Any]:
    import torch
    from sklearn.mixture import GaussianMixture

    import probclust as pc

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    warnings.simplefilter("ignore")  # what scikit-learn's EM says of its tolerance
    started = time.perf_counter()
    peer = GaussianMixture(n_clusters, covariance_type=covariance, random_state=seed).fit(x)
    seconds = time.perf_counter() - started
    record = pc.fit(pc.models.GaussianMixture(x.shape[1], n_clusters, covariance), x, seed=seed, progress=False)
    theirs = float(peer.score(x))
    return {
        "rows": len(x),
        "columns": x.shape[1],
        "clusters": n_clusters,
        "covariance": covariance,
        "seed": seed,
        "probclust": record.bound,
        "scikit-learn": theirs,
        "difference": record.bound - theirs,
        "seconds": record.seconds,
        "scikit-learn seconds": seconds,
        **made(1),
    }


def table() -> str:
    """Markdown: a row for each table and covariance, the least difference over the seeds."""
    import pandas as pd

    lines = [["table", "rows", "columns", "K", "covariance", "seeds", "scikit-learn", "least difference"]]
    lines.append(["---"] * len(lines[0]))
    keys = ["data", "rows", "columns", "clusters", "covariance"]
    for facts, rows in pd.DataFrame(read(FILE)).groupby(keys, sort=False):
        figures = f"{rows['scikit-learn'].mean():.3f}", f"{rows['difference'].min():+.4f}"
        lines.append([*map(str, facts), str(len(rows)), *figures])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="of .npz files; without it, only made tables")
    parser.add_argument("--data", nargs="+", help="names of tables; without it, all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="only print the table of what was run")
    arguments = parser.parse_args()
    files = {path.stem: path for path in sorted(arguments.folder.glob("*.npz"))} if arguments.folder else {}
    done = {(r["data"], r["clusters"], r["covariance"], r["seed"]) for r in read(FILE)}
    for name in () if arguments.table else arguments.data or [*MADE, *files]:
        for x, n_clusters in tables(name) if name in MADE else [stored(files[name])]:
            for covariance in ("full", "diag"):
                for seed in arguments.seeds:
                    if (name, n_clusters, covariance, seed) not in done:
                        record = {"data": name, **run(x, n_clusters, covariance, seed)}
                        append(FILE, record)
                        keys = "clusters", "covariance", "seed", "probclust", "difference", "seconds"
                        print(name, *(record[key] for key in keys), record["scikit-learn seconds"], flush=True)
    found = table()
    FILE.with_suffix(".md").write_text(found + "\n")
    print(found)


if __name__ == "__main__":
    main()
