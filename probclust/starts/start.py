"""`Start`: how a recipe finds its starting clusters, and pre-trains the networks of what has codes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from probclust.arguments import positive
from probclust.data.kinds import ImageShape, checked_image_shape
from probclust.likelihoods import encoder_inputs, n_inputs, n_view, view
from probclust.networks.codec import Autoencoder, Codec
from probclust.networks.stacked import redraw
from probclust.starts.clusters import kmeans_start
from probclust.starts.labels import likelihood_of
from probclust.story.recipe import Compute, Run, Step
from probclust.story.story import Story

Encode = Callable[[Tensor], Tensor]
"""(rows, n_features) to codes, or to the columns that are seen."""

Clusters = Callable[[Encode | None], Compute]
"""Makes the step that clusters codes (None: x itself) and leaves `run.memory.labels`."""


@dataclass(frozen=True)
class Coder:
    """The networks that a start trains, a story's codec or an autoencoder of the start's own.

    Attributes:
        encode: (rows, n_features) to (rows, latent_dim) codes.
        decode: codes to (rows, n_view) rows, as `view` shows them.
        modules: whose parameters are trained.
        view: (rows, n_features) to the columns in which rows are compared and rebuilt.
        perceptrons: from the encoder's inputs to codes, and back.
        is_own: whether it is the start's own, so that nothing asks for its codes once clusters are found.
    """

    encode: Encode
    decode: Callable[[Tensor], Tensor]
    modules: Sequence[nn.Module]
    view: Encode
    perceptrons: tuple[nn.Module, nn.Module]
    is_own: bool = False


@dataclass(frozen=True)
class StartKind:
    """One way to start: a file in `probclust/starts/`, registered by `start_kind`.

    Attributes:
        name: by which `pretraining` asks for it.
        steps: makes its steps, from the `Start`, the story, the networks to train and how codes are clustered.
        suits: whether it is the default for rows of the kind that a `Start` tells, which only one start may be.
        is_kmeans: whether its clusters are those of k-means on the codes, or x, as the story will see them.
        takes: which of `HOW` it heeds; the others are refused.
    """

    name: str
    steps: Callable[[Start, Story, Coder, Clusters], list[Step]]
    suits: Callable[[Start], bool]
    is_kmeans: bool = False
    takes: Sequence[str] = ()


STARTS: dict[str, StartKind] = {}
"""The ways to start, by name."""

DEFAULT = "neighbours"
"""The start of rows that no other suits, and of stories whose clusters may stay empty: it leaves their number open."""

HOW = "augment", "layerwise_epochs", "noise", "batch_size"
"""Settings of pre-training that not every start heeds."""

_Steps = Callable[["Start", Story, Coder, Clusters], list[Step]]


def start_kind(name: str, suits: Callable[[Start], bool] = lambda start: False, **facts: Any) -> Callable[..., _Steps]:
    """Register a function as the start of that name; a decorator. The arguments are `StartKind`'s."""

    def add(steps: _Steps) -> _Steps:
        STARTS[name] = StartKind(name, steps, suits, **facts)
        return steps

    return add


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a recipe finds its starting clusters, and how it pre-trains what has codes.

    Recipes take these fields by name, `pc.fit(story, x, recipe={"image_shape": (28, 28)})`.

    Args:
        pretraining: the name of a start, one of `probclust.starts.STARTS` (each in a module of its own, which says what
            it does) or of the story's own. None for that of the rows' kind: "sequence" where `lengths` are given,
            "words" of `documents`, "embedding" where `image_shape` is, unless clusters may be empty; else "neighbours".
        pretrain_epochs: epochs of any; None for 50 of a plain autoencoder, else 15 but at least 4,000 batches, or 1,500
            with neighbours.
        image_shape: height and width where rows are images, whose neighbours the image distortion model then finds.
        lengths: rows of each recording where rows are in order of time, recording after recording.
        documents: whether rows are documents, and columns their words' weights.
        augment: (rows, n_features) to as many changed rows, at every step of pre-training, like
            `probclust.starts.RotateAndShift`; not with starts that are of fixed rows.
        layerwise_epochs: epochs for each layer of a plain autoencoder on its own, before it is trained whole.
        noise: share of a layer's inputs dropped in those epochs.
        batch_size: rows per batch of a plain autoencoder; None for `fit`'s.
    """

    pretraining: str | None = None
    pretrain_epochs: int | None = None
    image_shape: ImageShape | None = None
    lengths: Sequence[int] | None = None
    documents: bool = False
    augment: Callable[[Tensor], Tensor] | None = None
    layerwise_epochs: int = 0
    noise: float = 0.0
    batch_size: int | None = 64

    def steps(
        self,
        story: Story,
        codec: Codec | None = None,
        *,
        clusters: Clusters = kmeans_start,
        own: Mapping[str, Sequence[Step]] | None = None,
        without: Sequence[str] = (),
        hidden: Sequence[int] = (500, 500, 2000),
        latent_dim: int = 10,
    ) -> list[Step]:
        """Fresh weights, clusters in `run.memory.labels`, and a codec that has followed them.

        Args:
            story: the story that starts.
            codec: its codec; None where it has no code for all clusters: an autoencoder of the start's own then gives
                codes where the start needs any.
            clusters: makes the step that clusters the codes of a plain autoencoder, or the rows: `kmeans_start`, or
                another that the paper has.
            own: steps of starts of the story's own, by name.
            without: names of starts that the story cannot take.
            hidden: sizes of the start's own autoencoder.
            latent_dim: of its code.

        Raises:
            ValueError: there is no such start for this story, or what it needs is missing; the message says which.
        """
        own = own or {}
        name = self.name_for(story, known=(*own, *(name for name in STARTS if name not in without)))
        if self.pretrain_epochs is not None:
            positive("pretrain_epochs", self.pretrain_epochs)
        self._check_settings(name, STARTS[name].takes if name in STARTS and name not in own else ())
        single: nn.Module | None = None
        if name in own:
            steps = list(own[name])
        else:
            if codec is None:
                part = likelihood_of(story)
                seen, shown = n_inputs(part, story.n_features), n_view(part, story.n_features)
                single = Autoencoder(seen, hidden, latent_dim, shown)
            steps = STARTS[name].steps(self, story, _coder(story, codec or single), clusters)

        def draw_weights(run: Run) -> None:
            run.story.redraw()
            if single is not None:
                redraw(single)

        return [Compute(name="weights", run=draw_weights), *steps]

    def name_for(self, story: Story, known: Sequence[str] | None = None) -> str:
        """The start that a story takes: the one asked for, or that of the rows' kind.

        Args:
            story: the story.
            known: the names it may have; None for those of `STARTS`.

        Raises:
            ValueError: no start has the name; the images do not have as many pixels as the story has features; or
                documents are images or recordings as well.
        """
        known = list(STARTS) if known is None else known
        if self.documents and self.lengths is not None:
            raise ValueError(
                "rows are either documents or recordings in order of time, got documents=True and lengths of "
                f"{len(self.lengths)} recordings; leave one of them out"
            )
        if self.image_shape is not None:
            if self.documents:
                raise ValueError(
                    f"rows are either images or documents, got image_shape={self.image_shape!r} and documents=True; "
                    "leave one of them out"
                )
            checked_image_shape(self.image_shape, story.n_features)
        if self.pretraining is None:
            suited = [kind.name for kind in STARTS.values() if kind.suits(self) and kind.name in known]
            return suited[0] if suited and not story.may_empty and self.augment is None else DEFAULT
        if self.pretraining not in known:
            *others, last = (repr(name) for name in known)
            raise ValueError(f"pretraining must be {', '.join(others)} or {last}, got {self.pretraining!r}")
        return self.pretraining

    def _check_settings(self, name: str, taken: Sequence[str]) -> None:
        """Raise where a setting was given that the start of this name would not heed."""
        for setting in HOW:
            if setting not in taken and getattr(self, setting) != getattr(Start, setting):
                others = " or ".join(repr(kind.name) for kind in STARTS.values() if setting in kind.takes)
                raise ValueError(f"pretraining={name!r} takes no {setting}; leave it out, or take {others}")

    def is_kmeans(self, story: Story) -> bool:
        """Whether its clusters are those of k-means on the story's codes, so that these need not be brought to them."""
        return STARTS[self.name_for(story)].is_kmeans


def recipe_names(recipe: Callable[..., Any]) -> tuple[str, ...] | None:
    """Names of the arguments that a recipe takes, those of `Start` for `**start`; None where it takes any."""
    names: list[str] = []
    for parameter in inspect.signature(recipe).parameters.values():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            names.append(parameter.name)
        elif parameter.name != "start":
            return None
        else:
            names = [*(field.name for field in dataclasses.fields(Start)), *names]
    return tuple(names)


def _coder(story: Story, networks: Any) -> Coder:
    if isinstance(networks, Codec):
        perceptrons = networks.encoder, networks.decoder
        return Coder(networks.mean, networks.rebuilt, networks.trained, networks.view, perceptrons)
    part = likelihood_of(story)
    return Coder(
        lambda x: networks.encoder(encoder_inputs(part, x)),
        networks.decoder,
        [networks],
        lambda x: view(part, x),
        (networks.encoder, networks.decoder),
        is_own=True,
    )
