"""IDEC, improved deep embedded clustering: DEC that goes on reconstructing, so that its codes keep the data's shape.

The story is DEC's, with the reconstruction in the log joint of row x and cluster k,

    log q_k(z) - gamma KL(p || q) - r |x - decoder(z)|^2 / D + constant,    z = encoder(x),

so that `pc.elbo` gives minus the paper's objective L_r + gamma L_c (equation 6), up to the constant. With r = 0 and
gamma = 1 it is DEC.

Unlike the paper's equation 8, which sums the squared error over the features, L_r is their mean, as in the authors'
code: beside a sum, gamma = 0.1 leaves the clustering next to no weight, the less the more features there are.

Source: X. Guo, L. Gao, X. Liu, J. Yin, "Improved deep embedded clustering with local structure preservation", IJCAI
2017, equations 2-14 and algorithm 1; architecture in its section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from probclust.models.dec import DEC


class IDEC(DEC):
    """Improved deep embedded clustering.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim, hidden: of the code z, see `probclust.networks.Codec`.
        gamma, reconstruction: weights of the clustering loss KL(p || q) and of the reconstruction loss, r.

    Examples:
        >>> import torch, probclust as pc
        >>> pc.reconstruct(IDEC(16, n_clusters=3, latent_dim=2, hidden=(8,)), torch.rand(5, 16)).shape
        torch.Size([5, 16])
    """

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        latent_dim: int = 10,
        hidden: Sequence[int] = (500, 500, 2000),
        gamma: float = 0.1,
        reconstruction: float = 1.0,
    ) -> None:
        for name, value in (("gamma", gamma), ("reconstruction", reconstruction)):
            if not value >= 0:
                raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
        super().__init__(n_features, n_clusters, latent_dim, hidden)
        self.gamma, self.reconstruction = gamma, reconstruction
