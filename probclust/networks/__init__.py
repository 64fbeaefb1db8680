"""Networks of one story, and of K experts side by side as one."""

from __future__ import annotations

from probclust.networks.architectures import MLP, Convolutional, Network
from probclust.networks.codec import Autoencoder, Codec
from probclust.networks.codes import encode_all, rescale_codes
from probclust.networks.encoders import DirectionEncoder, GaussianEncoder, StackedGaussianEncoder
from probclust.networks.expert_codecs import ExpertCodecs
from probclust.networks.experts import every_cluster, run_experts
from probclust.networks.stacked import StackedLinear, StackedMLP, check_sizes, mlp, of_cluster, redraw

__all__ = [
    "MLP",
    "Autoencoder",
    "Codec",
    "Convolutional",
    "DirectionEncoder",
    "ExpertCodecs",
    "GaussianEncoder",
    "Network",
    "StackedGaussianEncoder",
    "StackedLinear",
    "StackedMLP",
    "check_sizes",
    "encode_all",
    "every_cluster",
    "mlp",
    "of_cluster",
    "redraw",
    "rescale_codes",
    "run_experts",
]
