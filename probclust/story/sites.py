"""Sites: what the sample statements of a pass over a model or guide were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import VonMises

from probclust.distributions.base import is_point, layers, masks_of
from probclust.distributions.full_precision import in_full
from probclust.errors import NonFiniteError

CLUSTER = "cluster"
PLATE = "data"

Role = Literal["latent", "auxiliary", "observed", "deterministic", "factor"]


@dataclass(frozen=True)
class Site:
    """What one sample statement of a pass was: its distribution, its value and where it stood.

    Attributes:
        role: "latent"; "auxiliary", a latent of the guide alone, as Pyro's automatic guides have them, said by
            `infer={"is_auxiliary": True}`; "observed", given `obs=`; "deterministic", a value by `pyro.deterministic`,
            which has no density; or "factor", a term by `pyro.factor`, which has no value.
        local: whether it stood in the plate of the rows.
        frame_sizes: rows of each plate that it stood in, by dim.
        full_size: of the plate of the rows: its size where it stands for more rows than it has; None outside.
        scale: product of the `poutine.scale`s and of the plates' that it stood in.
        mask: True where it counts; None for everywhere.
    """

    name: str
    fn: Any
    value: Tensor
    role: Role
    local: bool
    frame_sizes: dict[int, int]
    full_size: int | None
    scale: Any
    mask: Any

    @property
    def observed(self) -> bool:
        """Whether it is a part of x."""
        return self.role == "observed"

    @property
    def latent(self) -> bool:
        """Whether it is a variable that nothing gives a value but its distribution."""
        return self.role in ("latent", "auxiliary")

    @property
    def is_random(self) -> bool:
        """Whether it is a latent with more than one possible value."""
        return self.latent and not is_point(self.fn)

    @cached_property
    def unscaled(self) -> Tensor:
        """`log_prob` but for the scale."""
        with in_full(self.value.device):
            return scale_and_mask(self.fn.log_prob(self.value), 1.0, self.mask)

    @property
    def log_prob(self) -> Tensor:
        """Log probability per batch element, in nats: (rows,) or (clusters, rows) for a local site."""
        return self.unscaled if is_one(self.scale) else self.unscaled * self.scale


def site_of(msg: Any) -> Site:
    """What Pyro's message of a sample statement says."""
    sizes, full_size, local = {}, None, False
    for frame in msg["cond_indep_stack"]:
        if frame.name == PLATE:
            local, full_size = True, frame.full_size if full_size is None and frame.dim is not None else full_size
        if frame.dim is not None:
            sizes[frame.dim] = frame.size
    return Site(
        name=msg["name"],
        fn=msg["fn"],
        value=msg["value"],
        role=role_of(msg),
        local=local,
        frame_sizes=sizes,
        full_size=full_size,
        scale=msg["scale"],
        mask=msg["mask"],
    )


def role_of(msg: Any) -> Role:
    """Which kind of statement a sample message comes from."""
    if not msg["is_observed"]:
        return "auxiliary" if msg["infer"].get("is_auxiliary") else "latent"
    if msg["infer"].get("_deterministic"):
        return "deterministic"
    return "factor" if isinstance(msg["fn"], dist.Unit) else "observed"


def is_local(msg: Any) -> bool:
    """Whether a message's site stands in the plate of the rows."""
    return any(frame.name == PLATE for frame in msg["cond_indep_stack"])


def local_latents(sites: Mapping[str, Site], auxiliary: bool = False) -> dict[str, Site]:
    """The sites of a pass that are latent variables of the rows, but for the cluster; with the guide's own on wish."""
    roles = ("latent", "auxiliary") if auxiliary else ("latent",)
    return {name: site for name, site in sites.items() if site.local and site.role in roles and name != CLUSTER}


def global_values(sites: Mapping[str, Site]) -> dict[str, Tensor]:
    """The values of a pass's global latents, the guide's own among them, by name."""
    return {name: site.value for name, site in sites.items() if site.latent and not site.local and name != CLUSTER}


def is_masked(site: Site) -> bool:
    """Whether some of a site's log probabilities do not count, by `poutine.mask` or its distribution's `mask`."""
    masks = [site.mask, *(mask for mask, _ in masks_of(site.fn))]
    return any(mask is not None and not torch.as_tensor(mask).all() for mask in masks)


def require_numbers(fn: Any, name: str) -> None:
    """Refuse to draw by rejection from a distribution of NaN: it would never accept.

    Raises:
        NonFiniteError: names the site and the parameter.
    """
    for law in layers(fn):
        if not isinstance(law, VonMises):
            continue
        for parameter in law.arg_constraints:
            if getattr(law, parameter).isnan().any():
                raise NonFiniteError(
                    f"site '{name}': the {parameter} of {type(law).__name__} is NaN. Lower the learning rate, or bound "
                    "its parameters"
                )


def is_one(scale: Any) -> bool:
    """Whether a scale is the number 1."""
    return isinstance(scale, float | int) and scale == 1
