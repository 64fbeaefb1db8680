"""What is not finite in a pass over a story, by the site that gave it."""

from __future__ import annotations

import torch
from torch import Tensor

from probclust.errors import NonFiniteError
from probclust.story.joint import Joint


def blame(joint: Joint) -> str:
    """The first site of a pass with a NaN or infinite log probability, described; raise it with context."""
    for wrong in (_is_broken, _is_not_finite):  # a probability of zero, log -inf, may be meant: NaN is not
        for kind, sites in (("guide", joint.guide), ("model", joint.model)):
            for site in sites.values():
                for what, tensor in (("value", site.value), ("log probability", site.log_prob)):
                    if site.observed and what == "value":  # NaN in x stands for a missing entry
                        continue
                    if tensor.is_floating_point() and wrong(tensor).any():
                        return f"site '{site.name}' of the {kind}: its {what} is not finite"
    return "no single site: the sum of the log probabilities is not finite"


def _is_broken(tensor: Tensor) -> Tensor:
    return torch.isnan(tensor) | torch.isposinf(tensor)


def _is_not_finite(tensor: Tensor) -> Tensor:
    return ~torch.isfinite(tensor)


def require_finite(table: Tensor, joint: Joint, where: str) -> None:
    """Raise NonFiniteError that names the site where a (rows, clusters) table has NaN or +inf."""
    if _is_broken(table).any():
        raise NonFiniteError(
            f"{where}: {blame(joint)}. Check the data's scale, and bound scales and log-variances from below"
        )
