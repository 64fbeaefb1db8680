"""The hidden Markov model, against all paths by brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from probclust.starts.clusterers.hidden_markov import expected_counts, fitted_hidden_markov


def chain(lengths, stay=0.9, n_clusters=3, seed=0):
    """(rows,) clusters that last, recording after recording."""
    random = np.random.default_rng(seed)
    y = []
    for length in lengths:
        y.append(random.integers(n_clusters))
        for _ in range(length - 1):
            y.append(y[-1] if random.random() < stay else random.integers(n_clusters))
    return np.array(y)


@pytest.mark.parametrize("lengths", [(5,), (1, 3), (2, 1, 2)])
def test_counts_are_those_of_all_paths(lengths):
    random = torch.Generator().manual_seed(0)
    n_rows, k = sum(lengths), 3
    density = torch.randn(n_rows, k, generator=random, dtype=torch.double)
    start = torch.randn(k, generator=random, dtype=torch.double).log_softmax(0)
    transitions = torch.randn(k, k, generator=random, dtype=torch.double).log_softmax(1)
    first = np.isin(np.arange(n_rows), np.cumsum([0, *lengths[:-1]]))
    total, gamma, taken, began = expected_counts(density, start, transitions, torch.as_tensor(first))

    paths = list(product(range(k), repeat=n_rows))
    scores = []
    for path in paths:
        steps = [start[c] if first[t] else transitions[path[t - 1], c] for t, c in enumerate(path)]
        scores.append(sum(steps) + sum(density[t, c] for t, c in enumerate(path)))
    chance = torch.stack(scores).softmax(0)
    assert total.item() == pytest.approx(torch.stack(scores).logsumexp(0).item())
    own, pairs, begun = torch.zeros(n_rows, k), torch.zeros(k, k), torch.zeros(k)
    for path, p in zip(paths, chance, strict=True):
        for t, c in enumerate(path):
            own[t, c] += p
            if first[t]:
                begun[c] += p
            else:
                pairs[path[t - 1], c] += p
    for found, expected in ((gamma, own), (taken, pairs), (began, begun)):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_without_time_it_is_a_mixture_of_gaussians_with_one_covariance():
    """Recordings of one row each leave no transitions: scikit-learn's mixture, from the same clusters, agrees."""
    from sklearn.mixture import GaussianMixture

    random = np.random.default_rng(0)
    y = random.integers(3, size=2000)
    x = random.normal(size=(3, 4))[y] * 3 + random.normal(size=(2000, 4)) @ random.normal(size=(4, 4))
    found = fitted_hidden_markov(x, [1] * 2000, y, 3, iterations=500, tolerance=1e-9)
    means = np.stack([x[y == k].mean(0) for k in range(3)])
    peer = GaussianMixture(3, covariance_type="tied", means_init=means, max_iter=500, tol=1e-10).fit(x)
    assert found.log_likelihood == pytest.approx(peer.score(x), abs=2e-3)
    np.testing.assert_allclose(found.responsibilities, peer.predict_proba(x), atol=0.02)


def test_the_likelihood_rises_and_clusters_that_last_are_found_among_larger_differences():
    lengths = [150, 250]
    y = chain(lengths, stay=0.95)
    random = np.random.default_rng(1)
    quick = random.choice([-6.0, 6.0], size=(400, 1))  # larger, but gone in the next row
    x = np.hstack([1.5 * np.eye(3)[y] + random.normal(scale=0.5, size=(400, 3)), quick])
    start = np.where(random.random(400) < 0.4, random.integers(3, size=400), y)
    reached = [fitted_hidden_markov(x, lengths, start, 3, iterations=n).log_likelihood for n in (1, 2, 4, 8, 16)]
    assert reached == sorted(reached)
    found = fitted_hidden_markov(x, lengths, start, 3)
    assert (found.responsibilities.argmax(1) == y).mean() > 0.97
    assert found.coordinates.shape == (400, 2)
    within = np.concatenate([found.coordinates[y == k] - found.coordinates[y == k].mean(0) for k in range(3)])
    np.testing.assert_allclose(within.std(0), 1, atol=0.15)


def test_a_constant_column_and_an_unused_cluster_do_no_harm():
    y = chain([100], n_clusters=2)
    x = np.hstack([3.0 * y[:, None] + np.random.default_rng(0).normal(size=(100, 1)), np.ones((100, 1))])
    found = fitted_hidden_markov(x, [100], y, 3)
    assert np.isfinite(found.log_likelihood)
    assert np.isfinite(found.responsibilities).all()
    assert np.isfinite(found.coordinates).all()


def test_rows_taken_in_parts_give_the_same_counts(monkeypatch):
    random = torch.Generator().manual_seed(0)
    density = torch.randn(37, 3, generator=random, dtype=torch.double)
    start, transitions = torch.full((3,), 1 / 3).log().double(), torch.eye(3).double().log_softmax(1)
    first = torch.arange(37) % 20 == 0
    whole = expected_counts(density, start, transitions, first)
    monkeypatch.setattr("probclust.starts.clusterers.hidden_markov.PAIRED_ELEMENTS", 4 * 27)
    for part, expected in zip(expected_counts(density, start, transitions, first), whole, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-12, atol=1e-12)
