"""The learning rate of a training step that does not say its own."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from probclust.story.story import Story

SHALLOW, DEEP = 1e-2, 1e-3
"""Learning rates of Adam for cluster parameters alone, and for networks."""

LARGE = 10_000
"""Weights of networks above which the smaller rate serves: each step moves them all, and their sums by their number."""

TABLES = nn.Embedding, nn.ParameterList, nn.ParameterDict
"""Modules of torch that hold parameters and are no layers."""


def usual_learning_rate(story: Story) -> float:
    """0.01; 0.001 where the layers that a story trains have more than 10,000 weights.

    Layers are torch's, and parameters of two dims and more of which there is not one for each cluster.
    """
    return DEEP if sum(weight.numel() for weight in _weights(story)) > LARGE else SHALLOW


def _weights(story: Story) -> Iterator[Tensor]:
    seen: set[Tensor] = set()
    for module in story.modules():
        is_layer = type(module).__module__.startswith("torch.nn") and not isinstance(module, TABLES)
        for weight in module.parameters(recurse=False):
            by_cluster = weight.dim() > 0 and len(weight) == story.n_clusters
            if weight.requires_grad and weight.dim() > 1 and (is_layer or not by_cluster) and weight not in seen:
                seen.add(weight)
                yield weight
