"""A codec for each cluster, the experts, run side by side as one stacked network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from probclust.likelihoods import Likelihood, encoder_inputs, likelihood_named, n_inputs, n_outputs
from probclust.networks.architectures import Network, stacked_decoder, stacked_trunk
from probclust.networks.encoders import StackedGaussianEncoder
from probclust.networks.experts import run_experts
from probclust.networks.stacked import StackedMLP, check_sizes


class ExpertCodecs(nn.Module):
    """q(z | x, cluster) and p(x | z, cluster), an encoder and a decoder for each cluster, one likelihood for all.

    Args:
        n_clusters: K.
        n_features: D, columns of x.
        latent_dim: L, size of each expert's z.
        hidden: sizes of each encoder's hidden layers; the decoders mirror them.
        likelihood: p(x | z, cluster), as `probclust.networks.Codec` takes it.
        missing: as there.
        network: another architecture for each expert, as there.
        posterior: "gaussian", or "point" for codes without uncertainty.
    """

    earlier: ClassVar = {
        "likelihood": "experts.likelihood",
        "encoders": "experts.encoders",
        "decoders": "experts.decoders",
    }
    """What its state was called in a story that had no `experts` yet, for `Part.renamed_state`."""

    def __init__(
        self,
        n_clusters: int,
        n_features: int,
        latent_dim: int,
        hidden: Sequence[int],
        likelihood: str | Likelihood = "gaussian",
        missing: bool = False,
        network: Network | None = None,
        *,
        posterior: Literal["gaussian", "point"] = "gaussian",
    ) -> None:
        super().__init__()
        check_sizes(latent_dim, hidden=hidden)
        self.latent_dim = latent_dim
        self.likelihood: Any = likelihood_named(likelihood, n_features, missing)
        n_seen, n_out = n_inputs(self.likelihood, n_features), n_outputs(self.likelihood, n_features)
        self.encoders: nn.Module
        if network is not None:
            trunk = stacked_trunk(network, n_clusters, n_seen)
            self.encoders = StackedGaussianEncoder(n_clusters, n_seen, (), latent_dim, trunk, network.n_hidden)
            self.decoders = stacked_decoder(network, n_clusters, latent_dim, n_out)
            return
        if posterior == "point":
            self.encoders = StackedMLP(n_clusters, [n_seen, *hidden, latent_dim])
        else:
            self.encoders = StackedGaussianEncoder(n_clusters, n_seen, hidden, latent_dim)
        self.decoders = StackedMLP(n_clusters, [latent_dim, *reversed(hidden), n_out])

    def encode(self, x: Tensor, cluster: Tensor) -> Any:
        """q(z | x, cluster), or codes where they are points, batch as `cluster` has it, from (rows, D).

        Rows may be (K, rows, D), each expert's own.
        """
        seen = encoder_inputs(self.likelihood, x)
        if isinstance(self.encoders, StackedGaussianEncoder):
            return self.encoders(seen, cluster)
        return run_experts(self.encoders, seen, cluster)

    def decode(self, z: Tensor, cluster: Tensor) -> Any:
        """p(x | z, cluster), event (D,)."""
        return self.likelihood(run_experts(self.decoders, z, cluster))
