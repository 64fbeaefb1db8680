"""Candidates: the few clusters of each row that truncated enumeration computes, and how they are kept up to date.

They stand in `run.memory[CANDIDATES]`, (rows, S), the best known first, S different clusters for each row. New ones
come from three sides: each pass re-orders those that it computed, and drops the last for explored ones; rows that share
their best cluster learn from each other which others are near it; and some rows in every epoch get a pass over all
clusters, which also tells what is missed.

Source: for truncated posteriors, J. Luecke, J. Eggert, "Expectation truncation and the benefits of preselection in
training generative models", 2010; for candidates found by way of neighbouring clusters, D. Forster, J. Luecke, "Can
clustering scale sublinearly with its clusters? A variational EM acceleration of GMMs and k-means", 2018.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from probclust.networks.experts import has_run
from probclust.networks.stacked import of_cluster
from probclust.story.chunks import CHUNK_ELEMENTS, chunks, evaluating
from probclust.story.joint import Joint, Pass, trace_joint
from probclust.story.recipe import START, Run
from probclust.story.sites import CLUSTER
from probclust.story.story import Story

log = logging.getLogger(__name__)


def narrows(story: Story, x: Tensor, n_candidates: int) -> bool:
    """Whether a pass over candidates spares a story work, and gives the columns that a pass over all clusters has.

    Tried on a few rows with the same latents. True asks for `run_experts` in the story; without networks by cluster
    there is little to spare, and copies of each row's parameters may cost more.
    """
    n_clusters = story.n_clusters
    n_rows = next(n for n in range(5, 10) if n not in (n_clusters, n_candidates, story.n_features))
    rows = x[torch.arange(n_rows, device=x.device) % len(x)]
    with evaluating(story, 0):
        guide = Pass().run(story.complete_guide, rows)
        values = {name: site.value for name, site in guide.items() if name != CLUSTER}
        every = Joint(Pass("enumerate", values).run(story.model, rows), guide, n_rows, n_clusters).table
        candidates = torch.rand(n_clusters, n_rows, device=x.device).argsort(0)[:n_candidates]
        for name, value in values.items():
            if guide[name].local and value.dim() > guide[name].fn.event_dim + 1:
                values[name] = of_cluster(value.expand(n_clusters, *value.shape[1:]), candidates)
        try:
            guide = Pass(candidates, values).run(story.complete_guide, rows)
            model = Pass(candidates, values).run(story.model, rows)
            table = Joint(model, guide, n_rows, n_clusters, candidates).table
            trace_joint(story.model, story.complete_guide, rows, cluster=candidates)
            agrees = torch.allclose(table, every.gather(1, candidates.T), rtol=1e-4, atol=1e-4, equal_nan=True)
        except Exception as error:  # whatever a stranger's story does with clusters that it did not expect
            agrees = False
            log.debug("a pass over candidates fails: %s", error)
    if has_run(candidates) and not agrees:
        log.warning(
            "%s uses run_experts, but a pass over candidates does not agree with one over all clusters; every cluster "
            "is computed",
            type(story).__name__,
        )
    return agrees and has_run(candidates)


def start_candidates(run: Run, n_candidates: int) -> Tensor:
    """(rows, S) candidates to start from: by the warm start's labels, else by a pass over all clusters.

    With labels, a row's candidates are its own cluster and those whose means in x are nearest.
    """
    if START not in run.memory:
        return torch.cat([table.topk(n_candidates, 1).indices for table in tables(run.story, run.x)])
    x, labels = run.x.nan_to_num(), run.memory[START].to(run.x.device)
    sums = x.new_zeros(run.story.n_clusters, x.shape[1]).index_add_(0, labels, x)
    counts = labels.bincount(minlength=run.story.n_clusters)[:, None]
    means = sums / counts.clamp(min=1)
    found = []
    for part, own in zip(_parts(x, len(means)), _parts(labels, len(means)), strict=True):
        distance = torch.cdist(part, means).masked_fill_(counts.T == 0, torch.inf)
        found.append(distance.scatter_(1, own[:, None], -1.0).topk(n_candidates, 1, largest=False).indices)
    return torch.cat(found)


def with_known(candidates: Tensor, y: Tensor | None) -> Tensor:
    """(rows, S) candidates with the row's known cluster, where there is one, in the first place."""
    if y is None:
        return candidates
    known, first = (y >= 0)[:, None], candidates[:, :1]
    changed = torch.where(known & (candidates == y[:, None]), first, candidates)
    return torch.cat([torch.where(known, y[:, None], changed[:, :1]), changed[:, 1:]], 1)


def explore(candidates: Tensor, n_explored: int, n_clusters: int) -> Tensor:
    """(rows, S) candidates, the last `n_explored` of them replaced by others at random.

    Half come from a row with the same best cluster, if it has one that this row lacks; the rest from all clusters
    alike.
    """
    kept = candidates[:, : candidates.shape[1] - n_explored]
    best = kept[:, 0]
    order, sizes = best.argsort(), best.bincount(minlength=n_clusters)
    starts = sizes.cumsum(0) - sizes
    n_kept = kept.shape[1]
    for _ in range(n_explored):
        share = torch.rand(len(kept), 3, device=kept.device)
        partner = order[starts[best] + (share[:, 0] * sizes[best]).long().clamp(max=sizes[best] - 1)]
        proposed = kept[partner, (share[:, 1] * n_kept).long().clamp(max=n_kept - 1)]
        known = (kept == proposed[:, None]).any(1)
        new = torch.where(known | (share[:, 2] < 0.5), _others(kept, n_clusters), proposed)
        kept = torch.cat([kept, new[:, None]], 1)
    return kept


def _others(kept: Tensor, n_clusters: int) -> Tensor:
    """(rows,) a cluster drawn from those that the row has not kept."""
    new = torch.randint(n_clusters - kept.shape[1], kept.shape[:1], device=kept.device)
    for taken in kept.sort(1).values.unbind(1):
        new = new + (new >= taken)
    return new


def refresh(run: Run, candidates: Tensor, index: Tensor) -> dict[str, Any]:
    """Find the candidates of some rows anew, in place, by a pass over all clusters.

    Args:
        run: the run.
        candidates: (rows, S) of all rows.
        index: the rows.

    Returns:
        What the candidates that stood there had missed: share of the rows whose best cluster is not among them,
        posterior mass that they capture, mean over the rows, and how many rows these figures come from.
    """
    missed, captured = torch.zeros((), device=candidates.device), torch.zeros((), device=candidates.device)
    rows = run.x[index]
    done = 0
    for table in tables(run.story, rows):
        part = index[done : done + len(table)]
        old = candidates[part]
        missed += (old != table.argmax(1, keepdim=True)).all(1).sum()
        captured += table.softmax(1).gather(1, old).sum()
        candidates[part] = table.topk(old.shape[1], 1).indices
        done += len(table)
    return {"missed": float(missed) / done, "captured": float(captured) / done, "rows": done}


def tables(story: Story, x: Tensor) -> Iterator[Tensor]:
    """(rows, clusters) log joint of consecutive rows, one draw of the latents each, in bounded memory.

    Draws come from the caller's random state.
    """
    for _, rows in chunks(story, x):
        with evaluating(story, None):
            table = trace_joint(story.model, story.complete_guide, rows).table
        yield table


def _parts(rows: Tensor, width: int) -> tuple[Tensor, ...]:
    return rows.split(max(1, CHUNK_ELEMENTS // width))
