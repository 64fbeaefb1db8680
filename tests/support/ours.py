"""Our stories, small: whatever is installed under `probclust.models`, by name, and variants with other parts."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch

import probclust as pc
from probclust.story.installed import installed_stories
from tests.support.stories import Case

NAMES = [name for name, point in installed_stories().items() if point.module.startswith("probclust.")]
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gmm-dirichlet": ("gmm", {"weights": "dirichlet"}),
    "vade-manhattan": ("vade", {"prior": "manhattan"}),
    "vade-cosine": ("vade", {"prior": "cosine"}),
    "vade-student-sticks": ("vade", {"prior": "student_t", "weights": "stick-breaking"}),
    "mixture-of-vaes-flow": ("mixture-of-vaes", {"prior": "flow"}),
    "cosine-mixture": ("dissimilarity-mixture", {"dissimilarity": "cosine"}),
    "damic-ungated": ("damic", {"gate": False}),
}


def small(name: str, n_features: int = 4, n_clusters: int = 3, **arguments: Any) -> pc.Story:
    """The story of that name, with codes of two dimensions and networks of eight units."""
    story = installed_stories()[name].load()
    sizes = {
        parameter: (8,) if parameter.endswith("hidden") else 2
        for parameter in inspect.signature(story).parameters
        if parameter.endswith(("hidden", "_dim"))
    }
    return story(n_features, n_clusters, **{**sizes, **arguments})


def _rows(name: str, n: int) -> torch.Tensor:
    if name == "cosine-mixture":
        return torch.nn.functional.normalize(torch.randn(n, 4), dim=1)
    return torch.rand(n, 4)


OURS = [
    Case(name, partial(small, story, **arguments), partial(_rows, name))
    for name, (story, arguments) in {**{name: (name, {}) for name in NAMES}, **VARIANTS}.items()
]
