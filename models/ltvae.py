"""LTVAE, the latent tree variational autoencoder: a VAE whose codes show several facets, of which clusters are one.

Generative story, for each row:

    cluster ~ Categorical(a)
    facet f ~ Categorical(P_f[state of f's parent]),    down a tree whose root is the cluster
    z_j | facet f of column j in state s ~ Normal(m_sj, s_sj^2)
    x | z ~ likelihood(decoder(z))

The guide is VaDE's, and the log joint too, with log p(z | cluster = k) that of the tree, its other facets summed out.
Columns that differ in ways of their own, whatever the cluster, get facets of their own, and so partitions beside the
clusters. With no other facet it is VaDE.

Unlike the paper, in which every facet is found by a search that goes on while the network learns, the cluster is the
root from the start, K is given, and the other facets are searched for once, on the codes of the warm start; parameters
then move by the gradient of the bound instead of stepwise EM.

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
from probclust.networks.architectures import Network
from probclust.priors import LatentTreePrior
from probclust.priors.weights import WeightsOption
from probclust.story.chunks import evaluating
from probclust.story.global_guide import Kind
from probclust.story.joint import trace_joint
from probclust.story.rows import admit


class LTVAE(VaDE):
    """VaDE with a latent tree for a prior.

    Args:
        n_features: D, columns of x.
        n_clusters: K, and the most states that another facet may have.
        latent_dim: L, size of z: more than the clusters need, so that other facets have columns.
        hidden: as in `VaDE`.
        likelihood: as there.
        max_facets: facets at most, the cluster included.
        missing: as in `VaDE`.
        network: as there.
        weights: as there.
        global_guide: as there.

    Examples:
        >>> import torch, probclust as pc
        >>> story = LTVAE(16, n_clusters=3, latent_dim=4, hidden=(8,))
        >>> pc.log_joint(story, torch.rand(5, 16)).shape
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
        weights: WeightsOption = "learned",
        global_guide: Kind = "conjugate",
    ) -> None:
        prior = LatentTreePrior(latent_dim, n_clusters, max_facets)
        super().__init__(
            n_features, n_clusters, latent_dim, hidden, likelihood, prior, missing, network, weights, global_guide
        )

    @torch.no_grad()
    def partitions(self, x: Any) -> list[Tensor]:
        """Responsibilities of every facet's states at the rows' codes: (rows, n_states) each, the clusters' first.

        Args:
            x: (rows, n_features).
        """
        codes = embed(self, x).to(self.prior.loc)
        tree = self.prior.tree()
        with evaluating(self, 0):  # weights that have a prior are at their mean
            joint = trace_joint(self.model, self.complete_guide, admit(self, x)[:1].to(codes), latents="mean")
        every = tree.facet_responsibilities(codes, joint.model["cluster"].fn.logits)
        used = self.prior.columns.any(0) | (torch.arange(self.prior.max_facets) == 0).to(self.prior.columns.device)
        return [every[:, facet, : self.prior.n_states[facet]] for facet in used.nonzero().squeeze(1)]
