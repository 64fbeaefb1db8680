"""What can be asked of any distribution, whatever it is wrapped in.

A wrapper of the same numbers (`to_event`, `mask`, what a plate makes of a distribution without an `expand`) is looked
through; a transformed distribution answers by the image of its base's answer. What has a `base_dist` besides, such as
a zero-inflated distribution, is one of its own and not looked through, but for what is inside of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pyro.distributions import Delta, MaskedDistribution
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor
from torch.distributions import Distribution, Independent, TransformedDistribution

from probclust.errors import ContractError


def base_of(fn: Any) -> Any:
    """The distribution of single elements, which `fn` declares to be events, masks or repeats."""
    while isinstance(fn, Independent | MaskedDistribution | ExpandedDistribution):
        fn = fn.base_dist
    return fn


def layers(fn: Any) -> Iterator[Any]:
    """`fn`, and what is inside of it, from the outside in."""
    yield fn
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
        yield fn


def laws_of(fn: Any) -> Iterator[tuple[list[int] | None, Any]]:
    """The distributions of single elements of a row's columns: one of all (None), or one of each block's."""
    law = base_of(fn)
    if not hasattr(law, "blocks"):
        yield None, law
        return
    for columns, block in zip(law.columns, law.blocks, strict=True):
        for part, inner in laws_of(block):
            yield list(columns) if part is None else [columns[i] for i in part], inner


def family_of(fn: Any) -> Any:
    """The distribution of single elements, which says what they are, in rows with gaps too."""
    law = base_of(fn)
    shown = getattr(law, "base", None)
    return base_of(shown) if isinstance(shown, Distribution) else law


def masks_of(fn: Any) -> Iterator[tuple[Any, int]]:
    """The masks of a distribution, numbers or of its batch shape, and the dims of an event under each."""
    return ((layer._mask, layer.event_dim) for layer in layers(fn) if isinstance(layer, MaskedDistribution))


def is_point(fn: Any) -> bool:
    """Whether a distribution has one possible value: a Delta, or the image of one."""
    law = base_of(fn)
    while isinstance(law, TransformedDistribution):
        law = base_of(law.base_dist)
    return isinstance(law, Delta)


def mean_of(fn: Any, name: str | None = None) -> Tensor:
    """The mean of a distribution; the image of the base's mean where it is a transformed one that does not say.

    Args:
        fn: the distribution.
        name: its site, for errors.

    Raises:
        ContractError: it has none.
    """
    try:
        return fn.mean
    except NotImplementedError:
        pass
    found = _within(fn, lambda law: mean_of(law, name))
    if found is None:
        if name is None:
            raise ContractError(f"{type(fn).__name__} has no mean; give it a `mean` property")
        raise ContractError(
            f"the guide's distribution of site '{name}', {type(fn).__name__}, has no mean; "
            "give it a `mean` property or ask for draws with particles=1"
        )
    return found


def mode_of(fn: Any, name: str | None = None) -> Tensor:
    """The mode of a distribution; the image of the base's mode where it is a transformed one; else the mean.

    Args:
        fn: the distribution.
        name: its site, for errors.
    """
    try:
        mode: Tensor = fn.mode
        if not mode.isnan().all():  # as torch has it of a uniform distribution
            return mode
    except (NotImplementedError, AttributeError):
        pass
    found = _within(fn, lambda law: mode_of(law, name))
    return mean_of(fn, name) if found is None else found


def typical(fn: Any, name: str | None = None) -> Tensor:
    """A distribution's own `typical` value; else its mean; of what has none, such as categories, the mode.

    Args:
        fn: the distribution.
        name: its site, for errors.
    """
    law, shape = base_of(fn), fn.batch_shape + fn.event_shape
    if hasattr(law, "typical"):
        return law.typical.expand(shape)
    mean = mean_of(fn, name)
    return law.mode.expand(shape).to(mean.dtype) if mean.isnan().all() else mean


def _within(fn: Any, ask: Callable[[Any], Tensor]) -> Tensor | None:
    """What `ask` says of the distribution that `fn` is made of, as a value of `fn`; None where it is made of none."""
    if isinstance(fn, TransformedDistribution):
        value = ask(fn.base_dist)
        for transform in fn.transforms:
            value = transform(value)
        return value
    law = base_of(fn)
    return None if law is fn else ask(law).expand(fn.batch_shape + fn.event_shape)
