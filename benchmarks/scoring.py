"""Rate of scoring rows against the forward passes of the bare network alone, in the same process.

    python -m benchmarks.scoring [--rows 8000] [--rounds 5] [--threads 1]

For VaDE and the mixture of VAEs, with the papers' layers, at MNIST size (784 features): `pc.predict` against one
forward pass of encoder and decoder on the same chunks of rows, and `pc.log_likelihood` against the encoder once and the
decoder once for each particle. Rounds of the two alternate; what counts is the ratio of the medians of their CPU times,
the share of the bare rate that scoring reaches. Rows beyond a few chunks change nothing but the time it takes; with
`--rows 1000000` the largest resident memory beside the rows and their scores is recorded too. Writes
benchmarks/results/scoring.json.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import probclust as pc
from benchmarks.record import RESULTS, write
from probclust.story.chunks import chunk_size

PARTICLES = 5


def vade(story: Any, x: Tensor, particles: int) -> None:
    hidden = story.codec.encoder.trunk(x)
    loc, _ = story.codec.encoder.loc(hidden), story.codec.encoder.log_variance(hidden)
    for _ in range(particles):
        story.codec.decoder(loc)


def mixture_of_vaes(story: Any, x: Tensor, particles: int) -> None:
    out = story.experts.encoders.network(x)
    for _ in range(particles):
        story.experts.decoders(out[..., : story.experts.latent_dim])


def cpu_seconds(function: Callable[[], Any]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def compare(story: Any, bare: Callable[..., None], n_rows: int, rounds: int) -> dict[str, dict[str, float]]:
    """For each function, the medians of both CPU times, in microseconds per row, and the share of the bare rate."""
    x = torch.rand(n_rows, story.n_features)

    @torch.no_grad()
    def network(particles: int) -> None:
        for part in x.split(chunk_size(story)):
            bare(story, part, particles)

    functions: dict[str, tuple[Callable[[], Any], int]] = {
        "predict": (lambda: pc.predict(story, x), 1),
        "log_likelihood": (lambda: pc.log_likelihood(story, x, particles=PARTICLES), PARTICLES),
    }
    found = {}
    for name, (function, particles) in functions.items():
        function()
        network(particles)
        times: list[tuple[float, float]] = []
        for _ in range(rounds):
            times.append((cpu_seconds(function), cpu_seconds(lambda n=particles: network(n))))
        ours, theirs = (statistics.median(t) for t in zip(*times, strict=True))
        share = statistics.median(b / a for a, b in times)
        found[name] = {"micros": 1e6 * ours / n_rows, "bare_micros": 1e6 * theirs / n_rows, "share": share}
        print(f"{type(story).__name__:>14} {name:>15}: {100 * share:.1f}% of the bare network's rate", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    stories = {
        "vade": (pc.models.VaDE(784, 10), vade),
        "mixture-of-vaes": (pc.models.MixtureOfVAEs(784, 10), mixture_of_vaes),
    }
    found: dict[str, Any] = {}
    for name, (story, bare) in stories.items():
        found[name] = {"chunk": chunk_size(story), **compare(story, bare, options.rows, options.rounds)}
    peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    command = f"--rows {options.rows} --rounds {options.rounds} --threads {options.threads}"
    write(
        RESULTS / "scoring.json",
        f"python -m benchmarks.scoring {command}",
        options.threads,
        rows=options.rows,
        particles=PARTICLES,
        peak_bytes=peak_bytes,
        shares=found,
    )


if __name__ == "__main__":
    main()
