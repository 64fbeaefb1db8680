"""The benchmark of starts: every variant gives clusters, and the table shows what was recorded."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks import starts

X = load_digits().data[:80] / 16
NOTHING = {"image_shape": None, "lengths": None, "documents": None}


@pytest.fixture(autouse=True)
def one_embedding(monkeypatch):
    monkeypatch.setattr(starts, "n_embeddings_of", lambda n_rows: 1)


@pytest.mark.parametrize("fact", [{}, {"image_shape": (8, 8)}, {"lengths": (50, 30)}, {"documents": True}])
def test_every_variant_gives_clusters(fact):
    known = NOTHING | fact
    found = {name: (labels, graph) for name, labels, graph in starts.variants(X, known, 3, 0)}
    assert set(found) == starts.variants_of(known) <= set(starts.VARIANTS)
    for name, (labels, graph) in found.items():
        assert labels.shape == (80,)
        assert set(labels) <= {0, 1, 2}
        assert (graph is None) == (name in starts.NO_GRAPH or "lengths" in fact)


def test_what_is_recorded_is_shown_and_not_run_again(tmp_path, monkeypatch):
    file = tmp_path / "starts.jsonl"
    monkeypatch.setattr(starts, "FILE", file)
    monkeypatch.setattr(starts, "rows", lambda name: (X, 3))
    monkeypatch.setattr(starts, "labels", lambda name: np.arange(80) % 3)
    monkeypatch.setattr(starts, "kind", lambda name: NOTHING)
    starts.run("har", 0)
    records = [json.loads(line) for line in file.read_text().splitlines()]
    default = next(record for record in records if record["variant"] == "default")
    assert 0 < default["edges_within_classes"] < 1
    assert f"{default['accuracy']:.3f} [{default['edges_within_classes']:.3f}]" in starts.table()
    starts.run("har", 0)
    assert len(file.read_text().splitlines()) == len(records)
