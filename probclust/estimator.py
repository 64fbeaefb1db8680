"""`DeepMixture`: the scikit-learn face of every story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pyro.infer import ELBO
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from probclust.arguments import flag, positive
from probclust.data.checks import as_array, check_finite, enough_rows
from probclust.data.labels import label_values
from probclust.data.named import Named, arranged
from probclust.fitting.building import new_story
from probclust.fitting.engine.eager import Engine
from probclust.fitting.fitting import fit
from probclust.fitting.record import FitRecord
from probclust.generate.embedding import embed
from probclust.generate.sampling import sample
from probclust.part import fresh
from probclust.story.columns import rows_of
from probclust.story.recipe import Step
from probclust.story.registry import story_class
from probclust.story.scoring import draws_latents, log_likelihood, predict, responsibilities
from probclust.story.story import Story

UNKNOWN = -1
"""The entry of `y` that marks a row whose class is not known, as in `sklearn.semi_supervised`."""


class DeepMixture(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn estimator that fits any story: clusterer, density and transformer in one.

    Fitted again, it starts anew. It can be cloned, searched over, put into a pipeline and pickled, as scikit-learn's
    own. The pickle of a story from a file of its own brings that file's text, so that it loads where the file is not;
    to keep a story for long, or to send it, use `pc.save(estimator.story_, path)`.

    Args:
        story: name of an installed story (`probclust stories` lists them), a `Story` class, or "path/to/file.py:Class".
        n_clusters: K.
        story_arguments: further arguments of the story's constructor, by name.
        recipe: training steps instead of the story's own, or keyword arguments for its `recipe`.
        epochs: epochs of the recipe's SVI steps; None for the recipe's.
        batch_size: rows per batch.
        objective: of the SVI steps: the name of one of `probclust.objectives`, such as "exact", or a
            `pyro.infer.TraceEnum_ELBO`; None for the recipe's.
        n_init: restarts; the one with the largest bound on log p(x) is kept.
        jobs: restarts at a time, in a process each, see `probclust.fit`; None for one after the other.
        learning_rate: of the SVI steps; None for the recipe's.
        particles: draws per row of the bound that `score_samples` and `score` give.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        devices: how many share each batch, in a process each, see `probclust.fit`.
        engine: "auto", "eager", "staged" or "compiled": the same result at another speed, see `probclust.fit`.
        semi_supervised: take `y` for known classes. False ignores `y`, as scikit-learn's clusterers do.
        random_state: seed or `numpy.random.RandomState` of the fit and of `sample`; None for another result each time.
        verbose: 1 for a progress bar.

    Attributes:
        story_: the fitted story, for every function of `probclust`.
        record_: the `FitRecord` of the fit.
        labels_: (rows,) cluster of each row of the fit.
        classes_: (classes,) sorted classes of `y`; the i-th is cluster i. Only where semi-supervised.
        n_iter_: epochs of training of the restart that was kept.
        n_features_in_: D.
        feature_names_in_: (D,) names of the columns, where they are strings.

    Examples:
        >>> from sklearn.datasets import make_blobs
        >>> X, _ = make_blobs(60, centers=3, random_state=0)
        >>> mixture = DeepMixture("gmm", n_clusters=3, epochs=2, random_state=0)
        >>> mixture.fit(X).predict_proba(X).shape
        (60, 3)
    """

    def __init__(
        self,
        story: str | type[Story] = "vade",
        n_clusters: int = 10,
        *,
        story_arguments: Mapping[str, Any] | None = None,
        recipe: Sequence[Step] | Mapping[str, Any] | None = None,
        epochs: int | None = None,
        batch_size: int = 256,
        objective: str | ELBO | None = None,
        n_init: int = 1,
        jobs: int | None = None,
        learning_rate: float | None = None,
        particles: int = 100,
        device: str = "auto",
        devices: int = 1,
        engine: Engine = "auto",
        semi_supervised: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.story = story
        self.n_clusters = n_clusters
        self.story_arguments = story_arguments
        self.recipe = recipe
        self.epochs = epochs
        self.batch_size = batch_size
        self.objective = objective
        self.n_init = n_init
        self.jobs = jobs
        self.learning_rate = learning_rate
        self.particles = particles
        self.device = device
        self.devices = devices
        self.engine = engine
        self.semi_supervised = semi_supervised
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Build the story anew and fit it.

        Args:
            X: (rows, n_features) finite numbers, at least as many rows as clusters; make a sparse matrix dense
                first. NaN stands for missing entries where `story_arguments` have missing=True. Where columns have
                names, those of later tables are put in the same order by name.
            y: ignored, unless `semi_supervised`: then (rows,) classes of any kind, at most `n_clusters` of them, and
                -1 where unknown (None, NaN and pandas' NA too).

        Returns:
            The estimator.

        Raises:
            ValueError: bad data or settings; the message says what was expected.
        """
        cls = story_class(self.story)
        given = self.story_arguments or {}
        if not (isinstance(given, Mapping) and all(isinstance(name, str) for name in given)):
            raise TypeError(f"story_arguments must be a mapping of arguments by name, got {given!r}")
        rows = self._rows(X, reset=True)
        enough_rows(rows.shape[0], positive("n_clusters", self.n_clusters))
        known = self._known(y, rows.shape[0]) if flag("semi_supervised", self.semi_supervised) else None
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        # Parts among the arguments are built anew: a fit must not train what the user passed in.
        arguments = fresh(dict(given))
        story = new_story(cls, rows.shape[1], int(self.n_clusters), seed, arguments)
        self.record_: FitRecord = fit(
            story,
            rows,
            known,
            epochs=self.epochs,
            batch_size=self.batch_size,
            objective=self.objective,
            seed=seed,
            device=self.device,
            devices=self.devices,
            n_init=self.n_init,
            jobs=self.jobs,
            recipe=self.recipe,
            learning_rate=self.learning_rate,
            engine=self.engine,
            progress=bool(self.verbose),
        )
        if rows.values.dtype == np.float64 and not draws_latents(story):
            _use_float64(story, rows.values)
        self.story_ = story
        self.n_iter_ = sum(entry["restart"] == self.record_.restart for entry in self.record_.history)
        self.labels_ = predict(story, rows).numpy()
        self._n_features_out = embed(story, rows.values[:1]).shape[1]
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:
        """(rows,) most probable cluster of each row of `X`, (rows, n_features)."""
        rows = self._rows(X)
        labels: NDArray[np.int64] = predict(self.story_, rows).numpy()
        return labels

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """(rows, n_clusters) probabilities of the clusters given each row of `X`, (rows, n_features)."""
        rows = self._rows(X)
        return responsibilities(self.story_, rows).numpy()

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """(rows,) bound on log p(x), in nats, for `X` of shape (rows, n_features); exact without local latents.

        It is importance-weighted over `particles` draws, the same ones at every call with the same rows; among other
        rows a row gets other draws.

        Raises:
            ValueError: the story's log joint is no density of x, so that there is nothing to score.
        """
        rows = self._rows(X)
        if self.story_.conditional or not self.story_.is_density:
            raise ValueError(
                f"{type(self.story_).__name__} is no density of x, so it has no likelihood to score; score its labels "
                "with probclust.evaluation.metrics, or choose another story"
            )
        return log_likelihood(self.story_, rows, particles=self.particles).double().numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """Mean over the rows of `score_samples(X)`, in nats per row; `y` is ignored."""
        return float(self.score_samples(X).mean())

    def transform(self, X: Any) -> NDArray[Any]:
        """(rows, latent_dim) means of the local latents; (rows, n_clusters) centred log joint, in nats, without any."""
        rows = self._rows(X)
        return embed(self.story_, rows).numpy()

    def sample(self, n_samples: int = 1, cluster: int | Sequence[int] | None = None) -> tuple[NDArray[Any], Any]:
        """Draw rows from the fitted story, the same ones at every call where `random_state` is an integer.

        Args:
            n_samples: rows to draw.
            cluster: None to draw the clusters too, k to draw from k only, or one cluster for each row.

        Returns:
            (n_samples, n_features) rows, and the (n_samples,) clusters that they were drawn from.
        """
        check_is_fitted(self)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        draws = sample(self.story_, n_samples, cluster, seed=seed)
        clusters = draws.pop("cluster")
        return rows_of(self.story_, draws).numpy(), clusters.numpy()

    def _rows(self, X: Any, reset: bool = False) -> Named:
        """The rows, checked, with the names of their columns; those of a fitted estimator in its order."""
        if not reset:
            check_is_fitted(self)
        table = arranged(X, None if reset else self.story_.feature_names, "X", missing=self._takes_missing())
        values = table.values
        if table.names is not None or isinstance(values, Tensor | pd.DataFrame):
            values = as_array(table, "X")
        rows = validate_data(
            self,
            values if table.names is None else pd.DataFrame(values, columns=list(table.names)),
            reset=reset,
            dtype=[np.float32, np.float64],
            ensure_min_samples=2 if reset else 1,
            ensure_all_finite=False,
        )
        rows = np.require(rows, requirements=["C", "W"])  # torch takes no array that runs backwards (X[::-1])
        check_finite(rows, rows, name="X", missing=self._takes_missing(), columns=table.names)
        return Named(rows, table.names)

    def _takes_missing(self) -> bool:
        """Whether the story takes NaN for entries that were not observed."""
        given = self.story_arguments if isinstance(self.story_arguments, Mapping) else {}
        return bool(given.get("missing", getattr(self.story, "missing", False)))

    def _known(self, y: Any, n_rows: int) -> Tensor:
        """The clusters of the rows whose class is known, -1 elsewhere; sets `classes_`."""
        if y is None:
            raise ValueError(
                "semi_supervised=True requires y to be passed, but the target y is None; give each row's class, "
                "-1 where it is unknown"
            )
        try:
            labels, is_known = label_values(y, unknown=UNKNOWN)
        except TypeError as error:  # in scikit-learn's words
            raise ValueError(f"Unknown label type: {error}") from error
        if labels.shape != (n_rows,):
            raise ValueError(f"y must have one entry for each row, shape ({n_rows},), got shape {labels.shape}")
        found = labels[is_known]
        self.classes_, codes = np.unique(found, return_inverse=True)
        if len(self.classes_) > self.n_clusters:
            raise ValueError(
                f"y must have at most n_clusters={self.n_clusters} classes, got {len(self.classes_)}; raise n_clusters"
            )
        known = np.full(n_rows, UNKNOWN)
        known[is_known] = codes
        return torch.as_tensor(known)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the story on the CPU, for those who have no GPU, and first, for it may bring its file."""
        state = dict(super().__getstate__())
        if "story_" not in state:
            return state
        story = state.pop("story_")
        return {"story_": story if story.device.type == "cpu" else deepcopy(story).cpu(), **state}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = bool(self.semi_supervised)
        tags.input_tags.allow_nan = self._takes_missing()
        tags.transformer_tags.preserves_dtype = []  # a story computes in its own type
        return tags


def _use_float64(story: Story, rows: NDArray[Any]) -> None:
    """Keep an exact story in float64, so that its scores are exact to scikit-learn's rounding, which costs little.

    A story whose code holds float32 constants stays as it was fitted.
    """
    if story.device.type == "mps":  # has no float64
        return
    story.double()
    try:
        responsibilities(story, rows[:2])
    except RuntimeError:
        story.float()
