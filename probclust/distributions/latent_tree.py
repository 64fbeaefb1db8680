"""The density of rows under a tree of discrete facets, of which the cluster is the root.

Facet f takes one of S states, given its parent's state, and each column is drawn from a normal distribution given the
state of the one facet that it belongs to. Facets other than the root are summed out from the leaves to the root:

    evidence_f(s) = sum_{columns j of f} log Normal(z_j; loc[s, j], scale[s, j]) + sum_{children c of f} message_c(s),
    message_c(s) = log sum_t P(facet c = t | facet f = s) exp evidence_c(t),

and log p(z | cluster = k) is evidence_0(k). All facets send at once, as many times as there are other facets, so that a
tree of any depth costs no look at its shape. Chances that underflow count as the smallest number.

Source: X. Li, Z. Chen, L. K. M. Poon, N. L. Zhang, "Learning latent superstructures in variational autoencoders for
deep multidimensional clustering", ICLR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

from probclust.distributions.diagonal_normal import HALF_LOG_2PI

NEVER = -1e9
"""Log chance of a state that a facet does not have."""


@dataclass(frozen=True)
class Tree:
    """A tree's shape and parameters.

    Attributes:
        columns: (L, F) 1 where the column belongs to the facet, else 0.
        edges: (F, F) entry [f, c] is 1 where c is a child of f, else 0; facet 0 is the root.
        loc: (S, L) means of columns given their facet's state.
        scale: (S, L) standard deviations.
        log_table: (F, S, S) entry [f, s, t] is log P(facet f = t | its parent = s); the root's is not used.
    """

    columns: Tensor
    edges: Tensor
    loc: Tensor
    scale: Tensor
    log_table: Tensor

    def emissions(self, z: Tensor) -> Tensor:
        """(*, F, S) log densities of each facet's own columns, from (*, L) rows."""
        squares = ((z.unsqueeze(-2) - self.loc) / self.scale).square()
        by_column = -squares / 2 - self.scale.log() - HALF_LOG_2PI
        return (by_column @ self.columns.to(by_column)).transpose(-1, -2)

    def evidence(self, emissions: Tensor) -> Tensor:
        """(*, S) log p(z | root) from emissions (*, F, S)."""
        if len(self.edges) == 1:
            return emissions[..., 0, :]
        table, edges = self.log_table.to(emissions).exp(), self.edges.to(emissions)
        unused = (table == 0).all(1)
        tiny = torch.finfo(table.dtype).tiny
        gathered = emissions
        for _ in range(len(self.edges) - 1):
            peak = gathered.detach().masked_fill(unused, -torch.inf).amax(-1, keepdim=True)
            weights = (gathered - peak).masked_fill(unused, -torch.inf).exp()
            messages = torch.einsum("...ft,fst->...fs", weights, table).clamp(min=tiny).log() + peak
            gathered = emissions + edges @ messages
        return gathered[..., 0, :]

    def marginals(self, cluster: Tensor) -> Tensor:
        """(*, F, S) chances of each facet's states, from (*) states of the root."""
        n_facets, n_states = self.log_table.shape[:2]
        root = torch.nn.functional.one_hot(cluster, n_states).to(self.loc)
        found = [root] * n_facets
        for _ in range(n_facets - 1):
            parents = torch.einsum("pf,p...s->f...s", self.edges.to(root), torch.stack(found))
            below = torch.einsum("f...s,fst->f...t", parents, self.log_table.exp())
            found = [root, *below[1:]]
        return torch.stack(found, -2)

    def facet_responsibilities(self, z: Tensor, log_weights: Tensor) -> Tensor:
        """(*, F, S) chances of each facet's states given rows (*, L), the root's being (S,) weights in logarithms.

        They are the derivatives of log p(z) by the log densities of the states.
        """
        with torch.enable_grad():
            emissions = self.emissions(z).detach().requires_grad_()
            total = torch.logsumexp(self.evidence(emissions) + log_weights, -1).sum()
            return torch.autograd.grad(total, emissions)[0]


class LatentTree(TorchDistribution):
    """p(z | cluster) of a tree: batch shape that of `cluster`, event shape (L,).

    Args:
        tree: its shape and parameters.
        cluster: states of the root.
        validate_args: check values.
    """

    arg_constraints = {}  # noqa: RUF012 (torch's interface)
    support = constraints.real_vector

    def __init__(self, tree: Tree, cluster: Tensor, validate_args: bool | None = None) -> None:
        self.tree, self.cluster = tree, cluster
        super().__init__(cluster.shape, tree.loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LatentTree:
        """The same distribution with a larger batch."""
        return LatentTree(self.tree, self.cluster.expand(batch_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of (..., L) rows, (...), in nats; all of a row's clusters are computed at once."""
        by_state = self.tree.evidence(self.tree.emissions(value))
        shape = torch.broadcast_shapes(self.cluster.shape, value.shape[:-1])
        by_state = by_state.expand(*shape, -1)
        return by_state.gather(-1, self.cluster.expand(shape).unsqueeze(-1)).squeeze(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """Draws, (*sample_shape, *batch, L), from the root to the leaves."""
        tree = self.tree
        shape = Size(sample_shape) + self.batch_shape
        parent = tree.edges.argmax(0).tolist()
        states = {0: self.cluster.expand(shape)}
        while len(states) < len(parent):
            for facet in range(1, len(parent)):
                if facet not in states and parent[facet] in states:
                    chances = tree.log_table[facet].exp()[states[parent[facet]]]
                    states[facet] = torch.distributions.Categorical(chances, validate_args=False).sample()
        by_facet = torch.stack([states[facet] for facet in range(len(parent))], -1)
        state = by_facet[..., tree.columns.argmax(1)]
        column = torch.arange(self.event_shape[0], device=state.device)
        return torch.normal(tree.loc[state, column], tree.scale[state, column])

    def tempered(self, temperature: float) -> LatentTree:
        """Its columns at a temperature given their states, which are drawn as they are."""
        tree = self.tree
        cold = Tree(tree.columns, tree.edges, tree.loc, tree.scale * temperature**0.5, tree.log_table)
        return LatentTree(cold, self.cluster, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """(*batch, L)."""
        return self._expected(self.tree.loc)

    @property
    def variance(self) -> Tensor:
        """(*batch, L)."""
        second = self._expected(self.tree.scale.square() + self.tree.loc.square())
        return second - self.mean.square()

    def _expected(self, by_state: Tensor) -> Tensor:
        """(*batch, L) expectation of (S, L) numbers of each column's state."""
        chances = self.tree.marginals(self.cluster)
        return torch.einsum("...fs,sj,jf->...j", chances, by_state, self.tree.columns.to(by_state))
