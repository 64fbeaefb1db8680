"""DGG: VaDE whose responsibilities agree along a graph of neighbours.

The generative story and the guide are VaDE's. Training minimises, mean over rows,

    - bound(x_i) + weight * JS(r_i, r_j),    r_i = p(cluster | x_i, z_i), z_i ~ q(z | x_i),

with j a neighbour of i drawn anew at each step, and JS the Jensen-Shannon divergence, so that linked rows come to share
their clusters. The bound that is reported is VaDE's own, without the second term.

Unlike the paper, whose graph comes from a Siamese network and weighs its links, links go to the nearest neighbours, of
images by the image distortion model, and count alike; and the start is VaDE's here, with its default.

Source: L. Yang, N.-M. Cheung, J. Li, J. Fang, "Deep clustering by Gaussian mixture variational autoencoders with graph
embedding", ICCV 2019, section 3.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from probclust.arguments import positive
from probclust.data.kinds import ImageShape
from probclust.likelihoods import view
from probclust.models.vade import VaDE
from probclust.objectives.bounds import Exact
from probclust.starts.clusterers.neighbours import nearest_neighbours
from probclust.starts.labels import NEIGHBOURS, complete_rows
from probclust.story.joint import Joint, programs, trace_joint
from probclust.story.recipe import SVI, Compute, Run, Step


class DGG(VaDE):
    """VaDE with a graph embedding: neighbours share their responsibilities. Its arguments are those of `VaDE`.

    Examples:
        >>> import torch, probclust as pc
        >>> story = DGG(16, n_clusters=3, latent_dim=2, hidden=(8,))
        >>> pc.log_joint(story, torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    def recipe(
        self,
        pretraining: Literal["neighbours", "embedding", "words", "sequence", "autoencoder"] | None = None,
        pretrain_epochs: int | None = None,
        fit_epochs: int = 20,
        epochs: int = 5,
        image_shape: ImageShape | None = None,
        lengths: Sequence[int] | None = None,
        documents: bool = False,
        weight: float | None = None,
        n_neighbours: int = 15,
    ) -> list[Step]:
        """VaDE's recipe, with `Linked` as the objective of its SVI steps.

        Args:
            pretraining: as in `VaDE.recipe`.
            pretrain_epochs: as there.
            fit_epochs: as there.
            epochs: as there.
            image_shape: as there.
            lengths: as there.
            documents: as there.
            weight: of the divergence, in nats per row; None for a fiftieth of the number of features, since what it
                is weighed against, log p(x | z), is a sum over them. With five times as much, clusters may merge.
            n_neighbours: links of each row, where the start leaves no graph.
        """
        positive("n_neighbours", n_neighbours)
        linked = Linked(0.02 * self.n_features if weight is None else weight)

        def link(run: Run) -> None:
            if NEIGHBOURS not in run.memory:
                x = view(self.likelihood, complete_rows(run)).cpu().numpy()
                _, neighbour = nearest_neighbours(x, n_neighbours, image_shape)
                run.memory[NEIGHBOURS] = torch.as_tensor(neighbour, device=run.x.device)

        steps: list[Step] = []
        for step in super().recipe(pretraining, pretrain_epochs, fit_epochs, epochs, image_shape, lengths, documents):
            if isinstance(step, SVI):
                steps.append(dataclasses.replace(step, objective=linked))
            else:
                steps.append(step)
                if step.name == "prior":
                    steps.append(Compute(name="links", run=link))
        return steps


class Linked(Exact):
    """The exact bound, and a penalty for rows whose responsibilities differ from those of a neighbour.

    Of each row of a batch one neighbour is drawn, scored beside the batch, and the two responsibilities are compared by
    their Jensen-Shannon divergence: 0 where they agree, and log 2 nats where they share no cluster. Works for any story
    whose warm start leaves a graph in `run.memory["neighbours"]`.

    Args:
        weight: of the divergence, in nats per row.
        n_rows: rows of the whole data set.
    """

    name = "linked"
    is_separable = False
    needs_all_rows = True

    def __init__(self, weight: float, n_rows: int | None = None) -> None:
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight must be a number of at least 0, in nats per row, got {weight!r}")
        super().__init__(n_rows)
        self.weight = weight

    def describe(self) -> str:
        """The objective with its argument."""
        return f"Linked(weight={self.weight})"

    def start(self, run: Run, y: Tensor | None) -> None:
        """Look for the graph."""
        if NEIGHBOURS not in run.memory:
            raise ValueError(
                "links need the neighbours of all rows in run.memory['neighbours'], and there are none; take a start "
                "with neighbours"
            )
        self.story = run.story

    def penalty(self, run: Run, index: Tensor, joint: Joint) -> Tensor:
        """The weighted mean divergence over the batch."""
        graph = run.memory[NEIGHBOURS]
        column = torch.randint(graph.shape[1], (len(index),), device=graph.device)
        there = trace_joint(*programs(self.story.model, self.story.guide), run.x[graph[index, column]])
        return self.weight * jensen_shannon(joint.table, there.table).mean()


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence of categorical distributions, in nats.

    Args:
        first: (rows, K) logits.
        second: (rows, K) logits.

    Returns:
        (rows,) divergences from 0 to log 2.
    """
    p, q = first.log_softmax(1), second.log_softmax(1)
    middle = torch.logaddexp(p, q) - math.log(2)
    return ((p.exp() * (p - middle)).sum(1) + (q.exp() * (q - middle)).sum(1)) / 2
