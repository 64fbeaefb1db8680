"""The latent-tree prior: clusters beside other facets of the codes, each its own partition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.distributions.latent_tree import NEVER, LatentTree, Tree
from probclust.distributions.softplus import inverse_softplus
from probclust.priors.base import Prior
from probclust.priors.gaussian import checked_floor
from probclust.priors.latent_tree.search import Shape, expected_states, fit_tree, search_tree

SEARCH_ROWS = 2000
"""Codes that the search for a tree sees."""

START_ROWS = 20_000
"""Codes from which the parameters of that tree are computed."""


class LatentTreePrior(Prior):
    """z | cluster: columns are drawn from the states of facets, which form a tree whose root is the cluster.

    Which columns belong to which facet, the tree's edges and the numbers of states are found by `start`, from codes
    and their starting clusters; before, the cluster is the only facet, and the prior a diagonal Gaussian. Parameters
    then move with the network; the shape stays.

    Args:
        n_features: L, columns of the code.
        n_clusters: K, states of the cluster, and the most that another facet may have.
        max_facets: facets at most, the cluster included.
        floor: lower bound of the standard deviations, in units of the code.

    Source: X. Li and others, "Learning latent superstructures in variational autoencoders for deep multidimensional
    clustering", ICLR 2019.
    """

    name = "latent_tree"
    columns: Tensor
    edges: Tensor
    n_states: Tensor

    def __init__(self, n_features: int, n_clusters: int, max_facets: int = 4, floor: float = 0.05) -> None:
        super().__init__(n_features, n_clusters)
        if not (isinstance(max_facets, int) and max_facets >= 1):
            raise ValueError(f"max_facets must be an integer of at least 1, got {max_facets!r}")
        self.max_facets, self.floor = max_facets, checked_floor(floor)
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))
        self.raw_scale = nn.Parameter(torch.full((n_clusters, n_features), 0.5))
        self.logits = nn.Parameter(torch.zeros(max_facets, n_clusters, n_clusters))
        for name, value in self._buffers_of(Shape((0,) * n_features, (0,), (n_clusters,))).items():
            self.register_buffer(name, value)

    def tree(self) -> Tree:
        """The tree as it stands."""
        allowed = torch.arange(self.n_clusters, device=self.n_states.device) < self.n_states[:, None]
        logits = torch.where(allowed[:, None], self.logits, NEVER)
        scale = self.floor + functional.softplus(self.raw_scale)
        return Tree(self.columns, self.edges, self.loc, scale, logits.log_softmax(-1))

    def density(self, cluster: Tensor) -> Any:
        """A `LatentTree`."""
        return LatentTree(self.tree(), cluster)

    def facets(self) -> list[list[int]]:
        """The columns of each facet, the cluster's first; facets without columns are left out, but for the cluster."""
        found = [self.columns[:, facet].nonzero().squeeze(1).tolist() for facet in range(self.max_facets)]
        return [columns for facet, columns in enumerate(found) if columns or facet == 0]

    @torch.no_grad()
    def start(self, codes: Tensor, labels: Tensor) -> None:
        """The tree that a search finds on some of the codes, and its parameters by EM on more of them."""
        order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))[:START_ROWS]
        codes, labels = codes.cpu()[order].double(), labels.cpu()[order]
        seen, known = codes[:SEARCH_ROWS], labels[:SEARCH_ROWS]
        found = search_tree(seen, known, self.n_clusters, max_facets=self.max_facets, floor=self.floor)
        _, responsibilities, _ = expected_states(found.tree, codes, labels)
        tree = fit_tree(codes, labels, found.shape, responsibilities, floor=self.floor).tree
        for name, value in self._buffers_of(found.shape).items():
            getattr(self, name).copy_(value)
        self.loc.copy_(tree.loc)
        self.raw_scale.copy_(inverse_softplus(tree.scale - self.floor))
        self.logits.zero_()
        self.logits[: len(tree.log_table)] = tree.log_table.to(self.logits)

    def _buffers_of(self, shape: Shape) -> dict[str, Tensor]:
        """The shape, filled up with facets of one state that hang on the root and have no columns."""
        missing = self.max_facets - len(shape.parent)
        parent = torch.tensor([*shape.parent, *[0] * missing])
        edges = functional.one_hot(parent, self.max_facets).T.clone()
        edges[0, 0] = 0  # the root's parent is none
        return {
            "columns": functional.one_hot(torch.tensor(shape.facet), self.max_facets),
            "edges": edges,
            "n_states": torch.tensor([*shape.n_states, *[1] * missing]),
        }
