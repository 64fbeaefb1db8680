"""How well clusters agree with labels: accuracy, NMI and ARI, and the table of counts behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from probclust.data.labels import label_values
from probclust.data.matching import one_to_one

__all__ = ["accuracy", "ari", "contingency", "matching", "nmi"]


def accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Clustering accuracy: the share of rows that are right under the best one-to-one matching.

    Each cluster is matched with at most one label and each label with at most one cluster, so that the number
    of agreeing rows is largest (the Hungarian method). Rows of unmatched clusters count as wrong.

    Args:
        y_true: Labels, (rows,), integers or strings.
        y_pred: Clusters, (rows,), integers or strings; their numbers need not be those of the labels.

    Returns:
        A share between 0 and 1.

    Raises:
        ValueError: If the two differ in length, are empty or have more than one dimension.
        TypeError: If one of them holds neither integers nor strings.

    References:
        Kuhn, 1955, The Hungarian method for the assignment problem.

    Examples:
        >>> accuracy([0, 0, 1, 1], [7, 7, 7, 3])
        0.75
    """
    table, _, _ = contingency(y_true, y_pred)
    return float(table[one_to_one(table)].sum() / table.sum())


def nmi(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Normalised mutual information, divided by the arithmetic mean of the two entropies, between 0 and 1.

    Takes and raises what `accuracy` does.

    Examples:
        >>> round(nmi([0, 0, 1, 1], [1, 1, 0, 0]), 6)
        1.0
    """
    return float(normalized_mutual_info_score(*_as_codes(y_true, y_pred)))


def ari(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Adjusted Rand index: 1 for equal partitions, 0 in expectation for random ones.

    Takes and raises what `accuracy` does.

    Examples:
        >>> ari([0, 0, 1, 1], [1, 1, 0, 0])
        1.0
    """
    return float(adjusted_rand_score(*_as_codes(y_true, y_pred)))


def agreement(y_true: ArrayLike, y_pred: ArrayLike) -> dict[str, float]:
    """All three by their names. Takes and raises what `accuracy` does."""
    return {"accuracy": accuracy(y_true, y_pred), "nmi": nmi(y_true, y_pred), "ari": ari(y_true, y_pred)}


def contingency(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Count the rows of each label in each cluster.

    Takes and raises what `accuracy` does.

    Returns:
        The counts (labels, clusters), the sorted labels and the sorted clusters that they belong to.

    Examples:
        >>> contingency(["a", "a", "b"], [1, 0, 0])[0].tolist()
        [[1, 1], [1, 0]]
    """
    true, pred = _checked(y_true, y_pred)
    labels, label_codes = np.unique(true, return_inverse=True)
    clusters, cluster_codes = np.unique(pred, return_inverse=True)
    cells = label_codes * len(clusters) + cluster_codes
    counts = np.bincount(cells, minlength=len(labels) * len(clusters))
    return counts.reshape(len(labels), len(clusters)).astype(np.int64), labels, clusters


def matching(y_true: ArrayLike, y_pred: ArrayLike) -> dict[Any, Any]:
    """Match clusters with labels as `accuracy` does, to order the columns of a confusion matrix.

    Takes and raises what `accuracy` does.

    Returns:
        The label of each matched cluster, in the order of the labels. If there are more clusters than labels,
        some clusters are left out.

    Examples:
        >>> matching(["a", "a", "b"], [1, 1, 0])
        {1: 'a', 0: 'b'}
    """
    table, labels, clusters = contingency(y_true, y_pred)
    rows, columns = one_to_one(table)
    return dict(zip(clusters[columns].tolist(), labels[rows].tolist(), strict=True))


def _as_codes(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    true, pred = _checked(y_true, y_pred)
    return np.unique(true, return_inverse=True)[1], np.unique(pred, return_inverse=True)[1]


def _checked(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    true, pred = _labels("y_true", y_true), _labels("y_pred", y_pred)
    if len(true) != len(pred):
        raise ValueError(f"y_true and y_pred must have one entry for each row, got {len(true)} and {len(pred)} entries")
    return true, pred


def _labels(name: str, values: Any) -> NDArray[Any]:
    labels, there = label_values(values, name)
    if not len(labels):
        raise ValueError(f"{name} must have at least one row, got none")
    if not there.all():
        raise ValueError(
            f"{name} must have a label for each row, got none in row {int(there.argmin())} ({int((~there).sum())} in "
            "all); leave out such rows, or give them a label of their own"
        )
    return labels
