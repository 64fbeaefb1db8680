"""Time of one training step by each engine against a hand-written torch loop of the same network, in one process.

    python -m benchmarks.step_time [--threads 1] [--rounds 7] [--steps 12] [--engines eager staged compiled]
    python -m benchmarks.step_time --device cuda

For VaDE and the mixture of VAEs, batch 256, random data: with the papers' layers at MNIST size (784 features) and at
digits size (64 features), and with two layers of 64 units on 64 features. Rounds of the loops alternate, each round
runs the same number of steps, and the median over the rounds of the ratio to the hand-written loop is what counts; the
seconds depend on the machine. With one thread on a CPU they are CPU time, which other processes hardly change; the
limits are for there.

"start" is what an engine spends once on the first batch of a shape, beyond an eager step: tracing, simplifying, the
step by the story that it is compared with, compiling. "pays_after" is the number of steps whose savings over eager
make up for it twice, as an epoch has batches of two sizes. Writes benchmarks/results/step_time.json, of a GPU
step_time_gpu.json.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import probclust as pc
from benchmarks.record import RESULTS, write
from probclust.fitting.devices.group import Devices, fabric_for
from probclust.fitting.trainer import Trainer
from probclust.story.recipe import Run

BATCH = 256
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def normal_log_prob(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return (-0.5 * ((value - loc) / scale) ** 2 - scale.log() - HALF_LOG_2PI).sum(-1)


class HandWrittenVaDE(nn.Module):
    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int] = (500, 500, 2000),
        n_clusters: int = 10,
        latent_dim: int = 10,
        likelihood: str = "gaussian",
    ) -> None:
        super().__init__()
        sizes = [n_features, *hidden]
        self.trunk = nn.Sequential(*(m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())))
        self.loc, self.log_variance = nn.Linear(hidden[-1], latent_dim), nn.Linear(hidden[-1], latent_dim)
        sizes = [latent_dim, *reversed(hidden)]
        self.decoder = nn.Sequential(*(m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())))
        self.out = nn.Linear(hidden[0], n_features)
        self.raw_noise = nn.Parameter(torch.zeros(1))
        self.logits = nn.Parameter(torch.zeros(n_clusters))
        self.prior_loc = nn.Parameter(torch.randn(n_clusters, latent_dim))
        self.raw_prior_scale = nn.Parameter(torch.zeros(n_clusters, latent_dim))
        self.likelihood = likelihood

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        outputs = self.out(self.decoder(z))
        if self.likelihood == "bernoulli":
            return -functional.binary_cross_entropy_with_logits(outputs, x, reduction="none").sum(-1)
        return normal_log_prob(x, outputs, 0.05 + functional.softplus(self.raw_noise))

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        loc, scale = self.loc(h), (0.5 * self.log_variance(h).clamp(-10, 10)).exp()
        z = loc + scale * torch.randn_like(loc)
        likelihood = self.log_likelihood(x, z)
        prior = normal_log_prob(z[:, None], self.prior_loc, 0.05 + functional.softplus(self.raw_prior_scale))
        log_weights = self.logits.log_softmax(0)
        return -(likelihood - normal_log_prob(z, loc, scale) + (prior + log_weights).logsumexp(1)).mean()


class HandWrittenMixtureOfVAEs(nn.Module):
    def __init__(
        self, n_features: int, hidden: Sequence[int] = (500, 100), n_clusters: int = 10, latent_dim: int = 10
    ) -> None:
        super().__init__()

        def stack(sizes: list[int]) -> nn.ParameterList:
            layers = []
            for a, b in pairwise(sizes):
                layers += [torch.randn(n_clusters, a, b) / math.sqrt(a), torch.zeros(n_clusters, 1, b)]
            return nn.ParameterList(nn.Parameter(layer) for layer in layers)

        self.encoder = stack([n_features, *hidden, 2 * latent_dim])
        self.decoder = stack([latent_dim, *reversed(hidden), n_features])
        self.raw_noise = nn.Parameter(torch.zeros(1))
        self.logits = nn.Parameter(torch.zeros(n_clusters))

    @staticmethod
    def run(layers: nn.ParameterList, x: Tensor) -> Tensor:
        for i in range(0, len(layers), 2):
            x = torch.baddbmm(layers[i + 1], x, layers[i])
            if i + 2 < len(layers):
                x = functional.relu(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        loc, log_variance = self.run(self.encoder, x.expand(len(self.logits), *x.shape)).chunk(2, -1)
        scale = (0.5 * log_variance.clamp(-10, 10)).exp()
        z = loc + scale * torch.randn_like(loc)
        likelihood = normal_log_prob(x, self.run(self.decoder, z), 0.05 + functional.softplus(self.raw_noise))
        prior = -0.5 * (z**2).sum(-1) - z.shape[-1] * HALF_LOG_2PI
        table = likelihood + prior - normal_log_prob(z, loc, scale) + self.logits.log_softmax(0)[:, None]
        return -table.logsumexp(0).mean()


def hand_written(module: nn.Module, x: Tensor) -> Callable[[], None]:
    module.to(x.device)
    adam = torch.optim.Adam(module.parameters(), lr=1e-4, fused=True)

    def epoch() -> None:
        for index in torch.randperm(len(x), device=x.device).split(BATCH):
            adam.zero_grad(set_to_none=True)
            module(x[index]).backward()
            adam.step()

    return epoch


def ours(story: pc.Story, x: Tensor, engine: str) -> Callable[[], None]:
    step = pc.SVI(epochs=10**6, learning_rate=1e-4)
    trainer = Trainer(story, [step], devices=Devices(fabric_for(x.device.type)), batch_size=BATCH, engine=engine)
    trainer.start(step, Run(story, x, None, 0))
    return lambda: trainer.epoch(0, 0) and None


CASES = (
    ("VaDE", 784, (500, 500, 2000), {"eager": 1.15, "staged": 1.03}),
    ("MixtureOfVAEs", 784, (500, 100), {"eager": 1.15, "staged": 1.03}),
    ("VaDE", 64, (500, 500, 2000), {"eager": 2.0}),
    ("MixtureOfVAEs", 64, (500, 100), {"eager": 2.0}),
    ("VaDE", 64, (64, 64), {"staged": 1.2}),
    ("MixtureOfVAEs", 64, (64, 64), {"staged": 1.2}),
)
"""Story, features, hidden layers, and the ratio that each engine is to stay below."""


def measure(
    rounds: int, steps: int, engines: Sequence[str], clock: Callable[[], float], device: str = "cpu"
) -> Iterator[dict[str, Any]]:
    by_hand = {"VaDE": HandWrittenVaDE, "MixtureOfVAEs": HandWrittenMixtureOfVAEs}
    for name, n_features, hidden, limits in CASES:
        torch.manual_seed(0)
        x = torch.rand(BATCH * steps, n_features, device=device)
        loops = {"hand-written": hand_written(by_hand[name](n_features, hidden), x)}
        for engine in engines:
            loops[engine] = ours(getattr(pc.models, name)(n_features, 10, hidden=hidden), x, engine)
        times: dict[str, list[float]] = {loop: [] for loop in loops}
        for _ in range(rounds + 2):
            for loop, epoch in loops.items():
                started = clock()
                epoch()
                times[loop].append((clock() - started) / steps)
        first = {loop: steps * values[0] for loop, values in times.items()}  # the second round warms up
        ms = {loop: 1000 * statistics.median(values[2:]) for loop, values in times.items()}
        for engine in engines:
            ratios = [a / b for a, b in zip(times[engine][2:], times["hand-written"][2:], strict=True)]
            start = max(0.0, first[engine] - first["eager"]) if "eager" in first else None
            saved = (ms["eager"] - ms[engine]) / 1000 if "eager" in first else None
            yield {
                "story": name,
                "features": n_features,
                "hidden": hidden,
                "engine": engine,
                "milliseconds_per_step": {loop: ms[loop] for loop in ("hand-written", engine)},
                "ratio": statistics.median(ratios),
                "ratio_per_round": ratios,
                "limit": limits.get(engine) if device == "cpu" else None,
                "start_seconds": start,
                "pays_after": math.ceil(2 * start / saved) if start and saved and saved > 0 else None,
            }


def synchronised() -> float:
    """Seconds, once the GPU has done what it was told."""
    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--engines", nargs="+", default=["eager", "staged"], help="compiled takes a minute longer")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path, help="instead of the file in benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = synchronised if arguments.device == "cuda" else time.perf_counter
    if arguments.threads == 1 and arguments.device == "cpu":
        clock = time.process_time
    results = []
    for found in measure(arguments.rounds, arguments.steps, arguments.engines, clock, arguments.device):
        results.append(found)
        print("{story:14} {features:4} {hidden!s:16} {engine:9} ratio {ratio:.3f}".format_map(found), end="")
        print(
            f" (limit {found['limit']}), start {found['start_seconds']}, pays after {found['pays_after']}", flush=True
        )
    command = f"--threads {arguments.threads} --rounds {arguments.rounds} --steps {arguments.steps}"
    command = f"{command} --engines {' '.join(arguments.engines)}"
    command = f"python -m benchmarks.step_time {command}" + " --device cuda" * (arguments.device == "cuda")
    out = arguments.out or RESULTS / ("step_time_gpu.json" if arguments.device == "cuda" else "step_time.json")
    write(out, command, arguments.threads, clock=clock.__name__, results=results)


if __name__ == "__main__":
    main()
