from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

import probclust as pc
from probclust.evaluation.matching import cluster_order


@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    one, two = rng.dirichlet(np.full(4, 0.3), (2, 30))
    overlap = {order: (one * two[:, order]).sum() for order in permutations(range(4))}
    assert tuple(cluster_order(one, two).tolist()) == max(overlap, key=lambda order: overlap[order])


def test_a_renumbering_is_undone():
    story, x = pc.models.GaussianMixture(3, 4), torch.randn(60, 3)
    table = pc.responsibilities(story, x)
    order = torch.tensor([2, 0, 3, 1])
    found = cluster_order(table, table[:, order])
    assert torch.equal(table[:, order][:, found], table)


def test_tables_must_match():
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(3, 3\)"):
        cluster_order(torch.ones(3, 2), torch.ones(3, 3))
