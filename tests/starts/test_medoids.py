from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

import probclust as pc
from probclust.models import GaussianMixture
from probclust.starts.medoids import k_medoids, kmedoids_start
from probclust.story.recipe import START, Run


def manhattan(x, centres):
    return (x - centres).abs().sum(-1)


def blobs(n=40):
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    return centres[torch.arange(n) % 3] + torch.randn(n, 2)


def test_separated_clusters_get_the_best_medoids_of_all():
    distances = torch.cdist(x := blobs(), x, p=1)
    best = min(combinations(range(40), 3), key=lambda rows: distances[:, rows].amin(1).sum().item())
    assert sorted(k_medoids(distances, 3).tolist()) == list(best)


@pytest.mark.parametrize("n_clusters", [1, 3, 6])
def test_rows_that_are_alike_empty_no_cluster(n_clusters):
    medoids = k_medoids(torch.zeros(6, 6), n_clusters)
    assert sorted(set(medoids.tolist())) == sorted(medoids.tolist())


@pytest.mark.parametrize("max_rows", [15, 2000])
def test_the_start_finds_the_clusters_from_some_of_the_rows(max_rows):
    run = Run(GaussianMixture(2, 3), blobs(), None, seed=0)
    kmedoids_start(manhattan, max_rows).run(run)
    assert pc.metrics.accuracy(np.arange(40) % 3, run.memory[START]) == 1


def test_the_start_takes_the_order_of_known_clusters():
    y = torch.full((40,), -1)
    y[:3] = torch.tensor([2, 0, 1])
    run = Run(GaussianMixture(2, 3), blobs(), y, seed=0)
    kmedoids_start(manhattan).run(run)
    assert run.memory[START][:3].tolist() == [2, 0, 1]


def test_known_rows_start_in_their_own_cluster_though_they_lie_in_another():
    y = torch.full((40,), -1)
    y[:12] = torch.arange(12) % 3
    y[9] = 1
    run = Run(GaussianMixture(2, 3), blobs(), y, seed=0)
    kmedoids_start(manhattan).run(run)
    assert torch.equal(run.memory[START][:12], y[:12])


def test_the_start_clusters_codes_where_it_is_given_an_encoder():
    x = torch.cat([100 * torch.randn(40, 1), blobs()], 1)  # the first column hides the clusters
    run = Run(GaussianMixture(3, 3), x, None, seed=0)
    kmedoids_start(manhattan, encode=lambda rows: rows[:, 1:]).run(run)
    assert pc.metrics.accuracy(np.arange(40) % 3, run.memory[START]) == 1
