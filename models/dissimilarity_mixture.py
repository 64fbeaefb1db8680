"""The dissimilarity mixture (DMM): a mixture whose clusters have the shapes of a dissimilarity.

Generative story, for each row:

    cluster ~ Categorical(a)
    x | cluster = k ~ p(x | k) = exp(-alpha V(x, theta_k)) / beta_k

with V a norm of x - theta_k, its square, a Mahalanobis distance, a cosine, or a function of the user's. There are no
local latents, so the log joint of row x and cluster k is exact,

    log a_k - alpha V(x, theta_k) - log beta_k.

Its softmax over k is the paper's responsibility, equation 5; its argmax the paper's assignment, equation 15. Unlike the
paper, which learns the biases b = log(a_k / beta_k) of equation 10 as one, the normaliser beta_k is known in closed
form: the mixture is a density, with a likelihood and samples. Unlike the paper, which holds alpha fixed and minimises V
to the soft-assigned parameters (equation 7), the likelihood is maximised, over alpha too.

Source: J. S. Lara, F. A. Gonzalez, "Dissimilarity mixture autoencoder for deep clustering", 2020, equations 3-6 and
14-15; starts in its section 4.2.
"""

from __future__ import annotations

from typing import Literal

import pyro
import torch
from torch import Tensor

from probclust.priors import Weights, weights_named
from probclust.priors.dissimilarities import Dissimilarity, LearnAlpha, dissimilarity_named
from probclust.starts import kmedoids_start, mixture_start
from probclust.story import SVI, Compute, GuideKind, Run, Step, Story


class DissimilarityMixture(Story):
    """A mixture over a dissimilarity.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        dissimilarity: "squared_euclidean", "euclidean", "manhattan", "chebyshev", "minkowski" (p = 3), "mahalanobis",
            "cosine" (rows of length 1), or a part of `probclust.dissimilarities`.
        alpha: inverse temperature of a named dissimilarity, fixed or at the start; None for its own default.
        learn_alpha: of a named dissimilarity: learn one alpha ("shared", True), one per cluster ("cluster"), or
            hold it (False, as "mahalanobis" always does: its covariances learn the scale).
        weights, global_guide: p(cluster), a name or a part of `probclust.weights`, and its posterior, see `Story`.

    Examples:
        >>> import torch, probclust as pc
        >>> pc.log_joint(DissimilarityMixture(2, n_clusters=3, dissimilarity="manhattan"), torch.randn(5, 2)).shape
        torch.Size([5, 3])
    """

    any_scale = True

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        dissimilarity: str | Dissimilarity = "squared_euclidean",
        alpha: float | None = None,
        learn_alpha: LearnAlpha = True,
        weights: str | Weights = "learned",
        global_guide: GuideKind = "conjugate",
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters, global_guide=global_guide)
        self.weights = weights_named(weights, n_clusters)
        self.dissimilarity = dissimilarity_named(dissimilarity, n_features, n_clusters, alpha, learn_alpha)

    def model(self, x: Tensor) -> None:
        """p(cluster) p(x | cluster)."""
        weights = self.weights()
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", weights, infer={"enumerate": "parallel"})
            pyro.sample("x", self.dissimilarity.density(cluster), obs=x)

    def guide(self, x: Tensor) -> None:
        """Nothing is latent but the cluster."""

    def recipe(self, start: Literal["k-means", "k-medoids"] | None = None, epochs: int | None = None) -> list[Step]:
        """Clusters by k-means or k-medoids, their centres, then SVI.

        As in the paper, k-medoids serves all but the Euclidean distances and the Mahalanobis distance, unless `start`
        says otherwise. Under stick-breaking weights it is a Dirichlet process mixture that finds the clusters.
        """
        start = start or ("k-means" if self.weights.may_empty else self.dissimilarity.start_by)
        if start not in ("k-means", "k-medoids"):
            raise ValueError(f"start must be 'k-means', 'k-medoids' or None, got {start!r}")
        return [
            mixture_start(self.weights) if start == "k-means" else kmedoids_start(self._between_rows),
            Compute(name="centres", run=self._centres),
            SVI(epochs=epochs, learning_rate=1e-2),
        ]

    def _between_rows(self, x: Tensor, centres: Tensor) -> Tensor:
        more = self.dissimilarity.theta[1:]  # of Mahalanobis: the identity does, before there are clusters
        return self.dissimilarity.between(x, centres, *(torch.eye(self.n_features).to(x) for _ in more))

    @torch.no_grad()
    def _centres(self, run: Run) -> None:
        labels = run.memory.labels
        self.dissimilarity.start(run.x, labels)
        counts = labels.bincount(minlength=self.n_clusters) + 1e-3
        self.start_weights(counts / counts.sum(), len(labels))
