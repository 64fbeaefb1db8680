"""Agreement of restarts: against brute force and against answers known by construction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

import probclust as pc


def shuffled(labels, rng, n_clusters=3):
    return rng.permutation(n_clusters)[labels]


def test_the_same_partition_under_other_names_agrees_fully():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=50)
    found = pc.stability([shuffled(truth, rng) for _ in range(4)])
    assert found.agreement == 1
    assert (found.certainty == 1).all()
    assert found.unsettled.size == 0
    assert pc.metrics.ari(found.consensus, truth) == 1
    assert (found.labels == found.consensus).all()


def test_pairs_are_scored_by_scikit_learns_ari():
    rng = np.random.default_rng(0)
    given = rng.integers(3, size=(4, 30))
    found = pc.stability(dict(zip("abcd", given, strict=True)))
    for (i, a), (j, b) in itertools.product(enumerate("abcd"), repeat=2):
        assert found.ari.loc[a, b] == pytest.approx(adjusted_rand_score(given[i], given[j]))
    pairs = [adjusted_rand_score(a, b) for a, b in itertools.combinations(given, 2)]
    assert found.agreement == pytest.approx(np.mean(pairs))


def test_planted_doubts_are_found():
    """Five restarts that each flip other rows: rows 0-9 in three of five, each to a cluster of its own."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 20)
    given = np.stack([truth] * 5)
    given[0, :10] = 1
    given[1, :10] = 1
    given[2, :10] = 2  # rows 0-9: two say 0, two say 1, one says 2
    given[3, 30] = 0  # row 30: four of five
    found = pc.stability([shuffled(one, rng) for one in given])
    assert found.unsettled.tolist() == list(range(10))
    assert found.certainty[:10].tolist() == pytest.approx([0.4] * 10)
    assert found.certainty[30] == pytest.approx(0.8)
    assert pc.metrics.accuracy(truth[10:], found.consensus[10:]) == 1
    assert "10 rows without a majority" in str(found)


def test_no_other_matching_agrees_in_more_rows():
    rng = np.random.default_rng(1)
    truth = rng.integers(3, size=40)
    given = [shuffled(np.where(rng.random(40) < 0.2, rng.integers(3, size=40), truth), rng) for _ in range(3)]
    found = pc.stability(given)
    agreeing = (found.labels == found.consensus).sum()
    best = max(
        sum(
            np.bincount(votes, minlength=3).max()
            for votes in np.stack([np.array(p)[one] for p, one in zip(perms, given, strict=True)]).T
        )
        for perms in itertools.product(itertools.permutations(range(3)), repeat=3)
    )
    assert agreeing == best


def test_numbers_of_clusters_may_differ():
    found = pc.stability([[0, 0, 1, 1], [1, 1, 0, 2], [2, 2, 1, 1]])
    assert found.consensus[0] == found.consensus[1] != found.consensus[2]
    assert found.certainty.tolist() == pytest.approx([1, 1, 1, 2 / 3])


def test_stories_and_the_assignments_of_a_fits_restarts():
    x, _ = make_blobs(90, centers=[[-6, 0], [0, 6], [6, 0]], random_state=0)
    stories = {}
    for seed in range(3):
        story = stories[f"seed {seed}"] = pc.models.GaussianMixture(2, 3, "spherical")
        pc.fit(story, x, seed=seed, epochs=3, progress=False)
    found = pc.stability(stories, x)
    assert found.agreement == 1
    assert found.ari.index.tolist() == list(stories)
    assert pc.stability(list(stories.values()), x).consensus.tolist() == found.consensus.tolist()
    record = pc.fit(pc.models.GaussianMixture(2, 3, "spherical"), x, n_init=2, epochs=3, progress=False)
    assert pc.stability(record.assignments).agreement == 1
    assert pc.fit(story, x, epochs=1, progress=False).assignments is None


def test_wrong_restarts_are_refused():
    story = pc.models.GaussianMixture(2, 2)
    with pytest.raises(ValueError, match="at least two restarts to compare, got 1"):
        pc.stability([story], torch.randn(5, 2))
    with pytest.raises(ValueError, match="need the rows"):
        pc.stability([story, story])
    with pytest.raises(ValueError, match="leave x out"):
        pc.stability([[0, 1], [1, 0]], torch.randn(2, 2))
    with pytest.raises(TypeError, match="some of each"):
        pc.stability([story, [0, 1]], torch.randn(2, 2))
    with pytest.raises(TypeError, match="whole numbers from 0"):
        pc.stability([[0.5, 1], [1, 0]])
    with pytest.raises(ValueError, match="n_init=2 or more"):
        pc.stability(None)
    with pytest.raises(ValueError, match="same rows, got some of 2 and some of 3"):
        pc.stability([[0, 1], [1, 0, 1]])
