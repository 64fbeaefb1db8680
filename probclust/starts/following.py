"""Codes that follow a start: an autoencoder is trained to have the points in which the clusters were found."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from probclust.starts.labels import complete_rows
from probclust.starts.start import Coder, Start
from probclust.story.recipe import Batch, Compute, Step, Train


def followed(find: Compute, start: Start, coder: Coder) -> list[Step]:
    """The steps of a start that finds clusters of the rows themselves: codes follow it, where the story has any.

    Args:
        find: the step that leaves `run.memory.labels`, and the points in which it found them in
            `run.memory.embedding`.
        start: its settings.
        coder: the story's networks.
    """
    if coder.is_own:
        return [find]
    return [
        find,
        embedding_pretraining(coder.encode, coder.decode, coder.modules, epochs=start.pretrain_epochs, view=coder.view),
    ]


def embedding_pretraining(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    modules: Sequence[nn.Module],
    *,
    epochs: int | None = None,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    reconstruction: float = 1.0,
    view: Callable[[Tensor], Tensor] | None = None,
) -> Train:
    """The step after `embedding_start` that trains an autoencoder whose codes are the embedding, and that reconstructs.

    Args:
        encode: (rows, n_features) to (rows, latent_dim) codes; the embedding's first latent_dim columns are theirs,
            and further columns of the codes are free.
        decode: codes to (rows, n_features), or to their view.
        modules: whose parameters are trained.
        epochs: passes over the rows; None for 15, but at least 4,000 batches.
        batch_size: rows per batch.
        learning_rate: of Adam at the start; it falls to zero by a cosine.
        reconstruction: weight of the share of variance not reconstructed, beside that of the embedding not matched.
        view: as for `embedding_start`.
    """

    def loss(batch: Batch) -> Tensor:
        x = complete_rows(batch.run)[batch.index]
        seen = x if view is None else view(x)
        codes = encode(x)
        points = batch.run.memory.embedding
        shared = min(codes.shape[1], points.shape[1])
        target = points[:, :shared]
        off = (codes[:, :shared] - target[batch.index]).square().sum(1).mean() / target.var(0).sum()
        missed = (decode(codes) - seen).square().sum(1).mean() / seen.var(0).sum().clamp(min=1e-12)
        return off + reconstruction * missed

    return Train(
        name="pre-train",
        loss=loss,
        epochs=15 if epochs is None else epochs,
        min_steps=4000 if epochs is None else 0,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule="cosine",
        modules=modules,
    )
