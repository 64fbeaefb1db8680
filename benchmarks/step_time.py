"""Time of one training step against a hand-written torch loop of the same network, in the same process.

    python benchmarks/step_time.py [--threads 2] [--rounds 7] [--steps 12]

For VaDE and the mixture of VAEs, with the papers' layers, at MNIST size (784 features) and at digits size (64
features), batch 256, random data: rounds of the two loops alternate, each round runs the same number of steps, and the
ratio of the medians is what counts; the seconds depend on the machine. Writes benchmarks/results/step_time.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import probclust as pc
from probclust.recipe import Run
from probclust.record import versions
from probclust.training import Trainer

BATCH = 256
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def normal_log_prob(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return (-0.5 * ((value - loc) / scale) ** 2 - scale.log() - HALF_LOG_2PI).sum(-1)


class HandWrittenVaDE(nn.Module):
    def __init__(
        self, n_features: int, n_clusters: int = 10, latent_dim: int = 10, likelihood: str = "gaussian"
    ) -> None:
        super().__init__()
        sizes = [n_features, 500, 500, 2000]
        self.trunk = nn.Sequential(*(m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())))
        self.loc, self.log_variance = nn.Linear(2000, latent_dim), nn.Linear(2000, latent_dim)
        sizes = [latent_dim, 2000, 500, 500]
        self.decoder = nn.Sequential(*(m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())))
        self.out = nn.Linear(500, n_features)
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
        self, n_features: int, n_clusters: int = 10, latent_dim: int = 10, hidden: tuple[int, ...] = (500, 100)
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
    adam = torch.optim.Adam(module.parameters(), lr=1e-4, fused=True)

    def epoch() -> None:
        for index in torch.randperm(len(x)).split(BATCH):
            adam.zero_grad(set_to_none=True)
            module(x[index]).backward()
            adam.step()

    return epoch


def ours(story: pc.Story, x: Tensor) -> Callable[[], None]:
    step = pc.SVI(epochs=10**6, learning_rate=1e-4)
    trainer = Trainer(story, [step], device="cpu", precision=None, batch_size=BATCH)
    trainer.start(step, Run(story, x, None, 0))
    return lambda: trainer.epoch(0, 0) and None


def measure(rounds: int, steps: int) -> list[dict[str, object]]:
    pairs = (
        ("VaDE", pc.models.VaDE, HandWrittenVaDE),
        ("MixtureOfVAEs", pc.models.MixtureOfVAEs, HandWrittenMixtureOfVAEs),
    )
    found: list[dict[str, object]] = []
    for n_features, limit in ((784, 1.15), (64, 2.0)):
        for name, story, module in pairs:
            torch.manual_seed(0)
            x = torch.rand(BATCH * steps, n_features)
            loops = {"ours": ours(story(n_features, 10), x), "hand-written": hand_written(module(n_features), x)}
            times: dict[str, list[float]] = {loop: [] for loop in loops}
            for number in range(rounds + 1):
                for loop, epoch in loops.items():
                    started = time.perf_counter()
                    epoch()
                    if number:  # the first round warms up
                        times[loop].append((time.perf_counter() - started) / steps)
            ms = {loop: 1000 * statistics.median(values) for loop, values in times.items()}
            ratios = [a / b for a, b in zip(times["ours"], times["hand-written"], strict=True)]
            found.append(
                {
                    "story": name,
                    "features": n_features,
                    "milliseconds_per_step": ms,
                    "ratio": ms["ours"] / ms["hand-written"],
                    "ratio_per_round": ratios,
                    "limit": limit,
                }
            )
            print(
                f"{name:14} {n_features:4} features: ratio {found[-1]['ratio']:.3f} (limit {limit}), {ms}", flush=True
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "step_time.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    record = {
        "command": f"python benchmarks/step_time.py --threads {arguments.threads} --rounds {arguments.rounds} "
        f"--steps {arguments.steps}",
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": arguments.threads},
        "versions": versions(),
        "results": measure(arguments.rounds, arguments.steps),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
