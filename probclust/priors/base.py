"""`Prior`: what a story asks of a latent prior p(z | cluster), ours or the user's."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from probclust.part import Part


class Prior(Part):
    """Base of the latent priors: derive from it to write your own.

    A subclass defines `density`; it may define `start`, without which the constructor's parameters are the start.

    Args:
        n_features: L, columns of the code.
        n_clusters: K.

    Attributes:
        is_density: whether `density` has its normaliser; without, a story's log joint is a score.
        on_sphere: whether codes must have length 1, and densities are with respect to the sphere's surface measure.
        by_cluster: whether clusters have densities of their own, so that the code tells clusters apart.
        name: under which stories take it, of a prior in a file of this folder that needs no more than L and K.

    Examples:
        >>> import pyro.distributions as dist, torch
        >>> class Laplace(Prior):
        ...     def __init__(self, n_features, n_clusters):
        ...         super().__init__(n_features, n_clusters)
        ...         self.loc = torch.nn.Parameter(torch.randn(n_clusters, n_features))
        ...     def density(self, cluster):
        ...         return dist.Laplace(self.loc[cluster], 1.0).to_event(1)
        >>> Laplace(2, n_clusters=3).density(torch.arange(3)[:, None]).batch_shape
        torch.Size([3, 1])
    """

    is_density: ClassVar[bool] = True
    on_sphere: ClassVar[bool] = False
    by_cluster: ClassVar[bool] = True
    name: ClassVar[str]

    def __init__(self, n_features: int, n_clusters: int) -> None:
        super().__init__()
        self.n_features, self.n_clusters = n_features, n_clusters

    def density(self, cluster: Tensor) -> Any:
        """p(z | cluster): batch (K, 1) or (rows,) as `cluster` has it, and event (L,)."""
        raise NotImplementedError(f"{type(self).__name__} must define density(self, cluster)")

    def start(self, codes: Tensor, labels: Tensor) -> None:
        """Set the parameters from codes (rows, L) and their starting clusters (rows,)."""
