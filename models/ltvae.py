"""LTVAE, the latent tree variational autoencoder: a VAE whose codes show several facets, of which clusters are one.

Generative story, for each row:

    cluster ~ Categorical(a)
    facet f ~ Categorical(P_f[state of f's parent]),    down a tree whose root is the cluster
    z_j | facet f of column j in state s ~ Normal(m_sj, s_sj^2)
    x | z ~ likelihood(decoder(z))

The guide is VaDE's, and the log joint too, with log p(z | cluster = k) that of the tree, its other facets summed out.
Columns that differ in ways of their own get facets of their own, and so partitions beside the clusters.

Unlike the paper, whose search goes on while the network learns, the cluster is the root from the start, K is given, and
the other facets are searched for once, on the starting codes; parameters then move by the bound's gradient.

Source: X. Li, Z. Chen, L. K. M. Poon, N. L. Zhang, "Learning latent superstructures in variational autoencoders for
deep multidimensional clustering", ICLR 2019 (arXiv 1803.05206).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from probclust.generate.embedding import embed
from probclust.likelihoods import Likelihood
from probclust.models.vade import VaDE
from probclust.networks import Network
from probclust.priors import LatentTreePrior, Weights
from probclust.story import GuideKind, admit, evaluating, trace_joint


class LTVAE(VaDE):
    """VaDE with a latent tree for a prior.

    Args:
        n_features: D, columns of x.
        n_clusters: K, and the most states that another facet may have.
        latent_dim: L, size of z: more than the clusters need, so that other facets have columns.
        max_facets: facets at most, the cluster included.
        hidden, likelihood, missing, network, weights, global_guide: as in `VaDE`.

    Examples:
        >>> import torch, probclust as pc
        >>> pc.log_joint(LTVAE(16, n_clusters=3, latent_dim=4, hidden=(8,)), torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    prior: LatentTreePrior

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        latent_dim: int = 20,
        hidden: Sequence[int] = (500, 500, 2000),
        likelihood: str | Likelihood = "gaussian",
        max_facets: int = 4,
        missing: bool = False,
        network: Network | None = None,
        weights: str | Weights = "learned",
        global_guide: GuideKind = "conjugate",
    ) -> None:
        prior = LatentTreePrior(latent_dim, n_clusters, max_facets)
        super().__init__(
            n_features, n_clusters, latent_dim, hidden, likelihood, prior, missing, network, weights, global_guide
        )

    @torch.no_grad()
    def partitions(self, x: Any) -> list[Tensor]:
        """(rows, n_states) responsibilities of each facet's states at the codes of (rows, D), the clusters first."""
        codes = embed(self, x).to(self.prior.loc)
        tree = self.prior.tree()
        with evaluating(self, 0):  # weights that have a prior are at their mean
            joint = trace_joint(self.model, self.complete_guide, admit(self, x)[:1].to(codes), latents="mean")
        every = tree.facet_responsibilities(codes, joint.model["cluster"].fn.logits)
        used = self.prior.columns.any(0) | (torch.arange(self.prior.max_facets) == 0).to(self.prior.columns.device)
        return [every[:, facet, : self.prior.n_states[facet]] for facet in used.nonzero().squeeze(1)]
