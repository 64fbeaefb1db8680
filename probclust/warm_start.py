"""Warm starts shared by recipes: codes in which neighbours are close, and clusters of codes to start from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.nn import functional

from probclust.recipe import Batch, Compute, Run, Step, Train

NEIGHBOURS = "neighbours"
"""Name in `run.memory` of the (rows, n_neighbours) graph."""


def neighbour_pretraining(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    modules: Sequence[nn.Module],
    *,
    epochs: int = 30,
    learning_rate: float = 1e-3,
    n_neighbours: int = 10,
    temperature: float = 0.5,
    reconstruction: float = 0.1,
) -> list[Step]:
    """Steps that train an autoencoder whose codes agree with their neighbours'.

    The loss of a batch is the contrastive cross-entropy of finding each row's neighbour among the batch's, by the
    cosine of their codes over `temperature`, plus `reconstruction` times the share of variance not reconstructed.

    Args:
        encode: (rows, n_features) to (rows, latent_dim) codes.
        decode: codes to (rows, n_features).
        modules: whose parameters are trained.
        epochs: passes over the rows.
        learning_rate: at the start; it falls to zero by a cosine.
        n_neighbours: nearest neighbours in x of which one is drawn for each row and step.
        temperature: of the contrastive term.
        reconstruction: weight of the reconstruction term.

    Returns:
        A step that finds the neighbours, and the training step.

    Source: the contrastive loss is InfoNCE (van den Oord, Li, Vinyals, "Representation learning with contrastive
    predictive coding", 2018), with neighbours for positive pairs as in nearest-neighbour contrastive clustering.
    """

    def find(run: Run) -> None:
        k = min(n_neighbours, run.x.shape[0] - 1)
        graph = NearestNeighbors(n_neighbors=k).fit(run.x.cpu().numpy()).kneighbors(return_distance=False)
        run.memory[NEIGHBOURS] = torch.as_tensor(graph, device=run.x.device)

    def loss(batch: Batch) -> Tensor:
        graph = batch.run.memory[NEIGHBOURS]
        column = torch.randint(graph.shape[1], (len(batch.index),), device=graph.device)
        neighbour = graph[batch.index, column]
        codes = encode(torch.cat([batch.x, batch.run.x[neighbour]]))
        here, there = functional.normalize(codes, dim=1).chunk(2)
        scores = here @ there.T / temperature
        target = torch.arange(len(scores), device=scores.device)
        contrast = functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)
        missed = (decode(codes[: len(scores)]) - batch.x).square().sum(1).mean()
        variance = batch.run.x.var(0, correction=0).sum()
        return contrast / 2 + reconstruction * missed / variance

    return [
        Compute(name="neighbours", run=find),
        Train(
            name="pre-train", loss=loss, epochs=epochs, learning_rate=learning_rate, schedule="cosine", modules=modules
        ),
    ]


def fit_mixture(codes: Tensor, run: Run, covariance_type: str = "full", n_init: int = 5) -> tuple[Any, Tensor]:
    """A Gaussian mixture on codes, by scikit-learn's EM from k-means; the best of `n_init` starts by likelihood.

    Args:
        codes: (rows, latent_dim).
        run: the run; its seed draws the starts, and its known clusters, if any, order the components.
        covariance_type: scikit-learn's.
        n_init: starts.

    Returns:
        The mixture, its components in the order of the clusters, and the (rows,) labels it gives.
    """
    values = codes.cpu().double().numpy()
    spread = float(values.var(0).mean())
    mixture = SklearnMixture(
        run.story.n_clusters,
        covariance_type=covariance_type,
        reg_covar=1e-3 * spread + 1e-12,
        n_init=n_init,
        random_state=run.seed % 2**32,
    )
    with warnings.catch_warnings():  # a start may stop short of EM's tolerance
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = mixture.fit_predict(values)
    order = in_known_order(labels, run)
    for name in ("weights_", "means_", "covariances_"):
        if not (name == "covariances_" and covariance_type == "tied"):
            setattr(mixture, name, getattr(mixture, name)[order])
    return mixture, torch.as_tensor(np.argsort(order)[labels], device=run.x.device)


def in_known_order(labels: Any, run: Run) -> np.ndarray[Any, Any]:
    """The start's cluster for each of the story's clusters, so that known rows agree with their labels most often.

    Args:
        labels: (rows,) cluster of each row in the start's own numbering.
        run: whose `y` has the known clusters; without any, the order stays.

    Returns:
        (K,) integers: entry k is the start's cluster that becomes cluster k.
    """
    n_clusters = run.story.n_clusters
    if run.y is None:
        return np.arange(n_clusters)
    y, labels = run.y.cpu().numpy(), np.asarray(labels)
    counts = np.zeros((n_clusters, n_clusters), dtype=np.int64)
    np.add.at(counts, (y[y >= 0], labels[y >= 0]), 1)
    order: np.ndarray[Any, Any] = linear_sum_assignment(-counts)[1]
    return order


def inverse_softplus(value: Tensor) -> Tensor:
    """The number whose softplus is `value`, for positive values; tiny ones are raised to 1e-8."""
    value = value.clamp(min=1e-8)
    return value + torch.log(-torch.expm1(-value))
