"""The start from a plain autoencoder, which only reconstructs: clusters of its codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from probclust.starts.labels import complete_rows
from probclust.starts.layerwise import layerwise_pretraining
from probclust.starts.start import HOW, Clusters, Coder, Start, start_kind
from probclust.story.recipe import Batch, Step, Train
from probclust.story.story import Story


@start_kind("autoencoder", is_kmeans=True, takes=HOW)
def _steps(start: Start, story: Story, coder: Coder, clusters: Clusters) -> list[Step]:
    pretrain = reconstruction_pretraining(
        coder.encode,
        coder.decode,
        coder.modules,
        epochs=start.pretrain_epochs,
        augment=start.augment,
        batch_size=start.batch_size,
        view=coder.view,
        layerwise_epochs=start.layerwise_epochs,
        noise=start.noise,
        perceptrons=coder.perceptrons,
    )
    return [*pretrain, clusters(coder.encode)]


def reconstruction_pretraining(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    modules: Sequence[nn.Module],
    *,
    epochs: int | None = None,
    batch_size: int | None = 64,
    learning_rate: float = 1e-3,
    augment: Callable[[Tensor], Tensor] | None = None,
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
            complete rows (`layerwise_pretraining`); 0 for none.
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
