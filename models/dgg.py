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
from typing import Any

import torch

from probclust.arguments import positive
from probclust.models.vade import VaDE
from probclust.objectives import Linked
from probclust.starts import complete_rows
from probclust.starts.clusterers.neighbours import nearest_neighbours
from probclust.story import SVI, Compute, Run, Step


class DGG(VaDE):
    """VaDE with a graph embedding: neighbours share their responsibilities. Its arguments are those of `VaDE`.

    Examples:
        >>> import torch, probclust as pc
        >>> pc.log_joint(DGG(16, n_clusters=3, latent_dim=2, hidden=(8,)), torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    def recipe(
        self, fit_epochs: int = 20, epochs: int = 5, weight: float | None = None, n_neighbours: int = 15, **start: Any
    ) -> list[Step]:
        """VaDE's recipe, with `Linked` as the objective of its SVI steps.

        Args:
            fit_epochs: as in `VaDE.recipe`.
            epochs: as there.
            start: as there.
            weight: of the divergence, in nats per row; None for a fiftieth of the number of features, since what it
                is weighed against, log p(x | z), is a sum over them. With five times as much, clusters may merge.
            n_neighbours: links of each row, where the start leaves no graph.
        """
        positive("n_neighbours", n_neighbours)
        linked = Linked(0.02 * self.n_features if weight is None else weight)

        def link(run: Run) -> None:
            if "neighbours" not in run.memory:
                x = self.codec.view(complete_rows(run)).cpu().numpy()
                _, neighbour = nearest_neighbours(x, n_neighbours, start.get("image_shape"))
                run.memory.neighbours = torch.as_tensor(neighbour, device=run.x.device)

        steps: list[Step] = []
        for step in super().recipe(fit_epochs, epochs, **start):
            steps.append(dataclasses.replace(step, objective=linked) if isinstance(step, SVI) else step)
            if step.name == "prior":
                steps.append(Compute(name="links", run=link))
        return steps
