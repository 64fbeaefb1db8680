"""The limit: the matrix products of an epoch, forward and backward, and nothing else.

A layer of `a` inputs and `b` outputs has three for each batch: its outputs, the gradient of its weights, and, but for
the first layer, whose inputs are data, the gradient of its inputs. Results go into buffers that are there before.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from benchmarks.speed.gate import Gate


def layers(method: str, features: int, latent: int, arguments: dict[str, Any]) -> list[tuple[int, int]]:
    """(inputs, outputs) of every layer, the first of the encoder first."""
    hidden = tuple(arguments.get("hidden", (500, 100) if method == "mixture-of-vaes" else (500, 500, 2000)))
    code = latent if method in ("dec", "idec", "dcn") else 2 * latent  # mean and variance
    encoder = list(pairwise((features, *hidden, code)))
    return encoder if method == "dec" else encoder + list(pairwise((latent, *reversed(hidden), features)))


def products(n_experts: int, rows: int, sizes: list[tuple[int, int]]) -> list[Callable[[], Any]]:
    """The products of one batch; `n_experts` networks side by side, 0 for a single one."""
    stack = (n_experts,) if n_experts else ()
    calls: list[Callable[[], Any]] = []
    for number, (a, b) in enumerate(sizes):
        x, weight, out = torch.randn(*stack, rows, a), torch.randn(*stack, a, b), torch.empty(*stack, rows, b)
        gradient, of_weight, of_x = (
            torch.randn(*stack, rows, b),
            torch.empty(*stack, a, b),
            torch.empty(*stack, rows, a),
        )
        triples = [(x, weight, out), (x.mT, gradient, of_weight)]
        triples += [(gradient, weight.mT, of_x)] if number else []
        calls += [
            lambda left=left, right=right, to=to: torch.matmul(left, right, out=to) for left, right, to in triples
        ]
    return calls


def run(setting: dict[str, Any], x: Any, gate: Gate) -> None:
    method, size = setting["method"], setting["batch_size"]
    sizes = layers(method, x.shape[1], setting["latent"], setting.get("arguments", {}))
    n_experts = setting["clusters"] if method == "mixture-of-vaes" else 0
    batches = [size] * (len(x) // size) + ([len(x) % size] if len(x) % size else [])
    calls = {rows: products(n_experts, rows, sizes) for rows in set(batches)}
    if method == "dcn":  # codes are computed once more, to move the centroids by
        encoder = sizes[: len(sizes) // 2]
        for rows in calls:
            calls[rows] += products(0, rows, encoder)[0:1] + products(0, rows, encoder)[2::3]
    with torch.no_grad():
        for _ in gate.range(gate.epochs):
            for rows in batches:
                for call in calls[rows]:
                    call()
