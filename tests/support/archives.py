"""Archives of arrays, read as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def arrays(path: Path) -> dict[str, NDArray]:
    """The arrays of an .npz file by name; the file is closed again, so that no later test is blamed for it."""
    with np.load(path) as archive:
        return dict(archive)
