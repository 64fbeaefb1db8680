"""The methods of the tables: baselines through scikit-learn, and stories with their recipes. None is given a label."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import probclust as pc
from probclust.starts.autoencoder import reconstruction_pretraining
from probclust.story.recipe import Compute

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """What a method made of the rows.

    Attributes:
        labels: (rows,) clusters; the method's own under "final", those of its start under their names.
        predict: clusters of other rows, where the method has them.
        elbo: bound on log p(x) of the rows it was fitted to, mean, in nats; None where there is no density.
        bound: the same for other rows, importance-weighted with 100 particles.
        seconds: of the fit.
        settings: all that decides the result.
    """

    labels: Mapping[str, NDArray[np.int64]]
    seconds: float
    settings: Mapping[str, Any]
    elbo: float | None = None
    predict: Callable[[Rows], NDArray[np.int64]] | None = None
    bound: Callable[[Rows], float] | None = None


@dataclass(frozen=True)
class OfStory:
    """A story by its registered name, with its recipe.

    Attributes:
        story: the name.
        arguments: of its constructor.
        recipe: arguments of its recipe.
        knows_kind: whether a recipe is told of which kind the rows are.
    """

    story: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    knows_kind: bool = True

    def __call__(self, x: Rows, n_clusters: int, kind: Mapping[str, Any], seed: int, folder: Path) -> Result:
        from probclust.story.registry import story_class

        story = story_class(self.story)(x.shape[1], n_clusters, **self.arguments)
        checkpoint = folder / "story.safetensors"
        known = signature(type(story).recipe).parameters if self.knows_kind else ()
        recipe = {name: value for name, value in kind.items() if name in known} | dict(self.recipe)
        record = pc.fit(story, x, seed=seed, recipe=recipe or None, checkpoint=checkpoint, resume=True)
        checkpoint.unlink()
        start = {name: record.memory[name].numpy() for name in ("k-means", "start") if name in record.memory}

        density = story.is_density and not story.conditional

        def bound(held_out: Rows) -> float:
            return float(pc.log_likelihood(story, held_out).mean())

        return Result(
            labels={**start, "final": pc.predict(story, x).numpy()},
            seconds=record.seconds,
            settings=json.loads(record.to_json())["settings"],
            elbo=record.bound if density else None,
            predict=lambda other: pc.predict(story, other).numpy(),
            bound=bound if density else None,
        )


@dataclass(frozen=True)
class OfCodes:
    """A scikit-learn clusterer on the codes of a plain autoencoder, pre-trained as the stories' papers have it."""

    clusterer: Callable[[int, int], Any]
    epochs: int = 50

    def __call__(self, x: Rows, n_clusters: int, kind: Mapping[str, Any], seed: int, folder: Path) -> Result:
        from probclust.models import DEC

        story = DEC(x.shape[1], n_clusters)  # for its autoencoder alone
        network = story.codec.mean, story.codec.rebuilt, story.codec.trained
        steps = [
            Compute(name="weights", run=lambda run: run.story.redraw()),
            *reconstruction_pretraining(*network, epochs=self.epochs, batch_size=256),
        ]
        checkpoint = folder.parent / "autoencoder.safetensors"  # stays, for another clusterer of the same codes
        record = pc.fit(story, x, seed=seed, recipe=steps, checkpoint=checkpoint, resume=True)
        started = time.perf_counter()
        clusterer = self.clusterer(n_clusters, seed)
        labels = clusterer.fit_predict(pc.embed(story, x).double().numpy())
        return Result(
            labels={"final": labels},
            seconds=record.seconds + time.perf_counter() - started,
            settings={"autoencoder": json.loads(record.to_json())["settings"], "clusterer": repr(clusterer)},
        )


@dataclass(frozen=True)
class OfRows:
    """A scikit-learn clusterer on the rows themselves."""

    clusterer: Callable[[int, int], Any]

    def __call__(self, x: Rows, n_clusters: int, kind: Mapping[str, Any], seed: int, folder: Path) -> Result:
        started = time.perf_counter()
        clusterer = self.clusterer(n_clusters, seed)
        labels = clusterer.fit_predict(x)
        return Result(
            labels={"final": labels}, seconds=time.perf_counter() - started, settings={"clusterer": repr(clusterer)}
        )


def _kmeans(n_clusters: int, seed: int) -> Any:
    from sklearn.cluster import KMeans

    return KMeans(n_clusters, n_init=20, random_state=seed)


def _spectral(n_clusters: int, seed: int) -> Any:
    from sklearn.cluster import SpectralClustering

    return SpectralClustering(n_clusters, affinity="nearest_neighbors", n_neighbors=10, random_state=seed)


def _mixture(n_clusters: int, seed: int) -> Any:
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(n_clusters, covariance_type="full", n_init=10, reg_covar=1e-4, random_state=seed)


STORIES: dict[str, OfStory] = {
    "VaDE": OfStory("vade"),
    "MixtureOfVAEs": OfStory("mixture-of-vaes"),
    "DMAE": OfStory("dmae"),
    "DAMIC": OfStory("damic"),
    "k-DAE": OfStory("damic", {"gate": False}),
    "DEC": OfStory("dec"),
    "IDEC": OfStory("idec"),
    "DGG": OfStory("dgg"),
    "LTVAE": OfStory("ltvae"),
    "GMVAE": OfStory("gmvae"),
    "DCN": OfStory("dcn"),
}
"""Stories that pre-train, with their default recipes; these know the shape of images, and that documents are words."""

SHARED_CODE = "VaDE", "DMAE", "DEC", "IDEC", "DGG", "LTVAE", "GMVAE", "DCN"
"""Stories with one code for all clusters, which follows the start's embedding before the story is trained."""

METHODS: dict[str, Callable[..., Result]] = {
    "k-means": OfRows(_kmeans),
    "spectral": OfRows(_spectral),
    "AE + k-means": OfCodes(_kmeans),
    "AE + GMM": OfCodes(_mixture),
    "GaussianMixture": OfStory("gmm", {"covariance_type": "diag", "reg_covar": 1e-3}),
    "DissimilarityMixture": OfStory("dissimilarity-mixture"),
    **STORIES,
    **{f"{name}, neighbours start": replace(story, knows_kind=False) for name, story in STORIES.items()},
    **{
        f"{name}, brief neighbours start": replace(story, knows_kind=False, recipe={"pretrain_epochs": 15})
        for name, story in STORIES.items()
    },
    **{
        f"{name}, embedding start": replace(STORIES[name], knows_kind=False, recipe={"pretraining": "embedding"})
        for name in ("VaDE", "MixtureOfVAEs")
    },
    **{f"{name}, brief start": replace(STORIES[name], recipe={"pretrain_epochs": 15}) for name in SHARED_CODE},
    "VaDE, paper's start": OfStory("vade", recipe={"pretraining": "autoencoder"}),
    "MixtureOfVAEs, paper's start": OfStory("mixture-of-vaes", recipe={"pretraining": "vade"}),
    "DMAE, paper's start": OfStory("dmae", recipe={"pretraining": "autoencoder"}),
    "DAMIC, paper's start": OfStory("damic", recipe={"pretraining": "autoencoder"}),
    "DEC, paper's start": OfStory("dec", recipe={"pretraining": "autoencoder", "fit_epochs": 0}),
    "IDEC, paper's start": OfStory("idec", recipe={"pretraining": "autoencoder", "fit_epochs": 0}),
}
"""A run is one of these on one data set with one seed."""
