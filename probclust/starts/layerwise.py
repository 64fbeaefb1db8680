"""Layer-wise pre-training of an autoencoder: a stack of small autoencoders, one for each layer, each denoising."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.story.recipe import Batch, Step, Train


def layerwise_pretraining(
    encoder: Callable[[Tensor], Tensor],
    decoder: Callable[[Tensor], Tensor],
    *,
    epochs: int,
    noise: float = 0.0,
    batch_size: int | None = 64,
    learning_rate: float = 1e-3,
    view: Callable[[Tensor], Tensor] | None = None,
) -> list[Step]:
    """A training step for each layer of the encoder, outermost first, with the decoder's layer opposite to it.

    The two reconstruct what the layers before give, which stay as they are, by the squared error, mean over rows and
    units. Train the whole autoencoder afterwards.

    Args:
        encoder: a perceptron as `probclust.networks.mlp` makes them.
        decoder: one that mirrors it.
        epochs: of each step.
        noise: share of a layer's inputs that are dropped (set to 0, the others scaled up) at each step; what they
            were is what is reconstructed. 0.2 for a denoising autoencoder as DEC's.
        batch_size: rows per batch; None for `fit`'s.
        learning_rate: of Adam.
        view: (rows, n_features) to what the perceptrons take; None for the rows themselves.

    Raises:
        ValueError: `noise` is not in [0, 1); the networks are no mirrored perceptrons.

    Source: Y. Bengio, P. Lamblin, D. Popovici, H. Larochelle, "Greedy layer-wise training of deep networks", 2007, and
    with noise P. Vincent and others, "Stacked denoising autoencoders", 2010; DAMIC's and DEC's papers start so.
    """
    if not 0 <= noise < 1:
        raise ValueError(f"noise must be a share in [0, 1), got {noise!r}")
    down, up = _layers(encoder), _layers(decoder)[::-1]
    opposite = [(two.out_features, two.in_features) for two in up]
    if [(one.in_features, one.out_features) for one in down] != opposite:
        raise ValueError("layer-wise pre-training needs a decoder whose linear layers mirror the encoder's")
    return [
        Train(
            name=f"layer {depth + 1}",
            loss=_layer_loss(down[:depth], down[depth], up[depth], depth == len(down) - 1, noise, view),
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            modules=[down[depth], up[depth]],
            separable=noise == 0,
        )
        for depth in range(len(down))
    ]


def _layers(network: Callable[[Tensor], Tensor]) -> list[nn.Linear]:
    if not isinstance(network, nn.Sequential):
        raise ValueError(f"layer-wise pre-training needs perceptrons, as `mlp` makes them, got {network!r}")
    return [layer for layer in network if isinstance(layer, nn.Linear)]


def _layer_loss(
    before: Sequence[nn.Linear],
    down: nn.Linear,
    up: nn.Linear,
    innermost: bool,
    noise: float,
    view: Callable[[Tensor], Tensor] | None,
) -> Callable[[Batch], Tensor]:
    """The loss of one layer and its opposite: ReLU where `mlp` has it, so none for codes and for the rows rebuilt."""

    def loss(batch: Batch) -> Tensor:
        inputs = batch.x if view is None else view(batch.x)
        with torch.no_grad():
            for layer in before:
                inputs = layer(inputs).relu()
        code = down(functional.dropout(inputs, noise))
        rebuilt = up(code if innermost else code.relu())
        return functional.mse_loss(rebuilt.relu() if before else rebuilt, inputs)

    return loss
