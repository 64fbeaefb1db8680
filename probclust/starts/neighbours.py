"""The start from neighbours: codes that agree with their neighbours', and k-means on their directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.data.kinds import ImageShape
from probclust.starts.clusterers.neighbours import nearest_neighbours
from probclust.starts.clusters import directions
from probclust.starts.labels import complete_rows
from probclust.starts.mixture import mixture_start
from probclust.starts.start import DEFAULT, Clusters, Coder, Start, start_kind
from probclust.story.recipe import Batch, Compute, Run, Step, Train
from probclust.story.story import Story


@start_kind(DEFAULT, takes=["augment"])
def _steps(start: Start, story: Story, coder: Coder, clusters: Clusters) -> list[Step]:
    pretrain = neighbour_pretraining(
        coder.encode,
        coder.decode,
        coder.modules,
        epochs=start.pretrain_epochs,
        augment=start.augment,
        view=coder.view,
        image_shape=start.image_shape,
    )
    return [*pretrain, mixture_start(getattr(story, "weights", None), directions(coder.encode))]


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
    augment: Callable[[Tensor], Tensor] | None = None,
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
        run.memory.neighbours = torch.as_tensor(graph, device=run.x.device)
        run.memory.variance = seen.var(0, correction=0).sum()

    def loss(batch: Batch) -> Tensor:
        graph = batch.run.memory.neighbours
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
        return contrast / 2 + reconstruction * missed / batch.run.memory.variance

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
