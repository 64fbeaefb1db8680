from __future__ import annotations

import io

import numpy as np
import pandas as pd
from rich.console import Console

from probclust.cli.page.table import CAPTION, caption, cells, rich_table

FRAME = pd.DataFrame(
    {
        "log_likelihood": [12.345, 10.0, np.nan],
        "se": [0.5, 0.25, np.nan],
        "difference": [0.0, -2.345, np.nan],
        "difference_se": [0.0, 0.125, np.nan],
        "accuracy": [0.91, 0.5, 1.0],
        "parameters": [1234567.0, 10, np.nan],
    },
    index=["best one", "other", "k-means"],
)


def test_errors_stand_beside_values_and_gaps_are_dashes():
    headings, rows = cells(FRAME)
    assert headings == ["story", "log p(x) ≥", "difference", "ACC", "params"]
    assert rows[0] == ["best one", "12.35 ± 0.50", "best", "0.910", "1,234,567"]
    assert rows[1] == ["other", "10.00 ± 0.25", "−2.35 ± 0.12", "0.500", "10"]
    assert rows[2] == ["k-means", "–", "–", "1.000", "–"]


def test_columns_without_numbers_are_left_out():
    assert cells(FRAME.assign(accuracy=np.nan))[0] == ["story", "log p(x) ≥", "difference", "params"]


def test_the_table_fits_a_terminal_of_80_columns():
    full = FRAME.assign(nmi=0.5, ari=0.5, seconds=99.5)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(rich_table(full))
    assert "…" not in console.export_text()


def test_the_caption_states_the_particles():
    assert caption(FRAME) == CAPTION
    assert caption(FRAME.assign(particles=1)) == CAPTION  # exact
    assert caption(FRAME.assign(particles=pd.array([1, 100, pd.NA], dtype="Int64"))) == f"{CAPTION}; 100 particles"
