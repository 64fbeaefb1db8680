"""A dissimilarity of the user's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from probclust.distributions.rows import Score
from probclust.priors.dissimilarities.base import Dissimilarity


class Custom(Dissimilarity):
    """A dissimilarity of the user's, given as a plain function; without a normaliser it is a score and no density.

    So alpha is fixed (the most likely one would be 0), the story that uses it has `is_density = False`, and `sample`
    says that there is nothing to draw from. To save a story, derive a class from `Dissimilarity` instead and register
    it with `probclust.register`: a function cannot be saved.

    Args:
        function: takes (..., D) rows and (..., D) centres that broadcast, to (...) numbers of at least 0; of torch.
        n_features: see `Dissimilarity`.
        n_clusters: see `Dissimilarity`.
        alpha: fixed.

    Examples:
        >>> import torch
        >>> part = Custom(lambda x, m: (x - m).abs().sqrt().sum(-1), n_features=2, n_clusters=3)
        >>> part(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
    """

    is_density = False

    def __init__(
        self, function: Callable[[Tensor, Tensor], Tensor], n_features: int, n_clusters: int, alpha: float = 1.0
    ) -> None:
        super().__init__(n_features, n_clusters, alpha, learn_alpha=False)
        if not callable(function):
            raise TypeError(f"function must be callable as function(x, centres), got {type(function).__name__}")
        self.function = function

    def between(self, x: Tensor, *theta: Tensor) -> Tensor:
        """The function's value."""
        return self.function(x, theta[0])

    def density(self, cluster: Tensor) -> Any:
        """`probclust.distributions.Score`."""
        return Score(self.function, self.loc[cluster], self.alpha[cluster])

    def centre(self, rows: Tensor) -> Tensor:
        """Almost the row that is nearest to the others, among the first thousand.

        At the row itself the function may have no gradient.
        """
        rows = rows[:1000]
        medoid = rows[torch.stack([self.between(rows, row).sum() for row in rows]).argmin()]
        return medoid.lerp(rows.mean(0), 0.01)
