"""Search for the tree of facets that tells most of codes whose clusters are known: hill climbing on the BIC.

From the tree whose only facet is the cluster, each round tries every step below, each followed by some iterations of
EM, and takes the one that raises the BIC most, until none does. Steps: a new facet of two states, or of as many as
there are clusters, for the two columns that hang together most given their facet, or for the half that depend on it
least; a column to another facet, or all that would rather be elsewhere; a state more, or fewer; a facet to another
parent; and a facet gone, its columns and children to its parent.

Source: X. Li and others, "Learning latent superstructures in variational autoencoders for deep multidimensional
clustering", ICLR 2019; there the cluster's facet is one of those that the search finds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from probclust.distributions.latent_tree import NEVER, Tree

PRIOR = 1.0
"""Rows that are counted in each entry of a table before any is seen."""


@dataclass(frozen=True)
class Shape:
    """Which facet each column belongs to, each facet's parent, and its number of states.

    Facet 0, the root, is its own parent.
    """

    facet: tuple[int, ...]
    parent: tuple[int, ...]
    n_states: tuple[int, ...]

    @property
    def n_parameters(self) -> int:
        """Free parameters given the root's states."""
        columns = sum(2 * self.n_states[facet] for facet in self.facet)
        pairs = zip(self.n_states[1:], self.parent[1:], strict=True)
        return columns + sum(self.n_states[parent] * (n - 1) for n, parent in pairs)


@dataclass(frozen=True)
class Fit:
    """A shape with what EM made of it.

    Attributes:
        shape: the tree's shape.
        tree: and its parameters.
        responsibilities: (rows, F, S) of each facet's states.
        bic: log likelihood of the codes given their clusters, less half a parameter's worth of log rows each, in nats.
    """

    shape: Shape
    tree: Tree
    responsibilities: Tensor
    bic: float


def search_tree(codes: Tensor, labels: Tensor, n_clusters: int, *, max_facets: int, floor: float) -> Fit:
    """The best tree that hill climbing finds.

    Args:
        codes: (rows, L).
        labels: (rows,) the root's states.
        n_clusters: S, states of the root, and the most that another facet may have.
        max_facets: F, the root included.
        floor: least standard deviation of a column.
    """
    root = torch.nn.functional.one_hot(labels, n_clusters).to(codes).unsqueeze(1)
    alone = Shape((0,) * codes.shape[1], (0,), (n_clusters,))
    best = fit_tree(codes, labels, alone, root, floor=floor)
    while True:
        tried = [
            fit_tree(codes, labels, shape, start, floor=floor)
            for shape, start in _steps(codes, best, n_clusters, max_facets)
        ]
        if not tried:
            return best
        found = max(tried, key=lambda fit: fit.bic)
        if found.bic <= best.bic + 1:
            return best
        best = found


def fit_tree(
    codes: Tensor, labels: Tensor, shape: Shape, responsibilities: Tensor, *, floor: float, iterations: int = 5
) -> Fit:
    """EM from (rows, F, S) responsibilities; the root's are known, and stay."""
    tree = _maximised(codes, shape, responsibilities, None, floor)
    for _ in range(iterations if len(shape.parent) > 1 else 0):
        _, responsibilities, counts = expected_states(tree, codes, labels)
        tree = _maximised(codes, shape, responsibilities, counts, floor)
    total, responsibilities, _ = expected_states(tree, codes, labels)
    bic = float(total) - shape.n_parameters / 2 * math.log(len(codes))
    return Fit(shape, tree, responsibilities, bic)


