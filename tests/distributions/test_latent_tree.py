"""The latent tree, against sums over all states of all facets, and trees planted in data."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from probclust.distributions.latent_tree import LatentTree, Tree
from probclust.priors import DiagonalGaussian, LatentTreePrior
from probclust.priors.latent_tree.search import Shape, fit_tree, search_tree

pytestmark = pytest.mark.usefixtures("float64")

K = 3
SHAPES = {
    "alone": Shape((0, 0, 0, 0), (0,), (K,)),
    "a chain": Shape((0, 2, 1, 2), (0, 0, 1), (K, 2, K)),
    "a chain told in the other order": Shape((0, 2, 1, 2), (0, 2, 0), (K, 2, K)),
    "a fork": Shape((0, 1, 2, 3), (0, 0, 1, 1), (K, K, 2, 2)),
    "a facet without columns": Shape((0, 0, 2, 2), (0, 0, 1), (K, 2, 2)),
}


def tree_of(shape, seed=0):
    """A tree of that shape with random parameters."""
    torch.manual_seed(seed)
    made = LatentTreePrior(len(shape.facet), K, max_facets=len(shape.parent))
    made.load_state_dict({**made.state_dict(), **made._buffers_of(shape)})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.8 * torch.randn_like(parameter))
        return made.tree()


def by_all_states(tree, shape, z):
    """(rows, K) log p(z | cluster) and each facet's (rows, F, K) joint with the cluster, by brute force."""
    n_facets = len(shape.parent)
    table, loc, scale = (part.detach() for part in (tree.log_table, tree.loc, tree.scale))
    total = torch.zeros(len(z), K)
    of_state = torch.zeros(K, len(z), n_facets, K)
    for states in product(*(range(n) for n in shape.n_states)):
        score = sum(table[f, states[shape.parent[f]], states[f]] for f in range(1, n_facets))
        for j, f in enumerate(shape.facet):
            score = score + Normal(loc[states[f], j], scale[states[f], j]).log_prob(z[:, j])
        total[:, states[0]] += score.exp()
        for f in range(n_facets):
            of_state[states[0], :, f, states[f]] += score.exp()
    return total.log(), of_state


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_density_is_the_sum_over_all_states(shape):
    tree, z = tree_of(shape), torch.randn(6, 4)
    expected, _ = by_all_states(tree, shape, z)
    torch.testing.assert_close(LatentTree(tree, torch.arange(K)[:, None]).log_prob(z).detach(), expected.T)
    cluster = torch.tensor([0, 2, 1, 1, 0, 2])
    of_rows = LatentTree(tree, cluster).log_prob(z).detach()
    torch.testing.assert_close(of_rows, expected.gather(1, cluster[:, None]).squeeze(1))
    of_draws = LatentTree(tree, cluster).log_prob(torch.stack([z, z])).detach()
    torch.testing.assert_close(of_draws, torch.stack([of_rows, of_rows]))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_responsibilities_of_facets_are_those_of_all_states(shape):
    tree, z = tree_of(shape), torch.randn(6, 4)
    weights = torch.tensor([0.5, 0.2, 0.3])
    _, of_state = by_all_states(tree, shape, z)
    joint = torch.einsum("k,knfs->nfs", weights, of_state)
    found = tree.facet_responsibilities(z, weights.log())
    torch.testing.assert_close(found, joint / joint.sum(-1, keepdim=True))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_draws_have_the_moments_and_the_density_of_the_tree(shape):
    torch.manual_seed(1)
    tree = tree_of(shape)
    law = LatentTree(tree, torch.tensor([0, 2]))
    z = law.sample((40_000,))
    assert z.shape == (40_000, 2, 4)
    error = (law.variance / 40_000).sqrt()
    assert ((z.mean(0) - law.mean).abs() < 5 * error).all()
    torch.testing.assert_close(z.var(0), law.variance, rtol=0.08, atol=0.02)
    # columns of one facet hang together as they should: E log p(z) of draws is larger than of shuffled columns
    torch.testing.assert_close(law.expand((5, 2)).log_prob(z[:5]), law.log_prob(z[:5]))
    cold = law.tempered(1e-8).sample((2000,))
    levels = tree.loc[:, 1].detach()
    assert ((cold[:, 0, 1][:, None] - levels).abs().min(1).values < 0.01).all()


def test_gradients_are_those_of_finite_differences():
    shape, z = SHAPES["a fork"], torch.randn(3, 4)
    tree = tree_of(shape)

    def log_prob(loc, scale, table):
        moved = Tree(tree.columns, tree.edges, loc, scale, table)
        return LatentTree(moved, torch.arange(K)[:, None]).log_prob(z)

    table = tree_of(shape, 1).log_table.detach().clamp(min=-5)
    inputs = [part.detach().clone().requires_grad_() for part in (tree.loc, tree.scale, table)]
    assert torch.autograd.gradcheck(log_prob, inputs)


def test_before_a_search_it_is_a_diagonal_gaussian():
    made, plain = LatentTreePrior(5, 4), DiagonalGaussian(5, 4)
    plain.load_state_dict({name: made.state_dict()[name] for name in ("loc", "raw_scale")})
    z, every = torch.randn(7, 5), torch.arange(4)[:, None]
    torch.testing.assert_close(made.density(every).log_prob(z), plain.density(every).log_prob(z))
    assert made.facets() == [[0, 1, 2, 3, 4]]


