"""What stands at a sample statement: a Pyro distribution, or one of `torch.distributions` as its like of Pyro."""

from __future__ import annotations

from copy import copy
from typing import Any

import pyro.distributions
from pyro.poutine.broadcast_messenger import BroadcastMessenger
from torch.distributions import Distribution

from probclust.errors import ContractError

_PARTS = ("base_dist", "_component_distribution", "_mixture_distribution")


def use_pyros(msg: Any) -> None:
    """Put Pyro's distribution into a sample statement's message, broadcast over the plates as Pyro's own are."""
    fn = as_pyro(msg["fn"], msg["name"])
    if fn is not msg["fn"]:
        msg["fn"] = fn
        BroadcastMessenger._pyro_sample(msg)


def as_pyro(fn: Any, site: str) -> Any:
    """`fn` itself where it is Pyro's; else Pyro's distribution of that name, with the same parameters.

    Args:
        fn: what the story passes to `pyro.sample`.
        site: its name, for errors.

    Raises:
        ContractError: `fn` is no distribution, or of a class that Pyro has not.
    """
    if callable(fn) and hasattr(fn, "log_prob"):
        return fn
    if not isinstance(fn, Distribution):
        raise ContractError(
            f"site '{site}' draws from a {type(fn).__name__}, which is no distribution; pass one of Pyro's, such as "
            f"pyro.sample('{site}', dist.Normal(loc, scale))"
        )
    alike = _alike(fn)
    if alike is None:
        raise ContractError(
            f"site '{site}' draws from {type(fn).__module__}.{type(fn).__name__}, which is no Pyro distribution; "
            "derive its class from pyro.distributions.TorchDistribution"
        )
    return alike


def _alike(fn: Any) -> Any:
    """Pyro's distribution of the name of torch's; None where it has none."""
    cls = getattr(pyro.distributions, type(fn).__name__, None)
    if not (isinstance(cls, type) and issubclass(cls, type(fn))):
        return None
    alike = copy(fn)
    alike.__class__ = cls
    if isinstance(alike, pyro.distributions.Poisson):  # what Pyro's constructors note beside torch's
        alike.is_sparse = False
    if isinstance(alike, pyro.distributions.Uniform):
        alike._unbroadcasted_low, alike._unbroadcasted_high = alike.low, alike.high
    for part in _PARTS:
        if part in vars(alike) and not callable(vars(alike)[part]):
            setattr(alike, part, _alike(vars(alike)[part]) or vars(alike)[part])
    return alike
