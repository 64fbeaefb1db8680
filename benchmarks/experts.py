"""Rate of stacked networks against plain matrix products of the same total size, in the same process.

    python -m benchmarks.experts [--threads 1] [--rounds 11]

An encoder and a decoder of K experts, as a mixture of VAEs has them, forward alone and forward with backward, biases
and ReLUs included, against one plain product for each layer, (K rows, in) by (in, out), and the two products of its
backward pass; the first layer's inputs need no gradient. The two take turns, and count processor time. The rate is the
ratio of the medians: 1 is the speed of the plain products. Writes benchmarks/results/experts.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.record import RESULTS, write
from probclust.networks.stacked import StackedMLP

LATENT = 10
SETTINGS = [  # experts, features, hidden, rows
    (10, 784, (500, 100), 256),
    (10, 784, (64,), 1024),
    (10, 64, (64,), 1024),
    (100, 64, (64,), 256),
]


def stacked(n_experts: int, n_features: int, hidden: tuple[int, ...], rows: int) -> dict[str, Callable[[], None]]:
    """A pass forward, and one forward and backward."""
    encoder = StackedMLP(n_experts, [n_features, *hidden, 2 * LATENT])
    decoder = StackedMLP(n_experts, [LATENT, *reversed(hidden), n_features])
    x, z = torch.randn(rows, n_features), torch.randn(n_experts, rows, LATENT, requires_grad=True)
    gradients = [torch.randn(n_experts, rows, 2 * LATENT), torch.randn(n_experts, rows, n_features)]

    def forward() -> None:
        with torch.no_grad():
            encoder(x)
            decoder(z)

    def backward() -> None:
        for parameter in (z, *encoder.parameters(), *decoder.parameters()):
            parameter.grad = None
        torch.autograd.backward([encoder(x), decoder(z)], gradients)

    return {"forward": forward, "forward and backward": backward}


def plain(n_experts: int, n_features: int, hidden: tuple[int, ...], rows: int) -> dict[str, Callable[[], None]]:
    """The products of the same layers, each as one matrix product."""
    layers = []
    for sizes in ([n_features, *hidden, 2 * LATENT], [LATENT, *reversed(hidden), n_features]):
        for number, (n_in, n_out) in enumerate(pairwise(sizes)):
            n = n_experts * rows
            shapes = (n, n_in), (n_in, n_out), (n, n_out)
            layers.append((*(torch.randn(shape) for shape in shapes), number or n_in == LATENT))

    def forward() -> None:
        for x, weight, _, _ in layers:
            x @ weight

    def backward() -> None:
        for x, weight, gradient, to_input in layers:
            x @ weight
            x.T @ gradient
            if to_input:
                gradient @ weight.T

    return {"forward": forward, "forward and backward": backward}


def compare(setting: tuple[int, int, tuple[int, ...], int], rounds: int) -> list[dict[str, object]]:
    """Rates of a setting."""
    ours, theirs, found = stacked(*setting), plain(*setting), []
    for what in ours:
        seconds: dict[str, list[float]] = {"stacked": [], "plain": []}
        for number in range(rounds + 1):
            for label, run in (("plain", theirs[what]), ("stacked", ours[what])):
                started = time.process_time()
                run()
                if number:  # the first round warms up
                    seconds[label].append(time.process_time() - started)
        medians = {label: statistics.median(values) for label, values in seconds.items()}
        rate = medians["plain"] / medians["stacked"]
        experts, features, hidden, rows = setting
        about = {"experts": experts, "features": features, "hidden": hidden, "rows": rows, "pass": what}
        found.append({**about, "rate": rate, "milliseconds": {k: 1000 * v for k, v in medians.items()}})
        print(f"{experts:4} experts, {features:4}-{hidden}, {rows:5} rows, {what:20}: rate {rate:.2f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path, default=RESULTS / "experts.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    command = f"python -m benchmarks.experts --threads {arguments.threads} --rounds {arguments.rounds}"
    results = [rate for setting in SETTINGS for rate in compare(setting, arguments.rounds)]
    write(arguments.out, command, arguments.threads, results=results)


if __name__ == "__main__":
    main()
