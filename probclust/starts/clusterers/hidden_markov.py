"""A hidden Markov model of rows in order: Gaussian clusters with one covariance, and a chance to leave each for each.

Rows follow each other in recordings. The first row's cluster is drawn from the chances of a start, each other row's by
the cluster of the row before, and the row from its cluster's Gaussian. As the clusters share one covariance S = L L',
what matters of a row, scaled to L^-1 x, are its products with the K scaled means.

The likelihood is a product of one matrix per row, multiplied in pairs. Its derivatives are the expected counts that EM
asks for: by a row's log densities the responsibilities, by the transitions' logarithms how often each is taken.

Source: L. Rabiner, "A tutorial on hidden Markov models and selected applications in speech recognition", Proceedings of
the IEEE, 1989, sections III and IV; J. Eisner, "Inside-outside and forward-backward algorithms are just backprop",
2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PRIOR = 1.0
"""Transitions of each kind that are counted before any is seen."""

PAIRED_ELEMENTS = 2**22
"""Numbers, K^3 for each pair of rows, that a product of pairs may hold at once."""


@dataclass(frozen=True)
class HiddenMarkov:
    """What EM found.

    Attributes:
        responsibilities: (rows, K) chances of each row's cluster given all rows.
        log_likelihood: of the rows, mean per row, in nats.
        coordinates: (rows, min(K - 1, features)) the rows in the directions in which the clusters' means differ, scaled
            so that rows of a cluster vary by 1 in each; that with the largest differences first.
    """

    responsibilities: NDArray[np.float64]
    log_likelihood: float
    coordinates: NDArray[np.float64]


def fitted_hidden_markov(
    points: NDArray[Any],
    lengths: Sequence[int],
    labels: NDArray[Any],
    n_clusters: int,
    *,
    iterations: int = 100,
    tolerance: float = 1e-4,
) -> HiddenMarkov:
    """The model that EM finds from starting clusters.

    Args:
        points: (rows, features) in order, one recording after the other.
        lengths: rows of each recording.
        labels: (rows,) clusters 0..K-1 from which the parameters are first computed.
        n_clusters: K.
        iterations: of EM, at most.
        tolerance: nats per row; a smaller rise of the likelihood ends EM.
    """
    x = torch.as_tensor(np.asarray(points, dtype=np.float64))
    x = x - x.mean(0)
    n_rows, n_features = x.shape
    first = torch.zeros(n_rows, dtype=torch.bool)
    first[np.cumsum([0, *lengths[:-1]])] = True
    second_moment = x.T @ x / n_rows
    ridge = 1e-6 * second_moment.diagonal().mean().clamp(min=1e-12) * torch.eye(n_features, dtype=x.dtype)

    gamma = torch.nn.functional.one_hot(torch.as_tensor(labels).long(), n_clusters).to(x)
    follows = ~first[1:]
    taken = gamma[:-1][follows].T @ gamma[1:][follows]
    began = gamma[first].sum(0)
    last = -float("inf")
    for _ in range(iterations):
        share = (gamma.mean(0) + 1e-12).unsqueeze(1)
        means = gamma.T @ x / n_rows / share
        factor = torch.linalg.cholesky(second_moment - means.T @ (share * means) + ridge)
        scaled, scaled_means = _divided(factor, x), _divided(factor, means)
        density = scaled @ scaled_means.T - scaled_means.square().sum(1) / 2
        constant = -(scaled.square().sum(1).mean() + n_features * np.log(2 * np.pi)) / 2 - factor.diagonal().log().sum()
        start = ((began + PRIOR) / (began + PRIOR).sum()).log()
        transitions = ((taken + PRIOR) / (taken + PRIOR).sum(1, keepdim=True)).log()
        total, gamma, taken, began = expected_counts(density, start, transitions, first)
        now = float(total / n_rows + constant)
        if now - last < tolerance:
            break
        last = now
    centred = share.sqrt() * (scaled_means - (share * scaled_means).sum(0) / share.sum())
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[: max(1, n_clusters - 1)]
    return HiddenMarkov(gamma.numpy(), now, (scaled @ directions.T).numpy())


def _divided(factor: Tensor, rows: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(factor, rows.T, upper=False).T


def expected_counts(
    density: Tensor, start: Tensor, transitions: Tensor, first: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log likelihood, responsibilities (rows, K), expected transitions (K, K) and expected starts (K,).

    Args:
        density: (rows, K) log densities.
        start: (K,) log chances at the first row of a recording.
        transitions: (K, K) log chances from each cluster to each.
        first: (rows,) whether a recording begins.
    """
    density, start, transitions = (part.detach().requires_grad_() for part in (density, start, transitions))
    steps = torch.where(first[:, None, None], start, transitions) + density[:, None, :]
    total = torch.logsumexp(_product(steps)[0], 0)  # every row of the first matrix is the same
    gamma, taken, began = torch.autograd.grad(total, (density, transitions, start))
    return total.detach(), gamma, taken, began


def _product(steps: Tensor) -> Tensor:
    """(K, K) logarithms of the product of (rows, K, K) matrices that are given by theirs."""
    size = max(1, PAIRED_ELEMENTS // steps.shape[1] ** 3)
    while len(steps) > 1:
        odd = steps[len(steps) - len(steps) % 2 :]
        parts = [part.split(size) for part in (steps[: len(steps) - len(odd)][0::2], steps[1::2])]
        if len(parts[0]) == 1:
            pairs = [_paired(parts[0][0], parts[1][0])]
        else:  # the gradient computes each part anew, so that no two are in memory together
            pairs = [checkpoint(_paired, *pair, use_reentrant=False) for pair in zip(*parts, strict=True)]
        steps = torch.cat([*pairs, odd])
    return steps[0]


def _paired(first: Tensor, second: Tensor) -> Tensor:
    """(pairs, K, K) logarithms of the products of matrices in pairs."""
    return torch.logsumexp(first[:, :, :, None] + second[:, None, :, :], 2)
