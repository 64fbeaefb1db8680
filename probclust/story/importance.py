"""The importance-weighted bound on log p(x), with what tells whether its particles were enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probclust.arguments import positive
from probclust.story.chunks import chunks, evaluating
from probclust.story.rows import admit
from probclust.story.scoring import draws_latents, log_weights
from probclust.story.story import Story


@dataclass(frozen=True)
class ImportanceBound:
    """The bound of each row from S particles, float64.

    Attributes:
        particles: S, draws per row; 1 where the story draws no latents and the bound is exact.
        bound: (rows,) log of the mean weight, a lower bound on log p(x) in nats: `pc.log_likelihood`.
        gain: (rows,) nats by which it lies above the mean bound of the two halves of the particles. Its mean over the
            rows estimates what doubling the particles brought. The gap to log p(x) falls as 1 / S once S is large
            (Domke and Sheldon, 2018, "Importance weighting and variational inference", theorem 3); from there on the
            gain is also what remains. NaN for a single particle of a story that draws latents, 0 where exact.
        ess: (rows,) effective sample size of the weights, (sum w)^2 / sum w^2, between 1 and S (Kong, 1992).
    """

    particles: int
    bound: Tensor
    gain: Tensor
    ess: Tensor


def importance_bound(story: Story, x: Any, particles: int = 100, seed: int = 0) -> ImportanceBound:
    """The draws of `pc.log_likelihood` with the same seed, looked at more closely.

    Args:
        story: any story.
        x: (rows, n_features).
        particles: draws per row.
        seed: of the draws; the caller's random state is left alone.
    """
    rows, particles = admit(story, x), positive("particles", particles)
    exact = not draws_latents(story)
    particles = 1 if exact else particles
    half = particles // 2
    bound, gain, ess = (torch.empty(rows.shape[0], dtype=torch.float64) for _ in range(3))
    with evaluating(story, seed):
        for part, batch in chunks(story, rows):
            first, second, rest, squares = (torch.full((len(batch),), -math.inf, dtype=torch.float64) for _ in range(4))
            for number, draw in enumerate(log_weights(story, batch, particles)):
                weight = draw.double()
                squares = torch.logaddexp(squares, 2 * weight)
                if number < half:
                    first = torch.logaddexp(first, weight)
                elif number < 2 * half:
                    second = torch.logaddexp(second, weight)
                else:
                    rest = weight
            total = torch.logaddexp(torch.logaddexp(first, second), rest)
            bound[part] = total - math.log(particles)
            gain[part] = 0.0 if exact else bound[part] - (first + second) / 2 + math.log(max(half, 1))
            ess[part] = 1.0 if exact else (2 * total - squares).exp()
    if particles == 1 and not exact:
        gain.fill_(math.nan)
    return ImportanceBound(particles, bound, gain, ess)
