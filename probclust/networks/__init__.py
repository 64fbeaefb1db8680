"""Networks of one story, and of K experts side by side as one."""

from __future__ import annotations

from probclust.networks.architectures import MLP, Convolutional, Network
from probclust.networks.codes import encode_all, rescale_codes
from probclust.networks.encoders import DirectionEncoder, GaussianEncoder, StackedGaussianEncoder
from probclust.networks.experts import every_cluster, run_experts
from probclust.networks.stacked import Autoencoder, StackedLinear, StackedMLP, mlp, of_cluster, redraw

__all__ = [
    "MLP",
    "Autoencoder",
    "Convolutional",
    "DirectionEncoder",
    "GaussianEncoder",
    "Network",
    "StackedGaussianEncoder",
    "StackedLinear",
    "StackedMLP",
    "encode_all",
    "every_cluster",
    "mlp",
    "of_cluster",
    "redraw",
    "rescale_codes",
    "run_experts",
]
