"""What each ingredient of a start is worth: the accuracy of starting clusters without it, over seeds.

    python -m benchmarks.starts [--data digits usps har 20news] [--seeds 0 1 2]
    python -m benchmarks.starts --table

The start is `probclust.starts.embedding`, with the shape of images, of recordings `probclust.starts.recordings`, and of
documents `documents`; each variant changes one thing in it. No story is trained. Every variant of a data
set and seed is one line of benchmarks/results/starts.jsonl (what is there is not repeated); their table is written to
benchmarks/results/starts.md. Labels only score.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

import probclust as pc
from benchmarks.papers.data import kind, labels, rows
from benchmarks.papers.table import spread
from benchmarks.record import RESULTS, append, made, read
from probclust.starts.clusterers.block_likelihood import block_likelihood
from probclust.starts.clusterers.gaussian_merging import merged_gaussians, refined
from probclust.starts.clusterers.graphs import agreed_with_neighbours
from probclust.starts.clusterers.image_distortion import distortion_neighbours
from probclust.starts.clusterers.neighbour_embedding import neighbour_embedding, neighbour_graph
from probclust.starts.clusterers.neighbours import nearest_neighbours
from probclust.starts.clusterers.word_vectors import document_vectors
from probclust.starts.embedding import n_embeddings_of
from probclust.starts.recordings import likeliest_hidden_markov, standardised

FILE = RESULTS / "starts.jsonl"
SETS = ("digits", "usps", "mnist-10k", "fashion_mnist-10k", "har", "reuters10k", "20news")

Labels = NDArray[np.int64]
Neighbours = tuple[NDArray[Any], NDArray[Any]]
Clusterer = Callable[[NDArray[Any], int, int], Labels]


def _kmeans(points: NDArray[Any], n_clusters: int, seed: int) -> Labels:
    found: Labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(points)
    return found


def _em_from_kmeans(points: NDArray[Any], n_clusters: int, seed: int) -> Labels:
    return refined(points, _kmeans(points, n_clusters, seed), n_clusters)


def _merging(points: NDArray[Any], n_clusters: int, seed: int) -> Labels:
    return merged_gaussians(points, n_clusters, seed=seed)


def _with_one_covariance(x: NDArray[Any], n_clusters: int, seed: int) -> Labels:
    """A Gaussian mixture with one full covariance, on 100 principal components; the likeliest of 10 starts."""
    points = PCA(min(100, *x.shape), random_state=seed).fit_transform(x).astype(np.float64)
    mixture = GaussianMixture(
        n_clusters, covariance_type="tied", n_init=10, reg_covar=1e-6 * points.var(0).mean(), random_state=seed
    )
    found: Labels = mixture.fit_predict(points)
    return found


GRAPHS: dict[str, Callable[[NDArray[Any], tuple[int, int] | None], Neighbours]] = {
    "default": lambda x, shape: nearest_neighbours(x, 15, shape),
    "10 neighbours instead of 15": lambda x, shape: nearest_neighbours(x, 10, shape),
    "30 neighbours instead of 15": lambda x, shape: nearest_neighbours(x, 30, shape),
}
GRAPHS_OF_IMAGES: dict[str, Callable[[NDArray[Any], tuple[int, int]], Neighbours]] = {
    "Euclidean neighbours": lambda x, shape: nearest_neighbours(x, 15),
    "one round of candidates instead of three": lambda x, shape: distortion_neighbours(x, shape, 15, rounds=1),
    "two rounds of candidates": lambda x, shape: distortion_neighbours(x, shape, 15, rounds=2),
    "pixels at most one off instead of two": lambda x, shape: distortion_neighbours(x, shape, 15, warp=1),
    "images of 14 pixels a side instead of 20": lambda x, shape: distortion_neighbours(x, shape, 15, side=14),
    "images of 28 pixels a side": lambda x, shape: distortion_neighbours(x, shape, 15, side=28),
}
BOTH = (_merging, _kmeans)
CLUSTERERS: dict[str, Clusterer] = {
    "merged Gaussians alone": _merging,
    "k-means alone": _kmeans,
    "EM from k-means": _em_from_kmeans,
}
ONE, FLAT = "one embedding instead of the best of several", "2 dimensions instead of 10"
NO_GRAPH: dict[str, Clusterer] = {
    "k-means on the rows": _kmeans,
    "Gaussians with one covariance, on 100 components": _with_one_covariance,
}
SEQUENCES: dict[str, tuple[int, bool, bool]] = {
    "default": (100, True, True),
    "the model of 50 components instead of 100": (50, True, True),
    "the model of 150 components": (150, True, True),
    "recordings as they are, not standardised": (100, False, True),
    "rows in no order": (100, True, False),
}
"""Principal components, whether recordings are standardised, and whether the model is told the order of rows."""

WORDS: dict[str, tuple[int, int, bool, bool]] = {
    "default": (100, 50, True, True),
    "words' vectors of 50 components instead of 100": (50, 50, True, True),
    "words' vectors of 200 components": (200, 50, True, True),
    "10 starts of k-means instead of 50": (100, 10, True, True),
    "the start of least inertia": (100, 50, True, False),
    "not corrected by neighbours": (100, 50, False, True),
}
"""Components, starts of k-means, whether neighbours correct them, and whether that counts which explains the graph."""

VARIANTS = tuple(dict.fromkeys((*GRAPHS, *GRAPHS_OF_IMAGES, FLAT, *CLUSTERERS, ONE, *SEQUENCES, *WORDS, *NO_GRAPH)))


def variants_of(known: Mapping[str, Any]) -> set[str]:
    """Names of the variants that rows of a kind have."""
    if known["lengths"] is not None:
        return {*SEQUENCES, *NO_GRAPH}
    if known["documents"]:
        return {*WORDS, *NO_GRAPH}
    of_graph = {*GRAPHS, FLAT, *CLUSTERERS, ONE, *NO_GRAPH}
    return of_graph if known["image_shape"] is None else of_graph | set(GRAPHS_OF_IMAGES)


def sequence_variants(
    x: NDArray[Any], lengths: Sequence[int], n_clusters: int, seed: int
) -> Iterator[tuple[str, Labels]]:
    """Each variant's name and (rows,) clusters."""
    for name, (n_components, by_recording, in_order) in SEQUENCES.items():
        points = standardised(x, lengths if by_recording else [len(x)])
        points = PCA(min(n_components, *points.shape), random_state=0).fit_transform(points)
        told = lengths if in_order else [1] * len(x)
        found, _ = likeliest_hidden_markov(points, told, n_clusters, n_init=50, seed=seed)
        yield name, found.responsibilities.argmax(1)