def planted(n=1500, seed=0):
    """Codes whose columns 0, 1 are the cluster's, 2, 3, 4 those of a free facet of three, 5 and 6 of a facet of two."""
    random = np.random.default_rng(seed)
    y, style, size = random.integers(3, size=n), random.integers(3, size=n), random.integers(2, size=n)
    levels = 4 * np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    z = np.column_stack([4 * y, 4 * (y == 1), *levels[style].T, 4 * size, -4 * size])
    return torch.as_tensor(z + random.normal(size=z.shape)), torch.as_tensor(y), torch.as_tensor(style)


def test_planted_facets_are_found():
    z, y, _ = planted()
    shape = search_tree(z, y, 3, max_facets=4, floor=0.05).shape
    own = [{j for j, facet in enumerate(shape.facet) if facet == f} for f in range(len(shape.parent))]
    assert own[0] == {0, 1}
    assert {frozenset(columns) for columns in own[1:]} == {frozenset({2, 3, 4}), frozenset({5, 6})}
    assert sorted(shape.n_states[1:]) == [2, 3]


def test_columns_of_noise_alone_gain_no_facet_and_none_is_forced():
    z, y, _ = planted()
    z = torch.cat([z[:, :2], torch.randn(len(z), 3)], 1)
    found = search_tree(z, y, 3, max_facets=4, floor=0.05).shape
    assert len(found.parent) <= 2  # the noise may leave the cluster for a facet of fewer states, which saves parameters
    assert [found.facet[0], found.facet[1]] == [0, 0]
    assert search_tree(z, y, 3, max_facets=1, floor=0.05).shape == Shape((0,) * 5, (0,), (3,))


def test_a_facet_that_the_cluster_decides_has_the_table_of_the_counts():
    """With states far apart, EM's tables are shares of rows, and the likelihood rises from step to step."""
    z, y, style = planted()
    style = torch.where(y == 0, 0, style)
    z[:, 2:5] = 9.0 * torch.nn.functional.one_hot(style, 3) + 0.5 * torch.randn(len(z), 3)
    shape = Shape((0, 0, 1, 1, 1, 0, 0), (0, 0), (3, 3))
    start = torch.stack([torch.nn.functional.one_hot(y, 3), torch.nn.functional.one_hot(style, 3)], 1).double()
    fit = fit_tree(z, y, shape, start, floor=0.05)
    counts = torch.zeros(3, 3).index_put_((y, style), torch.ones(len(z)), accumulate=True) + 1
    torch.testing.assert_close(fit.tree.log_table[1].exp(), counts / counts.sum(1, keepdim=True), atol=1e-3, rtol=1e-2)
    z[:, 2:5] += 3 * torch.randn(len(z), 3)  # EM would end at once where states are far apart, and then by rounding
    blurred = 0.7 * start + 0.1
    reached = [fit_tree(z, y, shape, blurred, floor=0.05, iterations=n).bic for n in (0, 1, 2, 4)]
    assert all(before + 1e-3 < after for before, after in pairwise(reached)), reached


def test_the_prior_keeps_what_the_search_found():
    z, y, _ = planted()
    made = LatentTreePrior(7, 3)
    made.start(z, y)
    assert made.facets()[0] == [0, 1]
    assert sorted(map(tuple, made.facets()[1:])) == [(2, 3, 4), (5, 6)]
    plain = DiagonalGaussian(7, 3)
    plain.start(z, y)
    gain = made.density(y).log_prob(z).mean() - plain.density(y).log_prob(z).mean()
    assert gain > 1.5  # nats per row: the two free facets are worth about log 3 and log 2 and more
    again = LatentTreePrior(7, 3)
    again.load_state_dict(made.state_dict())
    torch.testing.assert_close(again.density(y).log_prob(z), made.density(y).log_prob(z))
    assert replace(SHAPES["alone"]).n_parameters == 2 * 3 * 4


def test_clusters_without_rows_do_no_harm():
    z, _, _ = planted(200)
    made = LatentTreePrior(7, 3)
    made.start(z, torch.zeros(200, dtype=torch.long))
    assert made.density(torch.arange(3)[:, None]).log_prob(z).isfinite().all()


def test_a_wrong_number_of_facets_is_refused():
    with pytest.raises(ValueError, match="max_facets must be an integer of at least 1, got 0"):
        LatentTreePrior(4, 3, max_facets=0)


def test_with_one_cluster_there_is_no_other_facet():
    z, _, _ = planted(100)
    made = LatentTreePrior(7, 1)
    made.start(z, torch.zeros(100, dtype=torch.long))
    assert made.facets() == [[0, 1, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize("seed", [5, 8, 33])
def test_a_facet_may_lose_its_last_column_to_one_below_it(seed):
    """A chain of facets of two columns; of the one that lost them, only its states' edges remain."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 3, 300)
    states = [y]
    for _ in range(3):
        states.append(np.where(random.random(300) < 0.6, states[-1] % 2, random.integers(0, 2, 300)))
    z = 0.3 * random.normal(size=(300, 4))
    for column, facet in enumerate((0, 3, 2, 3)):
        z[:, column] += 2 * random.normal(size=3)[states[facet]]
    made = LatentTreePrior(4, 3)
    made.start(torch.tensor(z), torch.tensor(y))
    assert sorted(column for columns in made.facets() for column in columns) == [0, 1, 2, 3]
