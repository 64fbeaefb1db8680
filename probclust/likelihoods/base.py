"""What a story asks of a likelihood.

Needed: a call that turns decoder outputs into a Pyro distribution with event shape (n_features,) and a finite mean,
which warm starts compare with the rows, and `n_heads`, the outputs per feature, or `n_outputs`, all of them. Optional:
`view`, what networks see of rows, with its width `n_view`; and `allows_missing`, True where NaN entries of x count as
unobserved; and `decoder_first`, True where pre-training by squared errors of the view leaves the decoder far from the
likelihood's, as of counts: recipes then fit it before they fit codes.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from probclust.part import Part


class Likelihood(Protocol):
    """The least that a decoder's story asks of a likelihood."""

    n_heads: int

    def __call__(self, outputs: Tensor) -> Any: ...  # noqa: D102


class FeatureLikelihood(Part):
    """Base of the likelihoods with the same number of outputs for every feature.

    Args:
        n_features: D, columns of x.

    Attributes:
        n_heads: decoder outputs per feature.
        decoder_first: whether recipes fit the decoder, and the likelihood, before they fit codes.
        name: under which stories take it, of a likelihood in a file of this folder that needs no more than D.
    """

    n_heads: int = 1
    n_features: int
    decoder_first: bool = False
    name: ClassVar[str]

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = n_features

    @property
    def n_outputs(self) -> int:
        """All decoder outputs: head by head, each of n_features."""
        return self.n_heads * self.n_features

    @property
    def n_view(self) -> int:
        """Columns of `view`."""
        return self.n_features

    def view(self, x: Tensor) -> Tensor:
        """(rows, n_view) what networks and warm starts see of rows: numbers of order one, NaN where unobserved."""
        return x


def n_outputs(likelihood: Any, n_features: int) -> int:
    """Decoder outputs that a likelihood needs: its `n_outputs`, else `n_heads` for each feature."""
    return int(likelihood.n_outputs) if hasattr(likelihood, "n_outputs") else likelihood.n_heads * n_features


def view(likelihood: Any, x: Tensor) -> Tensor:
    """(rows, n_view) what warm starts see of rows: x itself unless the likelihood has a `view`."""
    return likelihood.view(x) if hasattr(likelihood, "view") else x


def encoder_inputs(likelihood: Any, x: Tensor) -> Tensor:
    """(rows, n_inputs) what encoders see of rows: their view; where entries may be missing, zeros there and the mask.

    Args:
        likelihood: ours or the user's.
        x: (rows, n_features), NaN where unobserved.
    """
    seen = view(likelihood, x)
    if not getattr(likelihood, "allows_missing", False):
        return seen
    return torch.cat([seen.nan_to_num(), x.isnan().logical_not().to(seen)], -1)


def n_view(likelihood: Any, n_features: int) -> int:
    """Columns of `view`."""
    return int(getattr(likelihood, "n_view", n_features))


def n_inputs(likelihood: Any, n_features: int) -> int:
    """Columns of `encoder_inputs`."""
    return n_view(likelihood, n_features) + n_features * getattr(likelihood, "allows_missing", False)
