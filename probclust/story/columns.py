"""What a story observes, column by column."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from probclust.distributions.base import typical
from probclust.distributions.given_total import given_totals
from probclust.story.chunks import evaluating
from probclust.story.joint import Pass
from probclust.story.sites import CLUSTER, Site, global_values
from probclust.story.story import Story


def is_variable(site: Site) -> bool:
    """Whether a site is a variable of the row, and not a term added by `pyro.factor`."""
    return site.local and site.role != "factor"


def draw_globals(story: Story) -> dict[str, Tensor]:
    """One draw of the global latents from their guide, by name. Run it within `evaluating`."""
    guide = Pass("draw").run(story.complete_guide, placeholder(story, 2))
    return global_values(guide)


def placeholder(story: Story, n_rows: int) -> Tensor:
    """(n_rows, n_features) zeros, for programs that read no more of x than its number of rows."""
    return torch.zeros(n_rows, story.n_features, dtype=story.dtype, device=story.device)


def columns(story: Story) -> dict[str, Tensor]:
    """The columns of x that each observed site reads, found by showing the model rows of column numbers.

    One row counts up, the other down, so that no transformation of x passes for a choice of columns.

    Raises:
        ValueError: a site observes a transformation of x, so that its columns cannot be told.
    """
    numbers = torch.arange(story.n_features, dtype=story.dtype, device=story.device)
    with evaluating(story, 0):
        x = torch.stack([numbers, numbers.flip(0) + 2])
        guide = Pass("draw").run(story.complete_guide, x)
        values = {name: site.value for name, site in guide.items() if name != CLUSTER}
        sites = Pass("draw", values).run(story.model, x)
    found = {}
    for site in sites.values():
        if not site.observed:
            continue
        up, down = site.value.reshape(2, -1).to(x)
        where = up.nan_to_num().long().clamp(0, story.n_features - 1)
        if not (torch.equal(x[0, where], up) and torch.equal(x[1, where], down)):
            raise ValueError(
                f"site '{site.name}' observes a transformation of x, not columns of it; its columns are unknown"
            )
        found[site.name] = where.cpu()
    return found


def rows_of(story: Story, values: dict[str, Tensor]) -> Tensor:
    """(rows, n_features) from the observed sites' values, each in the columns it reads; 0 where none does."""
    found = columns(story)
    n_rows = len(next(iter(values.values())))
    x = torch.zeros(n_rows, story.n_features, dtype=story.dtype)
    for name, where in found.items():
        x[:, where] = values[name].reshape(n_rows, -1).to(x.dtype)
    return x


def observed_mean(site: Site) -> Tensor:
    """The mean of an observed site's distribution; of a categorical one, which has none, the mode."""
    return typical(site.fn, site.name)


def own_mean(site: Site) -> Tensor:
    """As `observed_mean`; of counts given their total, at the totals of the site's own value."""
    return observed_mean(replace(site, fn=given_totals(site.fn, site.value)))
