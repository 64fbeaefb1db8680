"""The numbers that a story gives on fixed rows, for the JSON beside the saved stories."""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

import probclust as pc

DRAWN = ("elbo", "log_likelihood", "sample", "drawn log_joint")
"""Those that depend on random draws, so on the version of torch and on the processor."""


def numbers(story: pc.Story, x: Any) -> dict[str, Any]:
    """What every public score and draw gives, as nested lists; None where the story has no such thing.

    Args:
        story: in evaluation mode.
        x: (rows, D).
    """
    asked = {
        "log_joint": lambda: pc.log_joint(story, x),
        "responsibilities": lambda: pc.responsibilities(story, x),
        "predict": lambda: pc.predict(story, x),
        "reconstruct": lambda: pc.reconstruct(story, x),
        "embed": lambda: pc.embed(story, x),
        "drawn log_joint": lambda: pc.log_joint(story, x, particles=2, seed=1),
        "elbo": lambda: pc.elbo(story, x, particles=2, seed=2),
        "log_likelihood": lambda: pc.log_likelihood(story, x, particles=3, seed=3),
        "sample": lambda: dict(pc.sample(story, 4, seed=4)),
    }
    found = {}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, ask in asked.items():
            try:
                found[name] = plain(ask())
            except (ValueError, NotImplementedError):  # no latents to embed, no density to draw from
                found[name] = None
    return found


def plain(value: Any) -> Any:
    """Tensors as lists of numbers with the nine digits that a float32 has; NaN as None."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in sorted(value.items())}
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return None if value != value else float(f"{value:.9g}")
    return value


def draws() -> str:
    """Digest of what torch draws from a seed: where it differs, drawn numbers cannot be compared."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = [torch.randn(4, 3), torch.rand(7), torch._standard_gamma(torch.full((5,), 2.0)), torch.randn(40)]
        found += [torch.multinomial(torch.ones(3), 20, True), torch.poisson(torch.full((6,), 3.0))]
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in found)).hexdigest()[:16]
