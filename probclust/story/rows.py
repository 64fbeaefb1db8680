"""The way of rows into a story: checked once at the door, then cut into chunks of bounded memory."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probclust.data.named import Named, Names, arranged
from probclust.data.rounding import far_columns, merging_columns, named_columns
from probclust.data.stored import Rows, StoredRows, as_batches
from probclust.errors import PrecisionWarning
from probclust.story.chunks import chunk_size
from probclust.story.contract import check_contract, check_structure
from probclust.story.story import Story, checked_story
from probclust.story.support import check_support


def admit(story: Story, x: Any) -> Rows:
    """`x` checked against the story: (rows, n_features) of the story's dtype, its columns in the story's order.

    The story's contract is checked on a few rows, the first time; the values of each row against the supports of the
    sites that observe them.

    Args:
        story: the story. Where it was fitted to named columns, those of `x` are put in their order by name.
        x: (rows, n_features) of any kind; without names (an array), columns go by their position.

    Returns:
        A tensor on the CPU, or rows that stay where they are and are checked as they are read
        (`probclust.data.stored`).
    """
    checked_story(story)
    table = in_order(story, x)
    rows = _admit(story, table)
    if story.dtype == torch.float32 and (merging := merging_columns(table)):
        warnings.warn(
            f"float32, in which {type(story).__name__} computes, does not tell values of x apart in "
            f"{named_columns(merging, table.names)}: take story.double(), or rows less an offset that the fit had "
            "taken off too",
            PrecisionWarning,
            stacklevel=4,
        )
    return rows


def _admit(story: Story, table: Named) -> Rows:
    rows = as_batches(table, n_features=story.n_features, dtype=story.dtype, missing=story.missing)
    if not story.__dict__.get("_keeps_contract"):
        check_contract(story, rows[:8].to(story.device))
        story.__dict__["_keeps_contract"] = True
    if isinstance(rows, StoredRows):
        rows.check = lambda read, number: check_support(story, read, number)
    else:
        check_support(story, rows)
    return rows


def require_contract(story: Story) -> None:
    """Check the story's contract as far as can be without rows, the first time: for functions that take none."""
    checked_story(story)
    if not (story.__dict__.get("_keeps_contract") or story.__dict__.get("_keeps_structure")):
        check_structure(story)
        story.__dict__["_keeps_structure"] = True


def in_order(story: Story, x: Any) -> Named:
    """The columns of `x`, of any kind, in the order in which the story was fitted to them.

    Raises:
        ValueError: both have names, and these differ.
    """
    checked_story(story)
    return arranged(x, story.feature_names, missing=story.missing)


@dataclass(frozen=True)
class Survey:
    """What one pass over all rows found.

    Attributes:
        rows: as `admit` gives them; stored ones are not checked again.
        low: (n_features,) least value of each column.
        high: (n_features,) largest.
        digest: hash of all values in the story's dtype, the same wherever the rows are.
        names: of the columns, where they have any.
    """

    rows: Rows
    low: Tensor
    high: Tensor
    digest: str
    names: Names | None


def admit_all(story: Story, x: Any) -> Survey:
    """`admit`, and a look at every row."""
    checked_story(story)
    table = in_order(story, x)
    rows = _admit(story, table)
    if story.dtype == torch.float32 and (far := far_columns(table)):
        _widen(story, rows, named_columns(far, table.names))
        rows = _admit(story, table)
    digest, lows, highs = hashlib.blake2b(digest_size=16), [], []
    size = chunk_size(story)
    for start in range(0, len(rows), size):
        batch = rows[start : start + size].cpu()
        digest.update(batch.numpy().data)
        low, high = torch.aminmax(batch, dim=0)
        lows.append(low)
        highs.append(high)
    if isinstance(rows, StoredRows):
        rows.is_checked = True
    return Survey(rows, torch.stack(lows).amin(0), torch.stack(highs).amax(0), digest.hexdigest(), table.names)


def digest_of(story: Story, x: Any) -> str:
    """The digest of `Survey`, of rows of any kind as the story sees them."""
    rows, digest = admit(story, x), hashlib.blake2b(digest_size=16)
    for start in range(0, len(rows), size := chunk_size(story)):
        digest.update(rows[start : start + size].cpu().numpy().data)
    return digest.hexdigest()


def _widen(story: Story, rows: Rows, where: str) -> None:
    """Put a story into float64, with a warning, as its float32 would lose digits of the columns that `where` names."""
    name = type(story).__name__
    try:
        if story.device.type == "mps":
            raise TypeError("mps has no float64")
        check_contract(story.double(), rows[:8].to(story.device).double())
    except Exception as error:
        story.float()
        raise ValueError(
            f"x lies so far from zero in {where} that float32 loses digits which tell rows apart, and {name} does not "
            f"compute in float64 ({error}): subtract these columns' means first"
        ) from error
    warnings.warn(
        f"x lies so far from zero in {where} that float32 would lose digits which tell rows apart: {name} was put into "
        "float64 (story.double()), in which it is fitted and scores; subtract these columns' means to stay in float32",
        PrecisionWarning,
        stacklevel=4,
    )
