"""Which start a recipe takes, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from probclust.arguments import positive
from probclust.data.kinds import ImageShape, checked_image_shape
from probclust.starts.clusters import directions, kmeans_start
from probclust.starts.documents import words_start
from probclust.starts.embedding import embedding_pretraining, embedding_start
from probclust.starts.pretraining import Augment, neighbour_pretraining, reconstruction_pretraining
from probclust.starts.recordings import sequence_start
from probclust.story.recipe import Compute, Step
from probclust.story.story import Story

FROM_ROWS = "embedding", "words", "sequence"
"""Names of the starts that find clusters of the rows themselves, before any network is trained."""


def chosen_pretraining(
    story: Story,
    pretraining: str | None,
    image_shape: ImageShape | None = None,
    lengths: Sequence[int] | None = None,
    documents: bool = False,
) -> str:
    """What pre-trains a story: "sequence" for recordings, "words" for documents, "embedding" for images.

    It is "neighbours" for rows of no known kind, and "sequence" for recordings of images.

    Clusters that may stay empty start with "neighbours" too, which leaves their number open.

    Args:
        story: the story.
        pretraining: the user's choice; None for the default.
        image_shape: height and width where rows are images.
        lengths: rows of each recording where rows are in order of time.
        documents: whether rows are documents, and columns their words' weights.

    Raises:
        ValueError: the images do not have as many pixels as the story has features, documents are images or
            recordings as well, or "sequence" lacks lengths.
    """
    if documents and lengths is not None:
        raise ValueError(
            "rows are either documents or recordings in order of time, got documents=True and lengths of "
            f"{len(lengths)} recordings; leave one of them out"
        )
    if image_shape is not None:
        if documents:
            raise ValueError(
                f"rows are either images or documents, got image_shape={image_shape!r} and documents=True; "
                "leave one of them out"
            )
        checked_image_shape(image_shape, story.n_features)
    if pretraining == "sequence" and lengths is None:
        raise ValueError("pretraining='sequence' needs lengths, the number of rows of each recording")
    if pretraining is not None:
        return pretraining
    if not story.may_empty:
        if lengths is not None:
            return "sequence"
        if documents:
            return "words"
        if image_shape is not None:
            return "embedding"
    return "neighbours"


def pretrained_start(
    pretraining: str,
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    modules: Sequence[nn.Module],
    epochs: int | None = None,
    augment: Augment | None = None,
    image_shape: ImageShape | None = None,
    lengths: Sequence[int] | None = None,
    view: Callable[[Tensor], Tensor] | None = None,
    **autoencoder: Any,
) -> list[Step]:
    """Steps that pre-train an autoencoder and leave clusters of its codes in `run.memory[START]`.

    Args:
        pretraining: "neighbours", and k-means on the directions of the codes; "embedding", clusters of a neighbour
            embedding, which the codes then follow; "words", for bags of words, clusters of their words' vectors, and
            "sequence", for rows in order of time, clusters that last, which the codes follow too; "autoencoder", which
            only reconstructs, and k-means on the codes; or "none", and k-means on x.
        encode: (rows, n_features) to (rows, latent_dim) codes.
        decode: codes to (rows, n_features), or to their view.
        modules: whose parameters are trained.
        epochs: of pre-training; None for 50 of an autoencoder, else those of `neighbour_pretraining` or
            `embedding_pretraining`.
        augment: changes the rows at every step of pre-training; not with an embedding, which is of fixed rows.
        image_shape: height and width where rows are images, for the starts that ask which rows are neighbours.
        lengths: rows of each recording, for "sequence".
        view: (rows, n_features) to the columns in which rows are compared and reconstructed; None for x.
        autoencoder: further settings of `reconstruction_pretraining`, where that is what pre-trains.
    """
    if epochs is not None:
        positive("pretrain_epochs", epochs)
    if pretraining == "neighbours":
        pretrain = neighbour_pretraining(
            encode, decode, modules, epochs=epochs, augment=augment, view=view, image_shape=image_shape
        )
        return [*pretrain, kmeans_start(directions(encode))]
    if pretraining in FROM_ROWS:
        if augment is not None:
            raise ValueError(f"pretraining={pretraining!r} takes no augment: its clusters are those of fixed rows")
        start = start_from_rows(pretraining, view=view, image_shape=image_shape, lengths=lengths)
        return [start, embedding_pretraining(encode, decode, modules, epochs=epochs, view=view)]
    if pretraining == "autoencoder":
        autoencoder |= {"augment": augment, "view": view}
        pretrain = reconstruction_pretraining(encode, decode, modules, epochs=epochs, **autoencoder)
        return [*pretrain, kmeans_start(encode)]
    if pretraining == "none":
        return [kmeans_start(view)]
    raise ValueError(
        "pretraining must be 'neighbours', 'embedding', 'words', 'sequence', 'autoencoder' or 'none', got "
        f"{pretraining!r}"
    )


def start_from_rows(
    pretraining: str,
    *,
    view: Callable[[Tensor], Tensor] | None = None,
    image_shape: ImageShape | None = None,
    lengths: Sequence[int] | None = None,
) -> Compute:
    """The step that finds clusters of the rows themselves.

    Args:
        pretraining: one of `FROM_ROWS`: "embedding" for `embedding_start`, "words" for `words_start`, "sequence" for
            `sequence_start`.
        view: (rows, n_features) to the columns in which rows are compared; None for x.
        image_shape: height and width where rows are images.
        lengths: rows of each recording, for "sequence".
    """
    if pretraining == "words":
        return words_start(view=view)
    if pretraining == "sequence":
        return sequence_start(() if lengths is None else lengths, view=view)
    return embedding_start(view=view, image_shape=image_shape)
