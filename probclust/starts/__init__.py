"""Starts: how clusters are found, and networks pre-trained, before a story is fitted."""

from __future__ import annotations

import importlib
import pkgutil

from probclust.starts.augmentation import RotateAndShift
from probclust.starts.autoencoder import reconstruction_pretraining
from probclust.starts.clusters import directions, gmm_start, kmeans_start
from probclust.starts.decoder import decoder_start
from probclust.starts.documents import words_start
from probclust.starts.embedding import embedding_start
from probclust.starts.experts import own_rows
from probclust.starts.following import embedding_pretraining, followed
from probclust.starts.fourier import fourier_start
from probclust.starts.in_turn import InTurn
from probclust.starts.labels import KMEANS, NEIGHBOURS, complete_rows, keep_known, start_from
from probclust.starts.medoids import kmedoids_start
from probclust.starts.mixture import cluster_order, fitted_gaussians, mixture_start
from probclust.starts.neighbours import neighbour_pretraining
from probclust.starts.recordings import sequence_start
from probclust.starts.rows import unchanged_rows
from probclust.starts.self_training import SelfTraining, divergence, student_t, target_distribution
from probclust.starts.start import STARTS, Clusters, Coder, Start, StartKind, start_kind

__all__ = [
    "KMEANS",
    "NEIGHBOURS",
    "STARTS",
    "Clusters",
    "Coder",
    "InTurn",
    "RotateAndShift",
    "SelfTraining",
    "Start",
    "StartKind",
    "cluster_order",
    "complete_rows",
    "decoder_start",
    "directions",
    "divergence",
    "embedding_pretraining",
    "embedding_start",
    "fitted_gaussians",
    "followed",
    "fourier_start",
    "gmm_start",
    "keep_known",
    "kmeans_start",
    "kmedoids_start",
    "mixture_start",
    "neighbour_pretraining",
    "own_rows",
    "reconstruction_pretraining",
    "sequence_start",
    "start_from",
    "start_kind",
    "student_t",
    "target_distribution",
    "unchanged_rows",
    "words_start",
]

for _module in pkgutil.iter_modules(__path__):  # a start is registered by its file, which nothing else need name
    importlib.import_module(f"{__name__}.{_module.name}")
