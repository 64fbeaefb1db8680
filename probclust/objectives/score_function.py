"""The score-function gradient: of draws through which no gradient passes, such as a von Mises's.

For such a latent z ~ q of row n, whose bound is f(z), the gradient of E_q[f] is E_q[grad f + (f - b) grad log q(z)] for
any b that does not depend on z. It is what the row's other particles say of the bound, where there are some, else the
mean of the other rows' bounds: either takes most of the noise away.

Source: R. J. Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning",
1992; of several particles A. Mnih, D. Rezende, "Variational inference for Monte Carlo objectives", 2016.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from probclust.story.joint import Joint
from probclust.story.sites import CLUSTER, Site


def with_local_scores(joint: Joint, rows: Tensor) -> Tensor:
    """(rows,) bounds of the same values, whose gradient has the score of the rows' own latents.

    Args:
        joint: the pass that they come from, over each row as often as there are particles.
        rows: (rows,) bounds in nats.
    """
    log_q = None
    for site in _without_gradient(joint, local=True):
        own = site.unscaled if site.unscaled.dim() < 2 else site.unscaled.sum(0)
        log_q = own if log_q is None else log_q + own
    if log_q is None:
        return rows
    log_q = log_q.expand(joint.n_rows).reshape(-1, len(rows))
    found = rows.detach()
    learning = found - (_of_other_particles(joint, len(log_q)) if len(log_q) > 1 else _of_other_rows(found))
    return rows + (learning * (log_q - log_q.detach())).sum(0)


def _of_other_rows(found: Tensor) -> Tensor:
    """(rows,) the mean of the other rows' bounds."""
    return (found.sum() - found) / max(1, len(found) - 1)


def _of_other_particles(joint: Joint, particles: int) -> Tensor:
    """(particles, rows) the log of the mean weight of each row's other particles."""
    weights = joint.table.detach().logsumexp(1).view(particles, -1)
    own = torch.eye(particles, dtype=torch.bool, device=weights.device)[:, :, None]
    others: Tensor = weights.masked_fill(own, -math.inf).logsumexp(1) - math.log(particles - 1)
    return torch.stack([joint.weigh(other) for other in others])


def with_global_scores(joint: Joint, bound: Tensor) -> Tensor:
    """The bound, whose gradient has the score of the global latents too."""
    for site in _without_gradient(joint, local=False):
        log_q = site.unscaled.sum()
        bound = bound + bound.detach() * (log_q - log_q.detach())
    return bound


def _without_gradient(joint: Joint, local: bool) -> list[Site]:
    return [
        site
        for name, site in joint.guide.items()
        if site.local == local and name != CLUSTER and site.is_random and not site.fn.has_rsample
    ]
