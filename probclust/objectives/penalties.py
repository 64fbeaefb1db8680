"""Penalties that objectives add to a bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def pair_penalty(log_joint: Tensor, is_must: Tensor) -> Tensor:
    """Mean penalty of pairs, in nats per pair.

    Args:
        log_joint: (2 * pairs, K) log joint: of the first row of each pair, then of the second.
        is_must: (pairs,) True for a must-link.

    Returns:
        A scalar, at least 0.
    """
    first, second = log_joint.log_softmax(1).chunk(2)
    together = (first + second).logsumexp(1)
    # 1 - r_i . r_j = sum_k r_jk sum_{l != k} r_il: it keeps its gradient where both rows are sure of one cluster
    own = torch.eye(first.shape[1], dtype=torch.bool, device=first.device)
    others = first[:, None].masked_fill(own, -math.inf).logsumexp(2)
    apart = (second + others).logsumexp(1)
    return -torch.where(is_must, together, apart).mean()
