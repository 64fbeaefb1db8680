"""The benchmark of mixtures: how rows are prepared, and what is recorded and shown."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from benchmarks import mixtures


def test_tables_become_standardised_columns_and_the_rest_axes(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    table = np.c_[rng.normal(5, 3, (60, 2)), np.arange(60) % 4]
    table[0, 0] = np.nan
    np.savez(tmp_path / "mixed.npz", x=table, y=y, categorical=np.array([False, False, True]))
    x, n_clusters = mixtures.stored(tmp_path / "mixed.npz")
    assert (x.shape, n_clusters) == ((60, 6), 3)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(0), 1, atol=1e-12)
    assert x[0, 0] == pytest.approx(0, abs=1e-12)
    counts = sparse.random(60, 80, 0.3, "csr", random_state=0)
    parts = {name: getattr(counts, name) for name in ("data", "indices", "indptr")}
    for extra in ({}, {"total": np.full(60, 9.0)}):
        np.savez(tmp_path / "counts.npz", y=y, shape=counts.shape, **parts, **extra)
        assert mixtures.stored(tmp_path / "counts.npz")[0].shape == (60, 50)


def test_what_is_recorded_is_shown_and_not_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mixtures, "FILE", tmp_path / "mixtures.jsonl")
    monkeypatch.setattr("sys.argv", ["mixtures", "--data", "three blobs", "--seeds", "0"])
    mixtures.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("| three blobs | 150 | 100 | 3 | full | 1 | 222.249 | ")]
    records = mixtures.read(mixtures.FILE)
    assert {record["covariance"] for record in records} == {"full", "diag"}
    assert all(record["difference"] > -0.01 for record in records)
    monkeypatch.setattr(mixtures, "run", None)
    mixtures.main()
    assert mixtures.read(mixtures.FILE) == records
