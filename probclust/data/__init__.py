"""Data: named sets, synthetic generators, files, and the checks of what is passed in."""

from __future__ import annotations

from probclust.data.catalogue import load, names
from probclust.data.dataset import Dataset
from probclust.data.files import read
from probclust.data.stored import StoredRows
from probclust.data.synthetic import blobs, circles, four_gaussians, pinwheel

__all__ = ["Dataset", "StoredRows", "blobs", "circles", "four_gaussians", "load", "names", "pinwheel", "read"]
