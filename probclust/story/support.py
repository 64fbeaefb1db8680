"""The supports of observed sites: every row's values are held against them at the door."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from probclust.distributions.base import family_of, laws_of, masks_of
from probclust.distributions.observed import OrMissing
from probclust.errors import ContractError
from probclust.story.joint import trace_joint
from probclust.story.sites import Site
from probclust.story.story import Story

BLOCK_ELEMENTS = 2**22
"""Elements of x that are looked at together."""

Number = Callable[[int], int]
"""Gives a row of a part of x its number among all rows."""


@dataclass(frozen=True)
class Support:
    """Columns of x that a site observes as they are, and what they may hold whatever the story's parameters.

    Attributes:
        site: its name.
        columns: which; None for all, in order.
        dtype: as which the site sees them.
        inside: the constraint.
        law: the distribution's name.
    """

    site: str
    columns: Tensor | None
    dtype: torch.dtype
    inside: Any
    law: str

    def check(self, x: Tensor, number: Number) -> None:
        """Raise where a value of (rows, n_features) lies outside."""
        values = x if self.columns is None else x[:, self.columns.to(x.device)]
        values = values.to(self.dtype)
        names = None if self.columns is None else self.columns.tolist()
        _check(self.site, self.law, self.inside, values, number, names, "x")


_CLOSED = tuple(
    map(
        type,
        (
            constraints.unit_interval,
            constraints.nonnegative,
            constraints.nonnegative_integer,
            constraints.integer_interval(0, 1),
        ),
    )
)
"""Constraints that hold where their bounds, which belong to them, hold for the least and the largest value."""

_supports: weakref.WeakKeyDictionary[Story, list[Support] | None] = weakref.WeakKeyDictionary()


def check_support(story: Story, x: Tensor, number: Number = int) -> None:
    """Check that the observed values of `x` lie in their distributions' supports.

    Most supports do not depend on parameters, and the rows are held against them as they are. Where one does, or a site
    observes something that is computed from x, the model is run.

    Args:
        story: a story that keeps the contract.
        x: (rows, n_features), on the CPU.
        number: of a row, where `x` is a part of all rows.

    Raises:
        ContractError: names the site, the value, its row and column.
    """
    from probclust.story.chunks import chunk_size, evaluating

    if story not in _supports:
        _supports[story] = _fixed_supports(story, x[:8].to(story.device))
    fixed = _supports[story]
    size = chunk_size(story) if fixed is None else max(1, BLOCK_ELEMENTS // x.shape[1])
    for start in range(0, len(x) if fixed != [] else 0, size):
        part = x[start : start + size]

        def numbered(row: int, start: int = start) -> int:
            return number(start + row)

        if fixed is None:
            with evaluating(story, 0):
                check_values(story, part.to(story.device), numbered)
        for support in fixed or ():
            support.check(part, numbered)


def check_values(story: Story, x: Tensor, number: Number = int) -> ValueError | None:
    """Check the observed values of a pass over the story.

    Args:
        story: the story.
        x: (rows, n_features), on the story's device.
        number: see `check_support`.

    Returns:
        What a distribution says of its own parameters, where they are wrong: it does not know its site's name.

    Raises:
        ContractError: see `check_support`.
    """
    with pyro.validation_enabled(True):
        try:
            sites = trace_joint(story.model, story.complete_guide, x).model.values()
        except ContractError:
            raise
        except ValueError as error:
            return error
    for site in sites:
        if site.observed:
            for columns, law in laws_of(site.fn):
                inside = _limits(law)
                if inside is not None:
                    values = site.value if columns is None else site.value[..., columns]
                    _check(site.name, _name(law), inside, values, number, columns, "the site", _masks(site))
    return None


def _fixed_supports(story: Story, x: Tensor) -> list[Support] | None:
    """The supports that rows can violate, if none depends on anything; None where a pass over the model must tell."""
    from probclust.story.chunks import evaluating
    from probclust.story.columns import columns

    try:
        with evaluating(story, 0), pyro.validation_enabled(True):  # else each looks as if the user had said no to it
            sites = trace_joint(story.model, story.complete_guide, x).model
    except ValueError:  # of its own parameters
        return None
    limited = {
        name: list(laws_of(site.fn))
        for name, site in sites.items()
        if site.observed and any(_limits(law) is not None for _, law in laws_of(site.fn))
    }
    if not limited:
        return []
    if any(_masks(sites[name]) for name in limited):
        return None
    try:
        where = columns(story)
    except Exception:  # the story cannot be run on numbers of columns, or observes what it computes from x
        return None
    found = []
    for name, blocks in limited.items():
        for part, law in blocks:
            inside = _limits(law)
            if inside is None:
                continue
            if name not in where or not (_is_fixed(inside) or getattr(law, "has_fixed_support", False)):
                return None
            own = where[name] if part is None else where[name][part]
            every = torch.equal(own, torch.arange(story.n_features))
            found.append(Support(name, None if every else own, sites[name].value.dtype, inside, _name(law)))
    return found


def _limits(fn: Any) -> Constraint | None:
    """The constraint of what may be observed; None where all numbers may, or the user said validate_args=False."""
    accepts = getattr(fn, "accepts", None)
    if accepts is None and fn.__dict__.get("_validate_args") is False:
        return None
    inside = fn.support if accepts is None else accepts
    whole = inside.base if isinstance(inside, OrMissing) else inside
    return None if whole in (constraints.real, constraints.real_vector) else inside


def _masks(site: Site) -> list[tuple[Tensor, int]]:
    """What hides values of a site: masks, and the dims of an element of each that are no dims of the mask."""
    found = [] if site.mask is None else [(site.mask, site.fn.event_dim)]
    return [(torch.as_tensor(mask), event_dim) for mask, event_dim in [*found, *masks_of(site.fn)]]


def _is_fixed(inside: Any) -> bool:
    """Whether nothing in a constraint is a tensor, which parameters could have made."""
    return all(
        _is_fixed(part) if isinstance(part, Constraint) else isinstance(part, bool | int | float | str)
        for part in vars(inside).values()
    )


def _name(fn: Any) -> str:
    return type(family_of(fn)).__name__


def _all_inside(constraint: Any, values: Tensor) -> bool:
    """Whether all values lie inside, by their least and largest; False too where that does not tell."""
    if type(constraint) not in _CLOSED or not values.numel() or not _is_fixed(constraint):
        return False
    low, high = torch.aminmax(values)
    if not (
        getattr(constraint, "lower_bound", -math.inf) <= low and high <= getattr(constraint, "upper_bound", math.inf)
    ):
        return False
    return not (constraint.is_discrete and values.is_floating_point()) or torch.equal(values.floor(), values)


def _check(
    site: str,
    law: str,
    constraint: Any,
    values: Tensor,
    number: Number,
    columns: list[int] | None,
    of: str,
    masks: Sequence[tuple[Tensor, int]] = (),
) -> None:
    """Raise where one of a site's values, (rows,) or (rows, ...), lies outside; `columns` number its columns."""
    if _all_inside(constraint, values):
        return
    inside = constraint.check(values)
    for mask, event_dim in masks:
        inside = inside | ~mask.reshape((*mask.shape, *[1] * (event_dim - constraint.event_dim)))
    if inside.all():
        return
    shape = values.shape[: values.dim() - constraint.event_dim]
    while inside.dim() > len(shape):  # it differs between clusters
        inside = inside.all(0)
    wrong = (~inside.expand(shape)).nonzero()[0].tolist()
    where = f"row {number(wrong[0])}"
    if len(wrong) > 1:
        where += f", column {wrong[-1] if columns is None else columns[wrong[-1]]} of {of}"
    said = str(constraint)
    if "tensor(" in said:
        said = f"{type(constraint).__name__.lstrip('_')} of bounds that differ"
    raise ContractError(
        f"site '{site}': the observed value {values[tuple(wrong)].tolist()} lies outside the support of {law} "
        f"({said}), in {where}; choose a likelihood that fits the data, or rescale it"
    )
