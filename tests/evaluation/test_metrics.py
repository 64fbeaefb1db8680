from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from probclust.evaluation import metrics

pairs = st.integers(1, 30).flatmap(
    lambda rows: st.tuples(
        st.lists(st.integers(-2, 3), min_size=rows, max_size=rows),
        st.lists(st.integers(10, 14), min_size=rows, max_size=rows),
    )
)


def brute_force_accuracy(y_true: list[int], y_pred: list[int]) -> float:
    """Try each one-to-one map from clusters to labels; dummies stand for clusters without a label."""
    clusters = sorted(set(y_pred))
    labels: list[int | None] = [*sorted(set(y_true)), *[None] * len(clusters)]
    best = 0
    for chosen in set(permutations(labels, len(clusters))):
        names = dict(zip(clusters, chosen, strict=True))
        best = max(best, sum(names[p] == t for t, p in zip(y_true, y_pred, strict=True)))
    return best / len(y_true)


@given(pairs)
@settings(deadline=None, max_examples=25)
def test_accuracy_is_the_best_over_all_matchings(pair):
    y_true, y_pred = pair
    assert metrics.accuracy(y_true, y_pred) == pytest.approx(brute_force_accuracy(y_true, y_pred))


@given(pairs)
@settings(deadline=None, max_examples=50)
def test_agrees_with_scikit_learn(pair):
    y_true, y_pred = pair
    assert metrics.nmi(y_true, y_pred) == pytest.approx(normalized_mutual_info_score(y_true, y_pred))
    assert metrics.ari(y_true, y_pred) == pytest.approx(adjusted_rand_score(y_true, y_pred))
    assert (metrics.contingency(y_true, y_pred)[0] == contingency_matrix(y_true, y_pred)).all()


@given(pairs)
@settings(deadline=None, max_examples=50)
def test_matching_attains_the_accuracy(pair):
    y_true, y_pred = pair
    names = metrics.matching(y_true, y_pred)
    assert len(set(names.values())) == len(names) == min(len(set(y_true)), len(set(y_pred)))
    share = np.mean([names.get(p) == t for t, p in zip(y_true, y_pred, strict=True)])
    assert share == pytest.approx(metrics.accuracy(y_true, y_pred))


@pytest.mark.parametrize(
    "kind",
    [
        np.asarray,
        torch.tensor,
        pd.Series,
        lambda y: np.array(y, np.uint8),
        lambda y: pd.Series(y).astype(str),
    ],
)
def test_labels_of_any_integer_or_string_kind(kind):
    y = [2, 0, 0, 1, 2]
    assert metrics.accuracy(kind(y), [5, 3, 3, 4, 5]) == 1
    assert metrics.ari(kind(y), ["e", "c", "c", "d", "e"]) == 1


KINDS = {
    "nullable": pd.Series([0, 1, 1, 0], dtype="Int64"),
    "whole floats": [0.0, 1.0, 1.0, 0.0],
    "strings": pd.Series(["a", "b", "b", "a"], dtype="string"),
    "categories": pd.Series(["a", "b", "b", "a"], dtype="category"),
    "objects": np.array([0, 1, 1, 0], dtype=object),
    "tensor": torch.tensor([0, 1, 1, 0]),
    "truth": [False, True, True, False],
    "numbers with gaps": [3, 70, 70, 3],
    "text of numbers": ["3", "70", "70", "3"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_every_kind(kind):
    found = [0, 1, 0, 0]
    assert metrics.accuracy(KINDS[kind], found) == 0.75
    assert metrics.nmi(KINDS[kind], found) == metrics.nmi([0, 1, 1, 0], found)


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, np.nan, 0],
        pd.Series([0, 1, None, 0], dtype="Int64"),
        ["a", "b", None, "a"],
        pd.Series(["a", "b", pd.NA, "a"], dtype="string"),
        np.ma.array([0, 1, 5, 0], mask=[0, 0, 1, 0]),
    ],
)
def test_a_row_without_a_label_is_named(y):
    with pytest.raises(ValueError, match=r"y_true must have a label for each row, got none in row 2 \(1 in all\)"):
        metrics.ari(y, [0, 1, 0, 0])


@pytest.mark.parametrize("score", [metrics.accuracy, metrics.nmi, metrics.ari, metrics.contingency, metrics.matching])
def test_wrong_input_is_refused(score):
    with pytest.raises(ValueError, match="one entry for each row, got 3 and 2"):
        score([0, 1, 2], [0, 1])
    with pytest.raises(ValueError, match="at least one row"):
        score([], [])
    with pytest.raises(ValueError, match=r"one dimension \(rows,\), got shape \(2, 1\)"):
        score([0, 1], [[0], [1]])
    with pytest.raises(TypeError, match="y_pred must hold integers or strings, got dtype float64"):
        score([0, 1], [0.2, 0.8])
