"""A codec: the encoder and the decoder of one code for all clusters, and the likelihood between decoder and rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.data.stored import Rows
from probclust.likelihoods import Likelihood, encoder_inputs, likelihood_named, n_inputs, n_outputs, view
from probclust.networks.architectures import ByRow, Network
from probclust.networks.codes import encode_all, rescale_codes
from probclust.networks.encoders import DirectionEncoder, GaussianEncoder
from probclust.networks.stacked import check_sizes, mlp


class Codec(nn.Module):
    """q(z | x) and p(x | z) of one code z for all clusters.

    Args:
        n_features: D, columns of x.
        latent_dim: L, size of z.
        hidden: sizes of the encoder's hidden layers; the decoder mirrors them.
        likelihood: p(x | z): "gaussian", "bernoulli" or another name, or an object like those in
            `probclust.likelihoods`; None, for codes that are points, where the story tells p(x | z) from the decoder's
            outputs itself, D columns.
        missing: take NaN entries of x as unobserved: the likelihood is that of the others, the encoder sees zeros and
            the mask.
        network: another architecture than perceptrons of `hidden` layers: one of `probclust.networks`, such as
            `Convolutional(8, 8)`, or the user's own.
        posterior: "gaussian" for Normal(loc(x), diag(scale(x)^2)), or "point" for a code without uncertainty.
        on_sphere: whether z has length 1; a Gaussian then becomes a power spherical distribution.
        activation: between the layers of perceptrons, see `mlp`.
        shallow: no networks at all: z = x.
        encoder: one that was built before, in place of the codec's own.

    Attributes:
        likelihood: the part, None where there is none.
        encoder: (rows, `n_inputs`) to q(z | x), or to codes where they are points.
        decoder: (rows, L) to the likelihood's outputs.
    """

    earlier: ClassVar = {"likelihood": "codec.likelihood", "encoder": "codec.encoder", "decoder": "codec.decoder"}
    """What its state was called in a story that had no `codec` yet, for `Part.renamed_state`."""

    def __init__(
        self,
        n_features: int,
        latent_dim: int,
        hidden: Sequence[int] = (500, 500, 2000),
        likelihood: str | Likelihood | None = "gaussian",
        missing: bool = False,
        network: Network | None = None,
        *,
        posterior: Literal["gaussian", "point"] = "gaussian",
        on_sphere: bool = False,
        activation: str = "relu",
        shallow: bool = False,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_sizes(latent_dim, hidden=hidden)
        self.latent_dim, self.is_point, self.on_sphere = latent_dim, posterior == "point", on_sphere
        self.likelihood: Any = None
        if not (likelihood is None and self.is_point):
            self.likelihood = likelihood_named(likelihood, n_features, missing)  # type: ignore[arg-type]  # who refuses None
        n_seen, n_out = n_inputs(self.likelihood, n_features), n_features
        if self.likelihood is not None:
            n_out = n_outputs(self.likelihood, n_features)
        self.encoder: Any = nn.Identity() if encoder is None else encoder
        self.decoder: nn.Module = nn.Identity()
        if shallow:
            return
        if encoder is None and self.is_point:
            self.encoder = mlp([n_seen, *hidden, latent_dim], activation)
        elif encoder is None:
            self.encoder = (DirectionEncoder if on_sphere else GaussianEncoder)(n_seen, hidden, latent_dim, network)
        if network is None:
            self.decoder = mlp([latent_dim, *reversed(hidden), n_out], activation)
        else:
            self.decoder = ByRow(network.decoder(latent_dim, n_out))

    def encode(self, x: Tensor) -> Any:
        """q(z | x), batch (rows,) and event (L,), from (rows, D)."""
        return dist.Delta(self.mean(x), event_dim=1) if self.is_point else self.encoder(self.inputs(x))

    def decode(self, z: Tensor) -> Any:
        """p(x | z), batch (..., rows) and event (D,), from (..., rows, L)."""
        return self.likelihood(self.decoder(z))

    def mean(self, x: Tensor) -> Tensor:
        """(rows, L) mean of q(z | x), from (rows, D)."""
        if not self.is_point:
            return self.encoder.mean(self.inputs(x))
        z: Tensor = self.encoder(self.inputs(x))
        return functional.normalize(z, dim=-1) if self.on_sphere else z

    def rebuilt(self, z: Tensor) -> Tensor:
        """(rows, n_view) mean of x given (rows, L) codes, as `view` shows it."""
        outputs: Tensor = self.decoder(z)
        return outputs if self.likelihood is None else self.view(self.likelihood(outputs).mean)

    def inputs(self, x: Tensor) -> Tensor:
        """(rows, n_inputs) what the encoder sees of (rows, D)."""
        return encoder_inputs(self.likelihood, x)

    def view(self, x: Tensor) -> Tensor:
        """(rows, n_view) what starts see of (rows, D)."""
        return view(self.likelihood, x)

    @property
    def trained(self) -> list[nn.Module]:
        """What pre-training trains: all but the scale of q(z | x), and the likelihood."""
        encoder = [self.encoder] if self.is_point else [self.encoder.trunk, self.encoder.loc]
        return [*encoder, self.decoder]

    def codes(self, rows: Rows) -> Tensor:
        """(rows, L) means of q(z | x) of all rows, without a gradient, some rows at a time."""
        return encode_all(self.mean, rows)

    def unit_codes(self, rows: Rows, spread: float = 1.0) -> Tensor:
        """`codes`, after encoder and decoder are scaled so that the codes' standard deviation is `spread`.

        Codes that have a scale of their own, on the sphere or x itself, stay.
        """
        codes = self.codes(rows)
        if self.on_sphere or isinstance(self.encoder, nn.Identity):
            return codes
        last = self.encoder[-1] if self.is_point else self.encoder.loc
        return rescale_codes(codes, last, self.decoder, spread)

    @torch.no_grad()
    def start_scale(self, variance: Tensor) -> None:
        """Start the scale of q(z | x), the same for all x, from the (K, L) variance of codes within clusters."""
        self.encoder.log_variance.weight.zero_()
        self.encoder.log_variance.bias.copy_(variance.mean(0).log() - 2)


class Autoencoder(nn.Module):
    """A deterministic autoencoder, for starts that need codes a story does not have.

    Args:
        n_features: D.
        hidden: sizes of the encoder's hidden layers; the decoder mirrors them.
        latent_dim: L.
        n_out: columns that the decoder gives; None for D.
    """

    def __init__(self, n_features: int, hidden: Sequence[int], latent_dim: int, n_out: int | None = None) -> None:
        super().__init__()
        self.encoder = mlp([n_features, *hidden, latent_dim])
        self.decoder = mlp([latent_dim, *reversed(hidden), n_features if n_out is None else n_out])
