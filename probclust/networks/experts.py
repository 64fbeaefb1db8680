"""Experts by cluster: of K networks side by side, those that a pass asks for, each on its own rows only.

A pass enumerates all clusters, or it names some for each row: one (known clusters, samples), or S candidates (the
truncated objective). Pairs of row and cluster are then sorted by cluster, so that each expert meets its rows as one
block of a matrix. Perceptrons take blocks of any length; other networks take blocks padded to the longest.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import torch
from pyro.poutine.runtime import effectful
from torch import Tensor, nn

from probclust.networks.fused import takes_blocks

_GROUPING = "_probclust_grouping"


class Grouping:
    """Pairs of row and cluster, sorted by cluster.

    Args:
        cluster: (rows,) or (candidates, rows) clusters of the pairs.
        n_experts: K.

    Attributes:
        order: (pairs,) the flattened number of each sorted pair.
        expert: (pairs,) cluster of each sorted pair.
        ends: (K,) where each cluster's block of sorted pairs ends.
    """

    def __init__(self, cluster: Tensor, n_experts: int) -> None:
        self.shape, self.n_experts = cluster.shape, n_experts
        flat = cluster.reshape(-1)
        self.order = flat.argsort(stable=True)
        self.expert = flat[self.order]
        self.counts = torch.zeros(n_experts, dtype=torch.int64, device=flat.device).scatter_add_(
            0, flat, torch.ones_like(flat)
        )
        self.ends = self.counts.cumsum(0)

    @staticmethod
    def of(cluster: Tensor, n_experts: int) -> Grouping:
        """The grouping of these clusters, found once for all networks of a pass."""
        found: Grouping | None = getattr(cluster, _GROUPING, None)
        if found is None or found.n_experts != n_experts:
            found = Grouping(cluster, n_experts)
            setattr(cluster, _GROUPING, found)
        return found

    @cached_property
    def inverse(self) -> Tensor:
        """(pairs,) place of each flattened pair among the sorted ones."""
        return torch.empty_like(self.order).scatter_(
            0, self.order, torch.arange(len(self.order), device=self.order.device)
        )

    def gather(self, x: Tensor) -> Tensor:
        """(pairs, n) inputs of the sorted pairs, from (rows, n) or from (candidates, rows, n) of their own."""
        if x.dim() == len(self.shape) + 1:
            return x.reshape(-1, x.shape[-1]).index_select(0, self.order)
        return x.index_select(0, self.order % self.shape[-1])

    def scatter(self, outputs: Tensor) -> Tensor:
        """(rows, n) or (candidates, rows, n) outputs where the pairs stood, from (pairs, n) of the sorted ones."""
        return outputs.index_select(0, self.inverse).reshape(*self.shape, -1)

    def padded(self, network: Any, x: Tensor) -> Tensor:
        """Outputs of the sorted pairs, by a network that takes (K, rows, n): blocks padded to the longest.

        A block is padded by its own rows over again, so that a batch norm sees no others.
        """
        longest = int(self.counts.max())
        starts = self.ends - self.counts
        place = torch.arange(longest, device=x.device) % self.counts.clamp(min=1)[:, None] + starts[:, None]
        blocks = x.index_select(0, place.clamp(max=len(x) - 1).reshape(-1)).reshape(self.n_experts, longest, -1)
        outputs = network(blocks)
        within = torch.arange(len(x), device=x.device) - starts[self.expert]
        return outputs.reshape(self.n_experts * longest, -1).index_select(0, self.expert * longest + within)


@effectful(type="clusters")
def every_cluster(n_clusters: int) -> Tensor:
    """The clusters that a guide is asked for, where its q(z | x, cluster) needs them and it has no q(cluster | x).

    A guide with such a site takes its value instead. Without one, the objectives find the optimal q(cluster | x).

    Args:
        n_clusters: K.

    Returns:
        (K, 1) all of them, at the dim left of the plate; or what the pass names: (rows,), or (candidates, rows).
    """
    return torch.arange(n_clusters)[:, None]


def run_experts(network: Any, x: Tensor, cluster: Tensor) -> Tensor:
    """Outputs of the experts that a pass asks for; write this in a story, and no pass computes more than it needs.

    Args:
        network: K networks side by side, such as `StackedMLP`: (rows, n_in) or (K, rows, n_in) to (K, rows, n_out).
            It, or one of its modules, says K as its `n_experts`. Where it also has `blocks(pairs, grouping)`, from
            (pairs, n_in) sorted by expert to (pairs, n_out), nothing is padded.
        x: (rows, n_in), the same input for every expert; or one for each of the site's values: (K, rows, n_in) where
            the clusters are enumerated, (candidates, rows, n_in) where each row has its own.
        cluster: value of the site "cluster": (K, 1) where enumerated, else (rows,) or (candidates, rows).

    Returns:
        (K, rows, n_out), (rows, n_out) or (candidates, rows, n_out), as `cluster` has it.
    """
    if cluster.dim() > 1 and cluster.shape[-1] == 1:
        return network(x)
    grouping = Grouping.of(cluster, n_experts_of(network))
    pairs = grouping.gather(x)
    by_block = takes_blocks(pairs) and _has_blocks(network)
    return grouping.scatter(_by_block(network, pairs, grouping) if by_block else grouping.padded(network, pairs))


def has_run(cluster: Tensor) -> bool:
    """Whether `run_experts` has run for these clusters."""
    return hasattr(cluster, _GROUPING)


def n_experts_of(network: Any) -> int:
    """K of networks side by side, as they say themselves."""
    parts: Iterable[Any] = network.modules() if isinstance(network, nn.Module) else [network]
    for part in parts:
        if hasattr(part, "n_experts"):
            return int(part.n_experts)
    raise TypeError(f"{type(network).__name__} does not say how many experts it has; give it an attribute n_experts")


def _has_blocks(network: Any) -> bool:
    """Whether a network takes sorted pairs as they are: by its own `blocks`, or layer by layer."""
    if isinstance(network, nn.Sequential):
        return all(isinstance(part, nn.ReLU) or _has_blocks(part) for part in network)
    return hasattr(network, "blocks")


def _by_block(network: Any, pairs: Tensor, grouping: Grouping) -> Tensor:
    if hasattr(network, "blocks"):
        return network.blocks(pairs, grouping)
    for part in network:
        pairs = part(pairs) if isinstance(part, nn.ReLU) else _by_block(part, pairs, grouping)
    return pairs
