"""The exact bound with a floor under what the latents tell of the cluster."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from probclust.objectives.bounds import Exact
from probclust.story.joint import Joint
from probclust.story.sites import CLUSTER


class MinimumInformation(Exact):
    """The exact bound with KL(p(cluster | latents) || p(cluster)), mean over the batch, counted as `threshold` if less.

    Below the threshold the divergence has no gradient, so that clusters do not merge for the sake of their prior. It
    stays a lower bound on log p(x).

    Args:
        threshold: lambda, in nats per row; of use up to the entropy of the weights, at most log K.
        n_rows: rows of the whole data set.

    Source: N. Dilokthanakul and others, "Deep unsupervised clustering with Gaussian mixture variational autoencoders",
    2016, section 3: the minimum information constraint, after D. Kingma and others, "Improved variational inference
    with inverse autoregressive flow", 2016.
    """

    name = "minimum information"

    def __init__(self, threshold: float, n_rows: int | None = None) -> None:
        if not threshold >= 0:
            raise ValueError(f"threshold must be a number of at least 0, in nats per row, got {threshold!r}")
        super().__init__(n_rows)
        self.threshold = threshold

    def bound(self, joint: Joint) -> Tensor:
        """(rows,) exact bound, less what the batch's mean divergence lacks of the threshold."""
        log_posterior = joint.table.log_softmax(1)
        log_prior = joint.model[CLUSTER].log_prob.expand(joint.n_clusters, joint.n_rows).T
        divergence = (log_posterior.exp() * (log_posterior - log_prior)).sum(1).mean()
        return super().bound(joint) - functional.relu(self.threshold - divergence)
