"""The decoder before the codes, for likelihoods that ask for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probclust.networks.codec import Codec
from probclust.story.recipe import Batch, Step, Train


def decoder_start(codec: Codec, *, epochs: int = 20) -> list[Step]:
    """A step that fits a decoder to its likelihood, the codes held, where the likelihood asks for that; else none.

    A row of counts has hundreds of nats to gain from a decoder that knows their sizes. Codes that are trained while it
    learns these leave their clusters for the sake of them, and do not all come back.

    Args:
        codec: whose codes are draws of q(z | x), and whose decoder and likelihood, ours or the user's, are trained.
        epochs: passes over the rows.
    """
    likelihood = codec.likelihood
    if not getattr(likelihood, "decoder_first", False):
        return []

    def loss(batch: Batch) -> Tensor:
        with torch.no_grad():
            codes = codec.encode(batch.x).rsample()
        return -codec.decode(codes).log_prob(batch.x).mean()

    modules = [module for module in (codec.decoder, likelihood) if isinstance(module, nn.Module)]
    return [Train(name="decoder", loss=loss, epochs=epochs, batch_size=64, modules=modules)]
