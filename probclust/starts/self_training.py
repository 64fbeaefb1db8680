"""Self-training: soft assignments of codes to centres are drawn towards a sharpened target, renewed every so often."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from probclust.arguments import positive
from probclust.networks.codes import encode_all
from probclust.story.recipe import Run, Train

log = logging.getLogger(__name__)


def student_t(codes: Tensor, centres: Tensor) -> Tensor:
    """Log assignments by the Student-t kernel: log q_ij, with q_ij proportional to (1 + |z_i - mu_j|^2)^-1.

    Args:
        codes: (rows, L).
        centres: (K, L).

    Returns:
        (rows, K), in nats; the exponentials of a row sum to 1.

    Source: equation 3 of IDEC; equation 1 of DEC with one degree of freedom.
    """
    return functional.log_softmax(-(codes[:, None] - centres).square().sum(-1).log1p(), dim=1)


def target_distribution(log_q: Tensor, log_frequency: Tensor | None = None) -> Tensor:
    """Assignments sharpened and balanced: p_ij proportional to q_ij^2 / f_j, with f_j = sum_i q_ij.

    Args:
        log_q: (rows, K) log assignments.
        log_frequency: (K,) log f, up to a constant; None to take it from these rows, which must then be all rows.

    Returns:
        (rows, K); each row sums to 1.

    Source: equation 4 of IDEC; equation 3 of DEC.
    """
    if log_frequency is None:
        log_frequency = log_q.logsumexp(0)
    return (2 * log_q - log_frequency).softmax(1)


def divergence(target: Tensor, log_q: Tensor) -> Tensor:
    """(rows,) KL(p || q) in nats, from the (rows, K) target p and log q."""
    return (torch.xlogy(target, target) - target * log_q).sum(1)


@dataclass(frozen=True, kw_only=True)
class SelfTraining(Train):
    """A training step that renews the target of all rows every `interval` batches, and ends once few rows move.

    The loss finds the target of its rows in `batch.run.memory.target[batch.index]`. Known rows (`run.y`) have their
    known cluster for target.

    Args:
        assign: (rows, n_features) to (rows, K) log assignments; it is given all rows, some at a time.
        interval: T, batches between two renewals of the target. None for half an epoch's, but at least 30: a renewal
            passes over all rows, and on many rows would otherwise take more time than the training.
        batch_size: rows per batch.
        delta: the step ends at a renewal where less than this share of all rows changed cluster since the last one; 0
            to run all epochs.
    """

    assign: Callable[[Tensor], Tensor]
    interval: int | None = None
    batch_size: int = 256
    delta: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("batch_size", self.batch_size)
        if self.interval is not None:
            positive("interval", self.interval)
        if not 0 <= self.delta <= 1:
            raise ValueError(f"delta must lie in [0, 1], got {self.delta!r}")

    @property
    def is_start(self) -> bool:
        """No: it is the clustering itself."""
        return False

    def before(self, run: Run, n_batches: int) -> bool:
        """Renew the target where it is due; whether so few rows moved that the step is over."""
        per_epoch = math.ceil(run.x.shape[0] / self.batch_size)
        if n_batches % (self.interval or max(30, per_epoch // 2)):
            return False
        log_q = encode_all(self.assign, run.x)
        target, labels = target_distribution(log_q), log_q.argmax(1)
        if run.y is not None:
            known = functional.one_hot(run.y.clamp(min=0), target.shape[1]).to(target)
            target = torch.where((run.y >= 0)[:, None], known, target)
        changed = 1.0 if n_batches == 0 else float((labels != run.memory.target_labels).double().mean())
        run.memory.target, run.memory.target_labels = target, labels
        log.info("batch %d: target renewed, %.2f%% of the rows changed cluster", n_batches, 100 * changed)
        return changed < self.delta
