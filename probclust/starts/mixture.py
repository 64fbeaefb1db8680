"""Starting clusters as p(cluster) has them: their number, their order, and the Gaussian mixture that finds them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch import Tensor

from probclust.priors.weights import StickBreaking, Weights
from probclust.starts.clusterers.gaussian_em import Gaussians, semi_supervised_em
from probclust.starts.clusters import kmeans_start
from probclust.starts.labels import codes_of, complete_rows, in_known_order, start_from
from probclust.story.recipe import Compute, Run

_MANY = 50
"""Columns beyond which full covariances cost too much for a start."""


def mixture_start(weights: Weights | None, encode: Callable[[Tensor], Tensor] | None = None) -> Compute:
    """The step that finds a recipe's starting clusters, of codes or of x itself.

    It is k-means; under stick-breaking weights a variational Dirichlet process mixture of Gaussians, which leaves
    clusters empty itself. Known rows have their say, as `start_from` tells.

    Args:
        weights: the story's p(cluster); None where that is no part.
        encode: (rows, n_features) to (rows, latent_dim) codes; None for x itself.
    """
    if not isinstance(weights, StickBreaking):
        return kmeans_start(encode)

    def find(run: Run) -> None:
        rows = codes_of(run, encode).double().cpu().numpy()
        rows = rows / (rows.std() + 1e-12)
        kind = "full" if rows.shape[1] <= _MANY else "spherical"
        mixture = gaussian_mixture(weights, rows, covariance_type=kind, random_state=run.seed % 2**32, reg_covar=1e-3)
        with warnings.catch_warnings():  # a mixture short of its tolerance is good enough for a start
            warnings.simplefilter("ignore", ConvergenceWarning)
            labels = mixture.fit_predict(rows)
        start_from(np.argsort(cluster_order(weights, labels, run))[labels], run)

    return Compute(name="start", run=find)


def cluster_order(weights: Weights, labels: Any, run: Run) -> NDArray[Any]:
    """The start's cluster for each of the story's, (K,).

    Known clusters keep their numbers; else stick-breaking weights, which expect it so, have the largest first.

    Args:
        weights: the story's p(cluster).
        labels: (rows,) cluster of each row in the start's own numbering.
        run: whose `y` has the known clusters.
    """
    if run.y is not None or not isinstance(weights, StickBreaking):
        return in_known_order(labels, run)
    return np.argsort(-np.bincount(labels, minlength=weights.n_clusters), kind="stable")


def gaussian_mixture(weights: Weights, x: NDArray[Any], **settings: Any) -> Any:
    """scikit-learn's Gaussian mixture under these weights, to be fitted to x.

    Under stick-breaking weights it is the variational Dirichlet process mixture. Its prior of full and spherical
    covariances has that of x for its mean; scikit-learn's own has that over D, under which single rows of many columns
    become clusters.

    Args:
        weights: the story's p(cluster).
        x: (rows, n_features).
        settings: scikit-learn's own.
    """
    if not isinstance(weights, StickBreaking):
        return SklearnMixture(weights.n_clusters, **settings)
    n_features = x.shape[1]
    own: dict[str, Any] = {"weight_concentration_prior": weights.concentration.item(), "max_iter": 500}
    if settings.get("covariance_type") == "full":
        own["covariance_prior"] = n_features * (np.atleast_2d(np.cov(x.T)) + 1e-9 * np.eye(n_features))
    elif settings.get("covariance_type") == "spherical":
        own["covariance_prior"] = n_features * x.var(0).mean()
    return BayesianGaussianMixture(n_components=weights.n_clusters, **own, **settings)


def fitted_gaussians(run: Run, weights: Weights, *, covariance_type: str, reg_covar: float) -> Gaussians:
    """EM's mixture of Gaussians on the rows, its components in the order of the story's clusters, in float64.

    Args:
        run: whose `y` has the known clusters, which EM then holds.
        weights: the story's p(cluster).
        covariance_type: "full", "diag" or "spherical".
        reg_covar: added to the variances.
    """
    x = complete_rows(run).cpu().double()
    centre = x.mean(0)
    x = x - centre  # scikit-learn takes variances for differences of means of squares
    settings: dict[str, Any] = {"covariance_type": covariance_type, "reg_covar": reg_covar}
    mixture = gaussian_mixture(weights, x.numpy(), random_state=run.seed % 2**32, **settings)  # which takes 32 bits
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):  # what EM leaves, SVI goes on with
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = mixture.fit_predict(x.numpy())
    order = torch.as_tensor(cluster_order(weights, labels, run))
    if run.y is not None:
        start_from(np.argsort(order.numpy())[labels], run)
        start, y = run.memory.labels.cpu(), run.y.cpu()
        mixture = semi_supervised_em(x, start, y, n_clusters=weights.n_clusters, **settings)
        order = torch.arange(weights.n_clusters)
    shares, loc, covariance = (
        torch.as_tensor(value)[order] for value in (mixture.weights_, mixture.means_, mixture.covariances_)
    )
    return Gaussians(shares, loc + centre, covariance)
