"""Warm starts shared by recipes: codes in which neighbours are close, and clusters of codes to start from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch import Tensor, nn
from torch.nn import functional

from probclust.data.stored import Rows
from probclust.image_shape import ImageShape
from probclust.layerwise import layerwise_pretraining
from probclust.nearest_neighbours import nearest_neighbours
from probclust.neighbour_votes import agreed_with_neighbours, one_way_graph
from probclust.recipe import START, Batch, Compute, Run, Step, Train
from probclust.starting_labels import KMEANS, NEIGHBOURS, complete_rows, start_from

MEMBERS, SIZES = "members", "sizes"
"""Names in `run.memory` of the rows sorted by their starting cluster, and of the number of rows in each."""

Augment = Callable[[Tensor], Tensor]
"""(rows, n_features) to as many changed rows, drawn from torch's generator, like `probclust.augmentation`'s."""


def neighbour_pretraining(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    modules: Sequence[nn.Module],
    *,
    epochs: int | None = None,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    n_neighbours: int = 10,
    temperature: float = 0.5,
    reconstruction: float = 0.1,
    augment: Augment | None = None,
    view: Callable[[Tensor], Tensor] | None = None,
    image_shape: ImageShape | None = None,
) -> list[Step]:
    """Steps that train an autoencoder whose codes agree with their neighbours'.

    The loss of a batch is the contrastive cross-entropy of finding each row's neighbour among the batch's, by the
    cosine of their codes over `temperature`, plus `reconstruction` times the share of variance not reconstructed.

    Args:
        encode: (rows, n_features) to (rows, latent_dim) codes.
        decode: codes to (rows, n_features), or to their view.
        modules: whose parameters are trained.
        epochs: passes over the rows; None for 15, but at least 1,500 batches, before which codes differ by seed.
        batch_size: rows per batch; the contrastive term gains more from many steps than from large batches.
        learning_rate: at the start; it falls to zero by a cosine.
        n_neighbours: nearest neighbours in x of which one is drawn for each row and step.
        temperature: of the contrastive term.
        reconstruction: weight of the reconstruction term.
        augment: changes the rows, and the neighbours beside them, at every step.
        view: (rows, n_features) to the columns in which rows are neighbours and are reconstructed, such as the
            logarithms of counts; None for x.
        image_shape: height and width where rows are images, whose neighbours the image distortion model then finds.

    Returns:
        A step that finds the neighbours, and the training step.

    Source: the contrastive loss is InfoNCE (van den Oord, Li, Vinyals, "Representation learning with contrastive
    predictive coding", 2018), with neighbours for positive pairs as in nearest-neighbour contrastive clustering.
    """

    def find(run: Run) -> None:
        seen = complete_rows(run) if view is None else view(complete_rows(run))
        _, graph = nearest_neighbours(seen.cpu().numpy(), n_neighbours, image_shape)
        run.memory[NEIGHBOURS] = torch.as_tensor(graph, device=run.x.device)
        run.memory["variance"] = seen.var(0, correction=0).sum()

    def loss(batch: Batch) -> Tensor:
        graph = batch.run.memory[NEIGHBOURS]
        column = torch.randint(graph.shape[1], (len(batch.index),), device=graph.device)
        neighbour = graph[batch.index, column]
        x = complete_rows(batch.run)
        rows = torch.cat([x[batch.index], x[neighbour]])
        if augment is not None:
            rows = augment(rows)
        codes = encode(rows)
        here, there = functional.normalize(codes, dim=1).chunk(2)
        scores = here @ there.T / temperature
        target = torch.arange(len(scores), device=scores.device)
        contrast = functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)
        seen = rows[: len(scores)] if view is None else view(rows[: len(scores)])
        missed = (decode(codes[: len(scores)]) - seen).square().sum(1).mean()
        return contrast / 2 + reconstruction * missed / batch.run.memory["variance"]

    return [
        Compute(name="neighbours", run=find),
        Train(
            name="pre-train",
            loss=loss,
            epochs=15 if epochs is None else epochs,
            min_steps=1500 if epochs is None else 0,
            batch_size=batch_size,
            learning_rate=learning_rate,
            schedule="cosine",
            modules=modules,
        ),
    ]


def reconstruction_pretraining(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    modules: Sequence[nn.Module],
    *,
    epochs: int | None = None,
    batch_size: int | None = 64,
    learning_rate: float = 1e-3,
    augment: Augment | None = None,
    view: Callable[[Tensor], Tensor] | None = None,
    layerwise_epochs: int = 0,
    noise: float = 0.0,
    perceptrons: tuple[nn.Module, nn.Module] | None = None,
) -> list[Step]:
    """Steps that train a plain autoencoder by its squared error, mean over rows and features.

    Args:
        encode: (rows, n_features) to (rows, latent_dim) codes.
        decode: codes to (rows, n_features), or to their view.
        modules: whose parameters are trained.
        epochs: passes over the rows; None for 50.
        batch_size: rows per batch; None for `fit`'s.
        learning_rate: of Adam.
        augment: changes the rows at every step; the changed rows are what is reconstructed.
        view: (rows, n_features) to the columns to reconstruct, as for `neighbour_pretraining`.
        layerwise_epochs: epochs for each layer on its own before that, for perceptrons that mirror each other on
            complete rows (`probclust.layerwise`); 0 for none.
        noise: share of a layer's inputs dropped in those epochs.
        perceptrons: those from the rows' view to codes and back, where `encode` and `decode` are more than these.
    """

    def loss(batch: Batch) -> Tensor:
        x = complete_rows(batch.run)[batch.index]
        x = x if augment is None else augment(x)
        return functional.mse_loss(decode(encode(x)), x if view is None else view(x))

    step = Train(
        name="pre-train",
        loss=loss,
        epochs=50 if epochs is None else epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        modules=modules,
        separable=augment is None,
    )
    if not layerwise_epochs:
        return [step]
    settings: Any = {"batch_size": batch_size, "learning_rate": learning_rate}
    down, up = perceptrons or (encode, decode)
    return [*layerwise_pretraining(down, up, epochs=layerwise_epochs, noise=noise, view=view, **settings), step]


def decoder_start(
    draw_codes: Callable[[Tensor], Tensor], decoder: nn.Module, likelihood: Any, *, epochs: int = 20
) -> list[Step]:
    """A step that fits a decoder to its likelihood, the codes held, where the likelihood asks for that; else none.

    A row of counts has hundreds of nats to gain from a decoder that knows their sizes. Codes that are trained while it
    learns these leave their clusters for the sake of them, and do not all come back.

    Args:
        draw_codes: (rows, n_features) to (rows, latent_dim) codes, draws where they are random.
        decoder: codes to the likelihood's outputs.
        likelihood: p(x | outputs), ours or the user's.
        epochs: passes over the rows.
    """
    if not getattr(likelihood, "decoder_first", False):
        return []

    def loss(batch: Batch) -> Tensor:
        with torch.no_grad():
            codes = draw_codes(batch.x)
        return -likelihood(decoder(codes)).log_prob(batch.x).mean()

    modules = [module for module in (decoder, likelihood) if isinstance(module, nn.Module)]
    return [Train(name="decoder", loss=loss, epochs=epochs, batch_size=64, modules=modules)]


def kmeans_start(encode: Callable[[Tensor], Tensor] | None = None, *, n_init: int = 20) -> Compute:
    """A step that puts starting labels into `run.memory[START]`, by k-means; follow it with `SVI(to_start=True)`.

    Known rows have their say, as `start_from` tells.

    Where an earlier step left a neighbour graph, each row then takes the commonest label among its neighbours' and
    its own, so that rows at a border go where their neighbours in x are. The labels of k-means itself are kept in
    `run.memory[KMEANS]`.

    Args:
        encode: (rows, n_features) to (rows, latent_dim) codes to cluster; None to cluster x itself.
        n_init: starts of k-means, of which the one with the least inertia counts.
    """

    def find(run: Run) -> None:
        n_clusters = run.story.n_clusters
        codes = complete_rows(run) if encode is None else encode_all(encode, complete_rows(run))
        kmeans = KMeans(n_clusters, n_init=n_init, random_state=run.seed % 2**32)
        labels = kmeans.fit_predict(codes.cpu().numpy())
        run.memory[KMEANS] = torch.as_tensor(labels).long()
        if NEIGHBOURS in run.memory:
            graph = one_way_graph(run.memory[NEIGHBOURS].cpu().numpy())
            labels = agreed_with_neighbours(labels, graph, n_clusters, rounds=1)
        start_from(labels, run)

    return Compute(name="start", run=find)


def gmm_start(encode: Callable[[Tensor], Tensor], *, n_init: int = 10) -> Compute:
    """A step that puts the labels of a diagonal Gaussian mixture on codes into `run.memory[START]`.

    Known rows have their say, as `start_from` tells.

    Args:
        encode: (rows, n_features) to (rows, latent_dim) codes.
        n_init: starts of EM, each from k-means, of which the likeliest counts.
    """

    def find(run: Run) -> None:
        codes = encode_all(encode, complete_rows(run)).double().cpu().numpy()
        codes /= codes.std() + 1e-12
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


def own_rows(batch: Batch) -> Tensor:
    """(K, rows, n_features) rows for each cluster's expert, drawn with replacement from its own starting cluster.

    Each gets a quarter of the batch's number of rows, so that K experts cost little more than a few on all rows. An
    expert whose cluster is empty gets a row of another.
    """
    memory, n_clusters = batch.run.memory, batch.run.story.n_clusters
    if MEMBERS not in memory:
        memory[MEMBERS] = memory[START].argsort(stable=True)
        memory[SIZES] = memory[START].bincount(minlength=n_clusters)
    sizes = memory[SIZES][:, None]
    share = torch.rand(n_clusters, max(1, len(batch.index) // 4), device=sizes.device)
    place = sizes.cumsum(0) - sizes + (share * sizes).long()
    return batch.run.x[memory[MEMBERS][place.clamp(max=len(batch.run.x) - 1)]]


@torch.no_grad()
def rescale_codes(codes: Tensor, last: nn.Module, decoder: nn.Module, spread: float = 1.0) -> Tensor:
    """Scale an encoder's codes to the standard deviation `spread`, and the decoder to what it was to them.

    Args:
        codes: (rows, latent_dim) codes of all rows.
        last: the encoder's last layer, linear, whose outputs are the codes; changed in place.
        decoder: its first parameter is a weight that multiplies the codes; changed in place.
        spread: standard deviation over all rows and columns that the codes shall have.

    Returns:
        (rows, latent_dim) scaled codes.
    """
    scale = codes.std() / spread
    for parameter in last.parameters():
        parameter.div_(scale)
    next(decoder.parameters()).mul_(scale)
    return codes / scale


def cluster_moments(codes: Tensor, labels: Tensor, n_clusters: int) -> tuple[Tensor, Tensor, Tensor]:
    """Share of the rows, mean and variance of each cluster's codes, all finite where a cluster is empty.

    Args:
        codes: (rows, latent_dim).
        labels: (rows,) clusters.
        n_clusters: K.

    Returns:
        (K,) weights, (K, latent_dim) means and (K, latent_dim) variances, the latter at least 1e-4.
    """
    belongs = functional.one_hot(labels, n_clusters).to(codes)
    counts = belongs.sum(0)[:, None] + 1e-3
    loc = belongs.T @ codes / counts
    variance = (belongs.T @ codes**2 / counts - loc**2).clamp(min=1e-4)
    return counts.squeeze(1) / counts.sum(), loc, variance


@torch.no_grad()
def encode_all(encode: Callable[[Tensor], Tensor], x: Rows, chunk: int = 1024) -> Tensor:
    """(rows, latent_dim) codes of all rows, without a gradient, some rows at a time."""
    return torch.cat([encode(part) for part in x.split(chunk)])


def inverse_softplus(value: Tensor) -> Tensor:
    """The number whose softplus is `value`, for positive values; tiny ones are raised to 1e-8."""
    value = value.clamp(min=1e-8)
    return value + torch.log(-torch.expm1(-value))
