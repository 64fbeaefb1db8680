"""A warm start from random Fourier features: codes that separate what a kernel does, such as rings in one another."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.kernel_approximation import RBFSampler
from torch import Tensor, nn
from torch.nn import functional

from probclust.starts.clusters import kmeans_start
from probclust.story.recipe import Batch, Compute, Run, Step, Train


def fourier_start(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    encoder: nn.Module,
    decoder: nn.Module,
    latent_dim: int,
    *,
    gamma: float = 10.0,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float = 1e-3,
) -> list[Step]:
    """Steps that make the codes random Fourier features of the kernel exp(-gamma ||x - y||^2), and cluster them.

    Features are drawn; the encoder learns to map rows to them; the decoder learns to map the encoder's codes back to
    the rows; k-means on the codes leaves `run.memory.labels`. Distances in the kernel's space then are distances
    between codes.

    Args:
        encode: (rows, n_features) to (rows, latent_dim) codes.
        decode: codes to (rows, n_features).
        encoder: whose parameters `encode` uses.
        decoder: whose parameters `decode` uses.
        latent_dim: columns of the codes, the number of features.
        gamma: of the kernel.
        epochs: of each of the two networks; None for 100.
        batch_size: rows per batch; None for `fit`'s.
        learning_rate: of Adam.

    Source: the DMAE paper, supplement 7.1, steps 1 to 4 (the fifth is the story's own training); the features are
    those of A. Rahimi, B. Recht, "Random features for large-scale kernel machines", 2008.
    """
    if not gamma > 0:
        raise ValueError(f"gamma must be positive, got {gamma!r}")

    def draw(run: Run) -> None:
        sampler = RBFSampler(gamma=gamma, n_components=latent_dim, random_state=run.seed % 2**32)
        run.memory.features = torch.as_tensor(sampler.fit_transform(run.x.cpu().numpy())).to(run.x)

    def encoder_loss(batch: Batch) -> Tensor:
        return functional.mse_loss(encode(batch.x), batch.run.memory.features[batch.index])

    def decoder_loss(batch: Batch) -> Tensor:
        return functional.mse_loss(decode(encode(batch.x).detach()), batch.x)

    def train(name: str, loss: Callable[[Batch], Tensor], module: nn.Module) -> Train:
        return Train(
            name=name,
            loss=loss,
            modules=[module],
            epochs=100 if epochs is None else epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            separable=True,
        )

    return [
        Compute(name="Fourier features", run=draw),
        train("learn features", encoder_loss, encoder),
        train("learn back", decoder_loss, decoder),
        kmeans_start(encode),
    ]
