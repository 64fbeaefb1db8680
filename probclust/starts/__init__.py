"""Starts: how clusters are found, and networks pre-trained, before a story is fitted."""

from __future__ import annotations

from probclust.starts.augmentation import RotateAndShift
from probclust.starts.clusters import directions, gmm_start, kmeans_start
from probclust.starts.documents import words_start
from probclust.starts.embedding import embedding_pretraining, embedding_start
from probclust.starts.fourier import fourier_start
from probclust.starts.labels import (
    EMBEDDING,
    FILLED,
    KMEANS,
    NEIGHBOURS,
    complete_rows,
    in_known_order,
    keep_known,
    start_from,
)
from probclust.starts.medoids import kmedoids_start
from probclust.starts.mixture import mixture_start
from probclust.starts.pretraining import decoder_start, neighbour_pretraining, reconstruction_pretraining
from probclust.starts.recordings import sequence_start
from probclust.starts.self_training import SelfTraining
from probclust.starts.start import chosen_pretraining, pretrained_start, start_from_rows

__all__ = [
    "EMBEDDING",
    "FILLED",
    "KMEANS",
    "NEIGHBOURS",
    "RotateAndShift",
    "SelfTraining",
    "chosen_pretraining",
    "complete_rows",
    "decoder_start",
    "directions",
    "embedding_pretraining",
    "embedding_start",
    "fourier_start",
    "gmm_start",
    "in_known_order",
    "keep_known",
    "kmeans_start",
    "kmedoids_start",
    "mixture_start",
    "neighbour_pretraining",
    "pretrained_start",
    "reconstruction_pretraining",
    "sequence_start",
    "start_from",
    "start_from_rows",
    "words_start",
]
