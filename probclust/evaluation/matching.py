"""Which cluster of one fit is which of another: restarts number the same clusters differently."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from probclust.data.matching import one_to_one


def cluster_order(reference: Any, other: Any) -> Tensor:
    """Match the clusters of two fits by the rows that they share.

    The matching is one to one and makes sum_n sum_k reference[n, k] other[n, order[k]] largest (the Hungarian method
    on responsibilities), so that soft assignments count by their share. It matches whatever there is: two fits that
    found different clusters get an order too, and only the agreement of the matched columns says what it is worth.

    Args:
        reference: (rows, clusters) responsibilities of the fit whose numbering is kept.
        other: (rows, clusters) those of another fit, on the same rows.

    Returns:
        (clusters,) the other fit's cluster for each of the reference's: `other[:, order]` is numbered as it is.

    Raises:
        ValueError: their shapes differ.

    References:
        M. Stephens, "Dealing with label switching in mixture models", 2000; H. W. Kuhn, "The Hungarian method for
        the assignment problem", 1955.

    Examples:
        >>> cluster_order([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 1], [1, 0, 0]]).tolist()
        [1, 2, 0]
    """
    one, two = (torch.as_tensor(table, dtype=torch.float64) for table in (reference, other))
    if one.shape != two.shape or one.dim() != 2:
        raise ValueError(
            f"expected two (rows, clusters) tables of one shape, got {tuple(one.shape)} and {tuple(two.shape)}"
        )
    return torch.as_tensor(one_to_one((one.T @ two).numpy())[1])