def word_variants(x: NDArray[Any], n_clusters: int, seed: int) -> Iterator[tuple[str, Labels, coo_array]]:
    """Each variant's name, (rows,) clusters and graph."""
    seeds = np.random.SeedSequence(seed).generate_state(max(n_init for _, n_init, *_ in WORDS.values())).tolist()
    for n_components in dict.fromkeys(n_components for n_components, *_ in WORDS.values()):
        points = document_vectors(x, n_components)
        graph = neighbour_graph(*nearest_neighbours(points, 15))
        tried = [KMeans(n_clusters, n_init=1, random_state=own).fit(points) for own in seeds]
        plain = [one.labels_.astype(np.int64) for one in tried]
        agreed = [agreed_with_neighbours(one, graph.tocsr(), n_clusters) for one in plain]
        for name, (own_components, n_init, corrected, by_graph) in WORDS.items():
            if own_components != n_components:
                continue
            found = (agreed if corrected else plain)[:n_init]
            worth = [
                block_likelihood(graph, labels, n_clusters) if by_graph else -one.inertia_
                for labels, one in zip(found, tried, strict=False)
            ]
            yield name, found[int(np.argmax(worth))], graph


def variants(
    x: NDArray[Any], known: Mapping[str, Any], n_clusters: int, seed: int
) -> Iterator[tuple[str, Labels, coo_array | None]]:
    """Each variant's name, (rows,) clusters and graph, where it has one."""
    shape, lengths = known["image_shape"], known["lengths"]
    seeds = np.random.SeedSequence(seed).generate_state(n_embeddings_of(len(x))).tolist()

    def embeddings(graph: coo_array, n_components: int = 10) -> list[NDArray[Any]]:
        return [neighbour_embedding(x, graph, n_components=n_components, seed=own).double().numpy() for own in seeds]

    def best(graph: coo_array, points: list[NDArray[Any]], clusterers: Sequence[Clusterer] = BOTH) -> Labels:
        found = [
            clusterer(part, n_clusters, own)
            for part, own in zip(points, seeds, strict=False)
            for clusterer in clusterers
        ]
        return max(found, key=lambda one: block_likelihood(graph, one, n_clusters))

    for name, clusterer in NO_GRAPH.items():
        yield name, clusterer(x, n_clusters, seed), None
    if lengths is not None:
        for name, found in sequence_variants(x, lengths, n_clusters, seed):
            yield name, found, None
        return
    if known["documents"]:
        yield from word_variants(x, n_clusters, seed)
        return
    graphs = {name: neighbours(x, shape) for name, neighbours in GRAPHS.items()}
    if shape is not None:
        graphs |= {name: neighbours(x, shape) for name, neighbours in GRAPHS_OF_IMAGES.items()}
    for name, neighbours in graphs.items():
        graph = neighbour_graph(*neighbours)
        points = embeddings(graph)
        yield name, best(graph, points), graph
        if name == "default":
            yield ONE, best(graph, points[:1]), graph
            for other, clusterer in CLUSTERERS.items():
                yield other, best(graph, points, [clusterer]), graph
            yield FLAT, best(graph, embeddings(graph, 2)), graph


