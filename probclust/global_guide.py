"""The automatic guide of the global latents that a story's own guide leaves out."""

from __future__ import annotations

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import biject_to

Kind = Literal["map", "normal"]


def checked_kind(kind: Kind) -> Kind:
    """`kind`, or a ValueError where it is neither "map" nor "normal"."""
    if kind not in ("map", "normal"):
        raise ValueError(f"global_guide must be 'map' or 'normal', got {kind!r}")
    return kind


class GlobalGuide(nn.Module):
    """q(globals): a point (MAP) or a mean-field normal in unconstrained space, with plain parameters.

    Starts at one draw from the prior, which breaks the symmetry between clusters.

    Args:
        sites: prior distribution of each global latent, by site name.
        kind: "map" for a point estimate in constrained space, "normal" for a mean-field normal.
        scale: standard deviation at the start, in unconstrained space ("normal" only).
    """

    def __init__(self, sites: dict[str, Any], kind: Kind, scale: float = 0.1) -> None:
        super().__init__()
        self.kind = checked_kind(kind)
        self.names = list(sites)
        self.transforms = {name: biject_to(fn.support) for name, fn in sites.items()}
        self.locs = nn.ParameterDict()
        self.log_scales = nn.ParameterDict()
        for name, fn in sites.items():
            loc = self.transforms[name].inv(fn.sample()).detach().clone()
            self.locs[name] = nn.Parameter(loc)
            if kind == "normal":
                self.log_scales[name] = nn.Parameter(torch.full_like(loc, scale).log())

    def forward(self) -> dict[str, Tensor]:
        """Sample every global latent; values by site name, in constrained space."""
        return {name: pyro.sample(name, self._distribution(name)) for name in self.names}

    def _distribution(self, name: str) -> Any:
        transform, loc = self.transforms[name], self.locs[name]
        if self.kind == "map":
            value = transform(loc)
            return dist.Delta(value, event_dim=value.dim())
        base = dist.Normal(loc, self.log_scales[name].exp()).to_event(transform.domain.event_dim)
        law = dist.TransformedDistribution(base, [transform])
        return law.to_event(len(law.batch_shape))