def expected_states(tree: Tree, codes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log likelihood of codes (rows, L) given the root's states (rows,), and what follows of the other facets.

    Returns:
        The likelihood, summed; (rows, F, S) responsibilities; and (F, S, S) expected counts of states by parents'
        states. The latter two are the first's derivatives, by emissions and by tables.
    """
    with torch.enable_grad():
        emissions = tree.emissions(codes).detach().requires_grad_()
        table = tree.log_table.detach().requires_grad_()
        evidence = replace(tree, log_table=table).evidence(emissions)
        total = evidence.gather(1, labels[:, None]).sum()
        responsibilities, counts = torch.autograd.grad(total, (emissions, table), materialize_grads=True)
    return total.detach(), responsibilities, counts


def _maximised(codes: Tensor, shape: Shape, responsibilities: Tensor, counts: Tensor | None, floor: float) -> Tree:
    """The parameters that responsibilities and (F, S, S) expected counts of states by parents' states ask for.

    Without counts, those of independent states: which child's state goes with which parent's is then taken row by row.
    """
    n_facets, n_states = len(shape.parent), responsibilities.shape[2]
    facet = torch.tensor(shape.facet)
    columns = torch.nn.functional.one_hot(facet, n_facets)
    edges = torch.zeros(n_facets, n_facets, dtype=torch.long)
    for child, parent in enumerate(shape.parent[1:], start=1):
        edges[parent, child] = 1
    own = responsibilities[:, facet]  # (rows, L, S)
    total = own.sum(0) + 1e-6
    loc = torch.einsum("njs,nj->js", own, codes) / total
    variance = torch.einsum("njs,njs->js", own, (codes[..., None] - loc).square()) / total
    if counts is None:
        parents = responsibilities[:, torch.tensor(shape.parent)]
        counts = torch.einsum("nfs,nft->fst", parents, responsibilities)
    allowed = torch.arange(n_states) < torch.tensor(shape.n_states)[:, None]
    table = torch.where(allowed[:, None], counts + PRIOR, 0)
    log_table = torch.where(table > 0, table / table.sum(-1, keepdim=True), 1).log().masked_fill(table == 0, NEVER)
    return Tree(columns, edges, loc.T, variance.sqrt().clamp(min=1.01 * floor).T, log_table)


def _steps(codes: Tensor, fit: Fit, n_clusters: int, max_facets: int) -> Iterator[tuple[Shape, Tensor]]:
    """Every shape one step away, with responsibilities to start from."""
    shape, states = fit.shape, fit.responsibilities
    n_facets = len(shape.parent)
    by_facet = [[j for j, own in enumerate(shape.facet) if own == facet] for facet in range(n_facets)]
    if n_facets < max_facets and n_clusters > 1:
        for facet, columns in enumerate(by_facet):
            if len(columns) < 2 + (facet == 0):  # the root keeps a column
                continue
            together = _hang_together(codes, fit, columns), _least_dependent(codes, fit, columns)
            for group, n in product(together, sorted({2, n_clusters})):
                moved = tuple(n_facets if j in group else own for j, own in enumerate(shape.facet))
                found = KMeans(n, n_init=1, random_state=0).fit_predict(codes[:, group].numpy())
                first = torch.nn.functional.one_hot(torch.as_tensor(found).long(), n_clusters).to(codes)
                new = Shape(moved, (*shape.parent, facet), (*shape.n_states, n))
                yield new, torch.cat([states, first.unsqueeze(1)], 1)
    if n_facets > 1:
        gain = _gains_of_moves(codes, fit)
        for columns in ([int(gain.amax(1).argmax())], (gain.amax(1) > 0).nonzero().squeeze(1).tolist()):
            facets = [int(gain[j].argmax()) if j in columns else own for j, own in enumerate(shape.facet)]
            if columns and set(facets) == set(shape.facet):  # no facet is left without columns
                yield replace(shape, facet=tuple(facets)), states
    for facet in range(1, n_facets):
        n = shape.n_states[facet]
        if n < n_clusters and by_facet[facet]:
            yield _with_states(shape, facet, n + 1), _split_largest(codes, states, facet, n, by_facet[facet])
        if n > 2:
            yield _with_states(shape, facet, n - 1), _without_smallest(states, facet, n)
        for parent in range(n_facets):
            if parent != shape.parent[facet] and facet not in _ancestors(shape.parent, parent):
                moved = (*shape.parent[:facet], parent, *shape.parent[facet + 1 :])
                yield replace(shape, parent=moved), states
        yield _without_facet(shape, facet), torch.cat([states[:, :facet], states[:, facet + 1 :]], 1)


def _hang_together(codes: Tensor, fit: Fit, columns: list[int]) -> list[int]:
    """The pair of columns most correlated given their facet's state."""
    own = fit.responsibilities[:, fit.shape.facet[columns[0]]]
    left = (codes[:, columns] - own @ fit.tree.loc[:, columns]) / (own @ fit.tree.scale[:, columns])
    correlation = left.T.corrcoef().nan_to_num(0).fill_diagonal_(0)
    first, second = divmod(int(correlation.abs().argmax()), len(columns))
    return [columns[first], columns[second]]


def _least_dependent(codes: Tensor, fit: Fit, columns: list[int]) -> list[int]:
    """The half of a facet's columns whose variance lies most within its states."""
    own = fit.responsibilities[:, fit.shape.facet[columns[0]]]
    within = (own @ fit.tree.scale[:, columns].square()).mean(0) / codes[:, columns].var(0)
    return [columns[j] for j in within.argsort(descending=True)[: len(columns) // 2].tolist()]


def _gains_of_moves(codes: Tensor, fit: Fit) -> Tensor:
    """(L, F) rise of the BIC if the column moved to that facet, whose states' chances stayed as they are."""
    shape, chances = fit.shape, fit.responsibilities.flatten(1)  # (rows, F S)
    total = chances.sum(0)[:, None] + 1e-6
    loc = chances.T @ codes / total
    variance = (chances.T @ codes.square() / total - loc.square()).clamp(min=1e-6)
    likelihood = -(total * variance.log()).view(len(shape.parent), -1, codes.shape[1]).sum(1) / 2
    score = likelihood.T - torch.tensor(shape.n_states) * math.log(len(codes))
    return score - score.gather(1, torch.tensor(shape.facet)[:, None])


def _with_states(shape: Shape, facet: int, n_states: int) -> Shape:
    return replace(shape, n_states=(*shape.n_states[:facet], n_states, *shape.n_states[facet + 1 :]))


def _split_largest(codes: Tensor, states: Tensor, facet: int, n: int, columns: list[int]) -> Tensor:
    """Responsibilities with the facet's largest state split at the mean of its columns' common direction."""
    states = states.clone()
    largest = int(states[:, facet, :n].sum(0).argmax())
    weight = states[:, facet, largest]
    centred = codes[:, columns] - (weight @ codes[:, columns]) / weight.sum().clamp(min=1e-6)
    direction = torch.linalg.eigh(centred.T @ (weight[:, None] * centred)).eigenvectors[:, -1]
    upper = (centred @ direction > 0).to(codes) * weight
    states[:, facet, n], states[:, facet, largest] = upper, weight - upper
    return states


def _without_smallest(states: Tensor, facet: int, n: int) -> Tensor:
    """Responsibilities with the facet's smallest state gone, its rows shared among the others."""
    states = states.clone()
    smallest = int(states[:, facet, :n].sum(0).argmin())
    kept = [s for s in range(n) if s != smallest]
    rest = states[:, facet, kept] + 1e-6
    states[:, facet] = 0
    states[:, facet, : n - 1] = rest / rest.sum(1, keepdim=True)
    return states


def _ancestors(parent: tuple[int, ...], facet: int) -> set[int]:
    """The facet and all above it."""
    above = {facet}
    while facet != 0:
        facet = parent[facet]
        above.add(facet)
    return above


def _without_facet(shape: Shape, gone: int) -> Shape:
    heir = shape.parent[gone]

    def renumbered(facet: int) -> int:
        facet = heir if facet == gone else facet
        return facet - (facet > gone)

    kept = [facet for facet in range(len(shape.parent)) if facet != gone]
    return Shape(
        tuple(renumbered(facet) for facet in shape.facet),
        tuple(renumbered(shape.parent[facet]) for facet in kept),
        tuple(shape.n_states[facet] for facet in kept),
    )