def _graph_facts(graph: coo_array, found: Labels, y: Labels, n_clusters: int) -> dict[str, float]:
    """The share of the edges' weight within classes, and how well clusters and classes explain the graph, in nats."""
    same = y[graph.coords[0]] == y[graph.coords[1]]
    return {
        "edges_within_classes": float(graph.data[same].sum() / graph.data.sum()),
        "explained_by_clusters": block_likelihood(graph, found, n_clusters),
        "explained_by_classes": block_likelihood(graph, y, n_clusters),
    }


def run(data: str, seed: int) -> None:
    """Append what is not there yet."""
    x, n_clusters = rows(data)
    known, y = kind(data), labels(data)
    there = {(record["data"], record["variant"], record["seed"]) for record in read(FILE)}
    if {(data, name, seed) for name in variants_of(known)} <= there:
        return
    started = time.perf_counter()
    for name, found, graph in variants(x, known, n_clusters, seed):
        record = {
            "data": data,
            "variant": name,
            "seed": seed,
            "accuracy": pc.metrics.accuracy(y, found),
            "nmi": pc.metrics.nmi(y, found),
            **({} if graph is None else _graph_facts(graph, found, y, n_clusters)),
            "seconds": time.perf_counter() - started,
            **made(1),
        }
        if (data, name, seed) not in there:
            append(FILE, record)
            print(data, name, seed, f"ACC {record['accuracy']:.3f}", flush=True)
        started = time.perf_counter()


def table() -> str:
    """The Markdown table: accuracy of the starting clusters and, in brackets, share of edges within a class."""
    records = read(FILE)
    sets = [data for data in SETS if any(record["data"] == data for record in records)]
    lines = [("ACC [edges within classes]", *sets), ("---",) * (len(sets) + 1)]
    for name in VARIANTS:
        cells = []
        for data in sets:
            own = [record for record in records if (record["data"], record["variant"]) == (data, name)]
            of_graph = name in {**GRAPHS, **GRAPHS_OF_IMAGES, **WORDS} and own and "edges_within_classes" in own[0]
            edges = f" [{own[0]['edges_within_classes']:.3f}]" if of_graph else ""
            cells.append(spread([record["accuracy"] for record in own]) + edges if own else "")
        lines.append((name, *cells))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.starts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="only write and print the table of what was run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        for seed in arguments.seeds:
            for data in arguments.data:
                run(data, seed)
    found = table()
    FILE.with_suffix(".md").write_text(found + "\n")
    print(found)


if __name__ == "__main__":
    main()
