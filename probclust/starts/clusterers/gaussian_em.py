"""EM of a Gaussian mixture whose rows' clusters are known in part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

CovarianceType = Literal["full", "diag", "spherical"]


@dataclass(frozen=True)
class Gaussians:
    """A mixture of Gaussians, by scikit-learn's names.

    Attributes:
        weights_: (K,) of sum 1.
        means_: (K, D).
        covariances_: (K, D, D) where full, (K, D) variances where diagonal, (K,) where spherical.
    """

    weights_: Tensor
    means_: Tensor
    covariances_: Tensor


def semi_supervised_em(
    x: Tensor,
    labels: Tensor,
    y: Tensor,
    *,
    n_clusters: int,
    covariance_type: CovarianceType,
    reg_covar: float,
    max_iter: int = 100,
    tol: float = 1e-3,
) -> Gaussians:
    """Maximise the likelihood of rows together with the clusters that are known of some; known rows keep theirs.

    Args:
        x: (rows, D), in float64.
        labels: (rows,) clusters to start from, which agree with those known.
        y: (rows,) known clusters, -1 where unknown.
        n_clusters: K.
        covariance_type: as scikit-learn has it.
        reg_covar: added to the variances.
        max_iter: E-steps at most.
        tol: gain of the mean log-likelihood, in nats per row, below which it ends.

    Source: K. Nigam, A. K. McCallum, S. Thrun, T. Mitchell, "Text classification from labeled and unlabeled documents
    using EM", 2000, equations 5 and 6.
    """
    known, given = y >= 0, functional.one_hot(y.clamp(min=0), n_clusters).to(x)
    responsibilities = functional.one_hot(labels, n_clusters).to(x)
    before = -math.inf
    for _ in range(max_iter):
        mixture = _maximised(x, responsibilities, covariance_type, reg_covar)
        joint = _log_joint(x, mixture, covariance_type)
        joint = torch.where(known[:, None] & (given == 0), -torch.inf, joint)
        bound = float(joint.logsumexp(1).mean())
        responsibilities = joint.softmax(1)
        if bound - before < tol:
            break
        before = bound
    return mixture


def _maximised(x: Tensor, responsibilities: Tensor, covariance_type: CovarianceType, reg_covar: float) -> Gaussians:
    """The M-step, from (rows, K) responsibilities."""
    sizes = responsibilities.sum(0) + 10 * torch.finfo(x.dtype).eps
    loc = responsibilities.T @ x / sizes[:, None]
    if covariance_type == "full":
        centred = [r[:, None].sqrt() * (x - m) for r, m in zip(responsibilities.T, loc, strict=True)]
        covariance = torch.stack([c.T @ c for c in centred]) / sizes[:, None, None]
        covariance.diagonal(dim1=1, dim2=2).add_(reg_covar)
    else:
        squares = [r @ (x - m).square() for r, m in zip(responsibilities.T, loc, strict=True)]
        covariance = torch.stack(squares) / sizes[:, None] + reg_covar
        covariance = covariance.mean(1) if covariance_type == "spherical" else covariance
    return Gaussians(sizes / sizes.sum(), loc, covariance)


def _log_joint(x: Tensor, mixture: Gaussians, covariance_type: CovarianceType) -> Tensor:
    """(rows, K) log weight plus log density."""
    columns = []
    for weight, loc, covariance in zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True):
        if covariance_type == "full":
            factor = torch.linalg.cholesky(covariance)
            whitened = torch.linalg.solve_triangular(factor, (x - loc).T, upper=False).T
            log_volume = factor.diagonal().log().sum()
        else:
            scale = covariance.sqrt().expand(x.shape[1])
            whitened, log_volume = (x - loc) / scale, scale.log().sum()
        constant = weight.log() - log_volume - 0.5 * x.shape[1] * math.log(2 * math.pi)
        columns.append(constant - 0.5 * whitened.square().sum(1))
    return torch.stack(columns, 1)
