"""Totals of rows of counts: learnt from all rows before a fit's first step, whatever the story."""

from __future__ import annotations

import torch
from torch import Tensor

from probclust.data.stored import Rows
from probclust.likelihoods.totals import Totals, totals_in
from probclust.story.chunks import chunks, evaluating
from probclust.story.joint import trace_joint
from probclust.story.story import Story


def learn_totals(story: Story, rows: Rows) -> None:
    """Let every distribution of totals that the story's observed sites stand on learn from all rows.

    Args:
        story: any story; nothing is done where none of its likelihoods is one of counts given their total.
        rows: (rows, n_features).
    """
    if not _totals(story, rows[:2].to(story.device)):
        return
    found: dict[Totals, list[Tensor]] = {}
    for _, batch in chunks(story, rows):
        for part, totals in _totals(story, batch):
            found.setdefault(part, []).append(totals)
    for part, parts in found.items():
        part.learn(torch.cat(parts))


def _totals(story: Story, batch: Tensor) -> list[tuple[Totals, Tensor]]:
    """The totals of each observed site's rows, which no latent changes: one cluster is enough to see them."""
    cluster = torch.zeros(len(batch), dtype=torch.int64, device=batch.device)
    with evaluating(story, 0):
        joint = trace_joint(story.model, story.complete_guide, batch, cluster=cluster)
    return [pair for site in joint.model.values() if site.observed for pair in totals_in(site.fn, site.value)]
