"""Clusters of codes to start from: k-means and Gaussian mixtures."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch import Tensor
from torch.nn import functional

from probclust.starts.clusterers.graphs import agreed_with_neighbours, one_way_graph
from probclust.starts.labels import codes_of, start_from
from probclust.story.recipe import Compute, Run


def kmeans_start(encode: Callable[[Tensor], Tensor] | None = None, *, n_init: int = 20) -> Compute:
    """A step that puts starting labels into `run.memory.labels`, by k-means; follow it with `SVI(to_start=True)`.

    Known rows have their say, as `start_from` tells.

    Where an earlier step left a neighbour graph, each row then takes the commonest label among its neighbours' and
    its own, so that rows at a border go where their neighbours in x are. The labels of k-means itself are kept in
    `run.memory.kmeans`.

    Args:
        encode: (rows, n_features) to (rows, latent_dim) codes to cluster; None to cluster x itself.
        n_init: starts of k-means, of which the one with the least inertia counts.
    """

    def find(run: Run) -> None:
        n_clusters = run.story.n_clusters
        kmeans = KMeans(n_clusters, n_init=n_init, random_state=run.seed % 2**32)
        labels = kmeans.fit_predict(codes_of(run, encode).cpu().numpy())
        run.memory.kmeans = torch.as_tensor(labels).long()
        if "neighbours" in run.memory:
            graph = one_way_graph(run.memory.neighbours.cpu().numpy())
            labels = agreed_with_neighbours(labels, graph, n_clusters, rounds=1)
        start_from(labels, run)

    return Compute(name="start", run=find)


def gmm_start(encode: Callable[[Tensor], Tensor] | None = None, *, n_init: int = 10) -> Compute:
    """A step that puts the labels of a diagonal Gaussian mixture on codes into `run.memory.labels`.

    Known rows have their say, as `start_from` tells.

    Args:
        encode: (rows, n_features) to (rows, latent_dim) codes; None to cluster x itself.
        n_init: starts of EM, each from k-means, of which the likeliest counts.
    """

    def find(run: Run) -> None:
        codes = codes_of(run, encode).double().cpu().numpy()
        codes = codes / (codes.std() + 1e-12)
        mixture = SklearnMixture(
            run.story.n_clusters, covariance_type="diag", n_init=n_init, random_state=run.seed % 2**32, reg_covar=1e-3
        )
        with warnings.catch_warnings():  # a mixture short of EM's tolerance is good enough for a start
            warnings.simplefilter("ignore", ConvergenceWarning)
            labels = mixture.fit_predict(codes)
        # rounding decides among starts of EM that end alike but for their numbering: number by the rows' order
        _, first, labels = np.unique(labels, return_index=True, return_inverse=True)
        start_from(first.argsort().argsort()[labels], run)

    return Compute(name="start", run=find)


def directions(encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`encode` followed by scaling each code to length 1: what `neighbour_pretraining` compares."""
    return lambda x: functional.normalize(encode(x), dim=1)
