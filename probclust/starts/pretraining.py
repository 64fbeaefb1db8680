"""Warm starts shared by recipes: codes in which neighbours are close, and clusters of codes to start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.data.kinds import ImageShape
from probclust.starts.clusterers.neighbours import nearest_neighbours
from probclust.starts.labels import NEIGHBOURS, complete_rows
from probclust.starts.layerwise import layerwise_pretraining
from probclust.story.recipe import Batch, Compute, Run, Step, Train

Augment = Callable[[Tensor], Tensor]
"""(rows, n_features) to as many changed rows, drawn from torch's generator, like `probclust.starts.augmentation`'s."""


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
            complete rows (`probclust.starts.layerwise`); 0 for none.
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
