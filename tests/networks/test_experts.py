"""Experts by cluster: the same outputs and gradients as computing every expert, and nothing computed beside them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from probclust.networks.architectures import MLP, Convolutional, SideBySide
from probclust.networks.experts import Grouping, n_experts_of, run_experts
from probclust.networks.stacked import StackedLinear, StackedMLP, of_cluster

K, ROWS = 7, 9
NETWORKS = {
    "linear": lambda: StackedLinear(K, 20, 5),
    "perceptron": lambda: StackedMLP(K, [20, 8, 6, 10]),
    "of odd sizes": lambda: StackedMLP(K, [20, 5, 3, 1]),
    "sequence": lambda: nn.Sequential(StackedLinear(K, 20, 6), nn.ReLU(), nn.ReLU(), StackedLinear(K, 6, 4), nn.ReLU()),
    "normalised": lambda: MLP((6, 5), "layer").stacked_trunk(K, 20),
    "convolutional": lambda: Convolutional(5, 4, (2, 3), n_hidden=5).stacked_trunk(K, 20),
    "side by side": lambda: SideBySide(lambda: nn.Linear(20, 3), K),
}
CLUSTERS = {
    "one each": lambda: torch.tensor([0, 6, 6, 1, 6, 3, 3, 0, 6]),
    "all the same": lambda: torch.full((ROWS,), 2),
    "candidates": lambda: torch.rand(K, ROWS).argsort(0)[:3],
    "candidates without some": lambda: torch.stack([torch.full((ROWS,), 4), torch.arange(ROWS) % 3]),
}


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    """float32 takes blocks of any length, float64 padded ones."""
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("own", [False, True], ids=["shared rows", "own rows"])
@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_asked_experts_are_those_of_all_in_values_and_gradients(dtype, network, cluster, own):
    network, cluster = network(), cluster()
    x = torch.randn(*(cluster.shape if own else (ROWS,)), 20, requires_grad=True)
    alone = x.reshape(-1, ROWS, 20)  # each candidate with its own input, if it has one
    asked = cluster.reshape(-1, ROWS)
    expected = torch.stack([of_cluster(network(alone[s % len(alone)]), asked[s]) for s in range(len(asked))]).reshape(
        *cluster.shape, -1
    )
    weights = torch.randn_like(expected)
    inputs = [x, *network.parameters()]
    wanted = torch.autograd.grad((weights * expected).sum(), inputs)
    outputs = run_experts(network, x, cluster)
    found = torch.autograd.grad((weights * outputs).sum(), inputs)
    torch.testing.assert_close(outputs, expected)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_where_clusters_are_enumerated_every_expert_runs(network):
    network, x = network(), torch.randn(ROWS, 20)
    torch.testing.assert_close(run_experts(network, x, torch.arange(K)[:, None]), network(x))


def test_blocks_have_no_padding_and_padded_ones_are_as_long_as_the_longest():
    cluster = torch.tensor([[0, 1, 0, 0], [2, 2, 1, 5]])
    grouping = Grouping(cluster, K)
    seen = []

    class Spy(nn.Module):
        n_experts = K

        def forward(self, x):
            seen.append(x.shape)
            return x

    x = torch.randn(4, 2)
    torch.testing.assert_close(run_experts(Spy(), x, cluster), x.expand(2, 4, 2))
    assert seen == [(K, 3, 2)]  # three rows want expert 0
    assert grouping.gather(x).shape == (8, 2)
    assert grouping.counts.tolist() == [3, 2, 2, 0, 0, 1, 0]


def test_a_padded_block_repeats_its_own_rows():
    """Else a batch norm would see rows of other experts, or zeros."""
    cluster = torch.tensor([0, 0, 0, 1])
    x = torch.arange(4.0)[:, None]
    seen = []

    class Spy(nn.Module):
        n_experts = 2

        def forward(self, x):
            seen.append(x)
            return x

    run_experts(Spy(), x, cluster)
    assert seen[0].squeeze(-1).tolist() == [[0, 1, 2], [3, 3, 3]]


def test_the_number_of_experts_comes_from_the_network():
    assert [n_experts_of(network()) for network in NETWORKS.values()] == [K] * len(NETWORKS)
    with pytest.raises(TypeError, match="give it an attribute n_experts"):
        n_experts_of(nn.Linear(2, 2))
