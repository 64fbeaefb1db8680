from __future__ import annotations

import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from probclust.data.checks import as_rows
from probclust.data.files import read

X = np.array([[0.0, 1.5, 0.0], [2.0, 0.0, 4.0]])


class Bomb:
    """Unpickling this would end the process with a status of its own."""

    def __reduce__(self):
        return os._exit, (77,)


def test_npz_with_and_without_labels(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=[1, 0])
    np.savez_compressed(tmp_path / "b.npz", x=X)
    x, y = read(tmp_path / "a.npz")
    assert (x == X).all()
    assert y is not None
    assert y.tolist() == [1, 0]
    assert read(str(tmp_path / "b.npz"))[1] is None


def test_npz_with_csr_parts(tmp_path):
    csr = sparse.csr_matrix(X)
    np.savez(tmp_path / "a.npz", data=csr.data, indices=csr.indices, indptr=csr.indptr, shape=csr.shape, y=[0, 1])
    x, _ = read(tmp_path / "a.npz")
    assert sparse.issparse(x)
    assert as_rows(x).tolist() == X.tolist()
    np.savez(tmp_path / "a.npz", data=csr.data, indices=csr.indices + 9, indptr=csr.indptr, shape=csr.shape)
    with pytest.raises(ValueError, match="do not fit together"):
        read(tmp_path / "a.npz")


SQUARE = sparse.random(12, 12, 0.3, random_state=0)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("matrix", [SQUARE, sparse.random(12, 5, 0.3, random_state=1)], ids=["square", "tall"])
def test_sparse_matrices_of_every_format(tmp_path, kind, matrix):
    for number, there in enumerate((matrix.asformat(kind), getattr(sparse, f"{kind}_array")(matrix))):
        sparse.save_npz(tmp_path / f"{number}.npz", there)
        x, y = read(tmp_path / f"{number}.npz")
        assert y is None
        np.testing.assert_array_equal(x.toarray(), matrix.toarray())


@pytest.mark.parametrize(("kind", "part"), [("csr", "indices"), ("csc", "indices"), ("bsr", "indices"), ("coo", "row")])
def test_sparse_matrices_whose_parts_do_not_fit(tmp_path, kind, part):
    sparse.save_npz(tmp_path / "a.npz", SQUARE.asformat(kind))
    with np.load(tmp_path / "a.npz") as archive:
        arrays = dict(archive)
    np.savez(tmp_path / "a.npz", **(arrays | {part: arrays[part] + 99}))
    with pytest.raises(ValueError, match=f"the {kind.upper()} parts in .* do not fit together"):
        read(tmp_path / "a.npz")


def test_npy_is_memory_mapped_and_never_changed(tmp_path):
    np.save(tmp_path / "a.npy", X.astype(np.float32))
    x, y = read(tmp_path / "a.npy")
    assert isinstance(x, np.memmap)
    assert y is None
    as_rows(x).zero_()
    assert (read(tmp_path / "a.npy")[0] == X).all()


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(-1e9, 1e9)),
    st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_csv_keeps_every_row_with_or_without_names(tmp_path_factory, array, names):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    frame = pd.DataFrame(array).add_prefix("f")
    frame.to_csv(path, index=False, header=names)
    x, y = read(path)
    np.testing.assert_allclose(as_rows(x, dtype=torch.float64), array)
    assert y is None


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_label_column_is_split_off(tmp_path, suffix):
    frame = pd.DataFrame({"a": [1.0, 2.0], "y": ["cat", "dog"], "b": [3, 4]})
    path = tmp_path / f"a.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    x, y = read(path, label="y")
    assert as_rows(x).tolist() == [[1, 3], [2, 4]]
    assert y is not None
    assert y.tolist() == ["cat", "dog"]
    with pytest.raises(TypeError, match="in column 'y'"):
        as_rows(read(path)[0])
    with pytest.raises(ValueError, match="no column 'label' for the labels; its columns are: a, y, b"):
        read(path, label="label")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no table"),
        ("1,2\n3,4,5\n", "2 cells in each line, got 3 in line 2"),
        ("a\n1,2\n3,4\n", "1 names in its first line, but 2 columns"),
        ("a,b,c\n1,2\n3,4\n", "3 names in its first line, but 2 columns"),
        ("a,b\n", "no table"),
        (",a,b\n0,1,2\n0,3,4\n", "the first column of .* has no name, .* give index=True if it is no feature"),
    ],
)
def test_csv_with_mistakes(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.csv")


def test_csv_gaps_are_missing_values_and_no_names(tmp_path):
    (tmp_path / "a.csv").write_text("1,,nan\n2,3,4\n")
    x, _ = read(tmp_path / "a.csv")
    assert x.shape == (2, 3)
    with pytest.raises(ValueError, match="NaN, first in row 0, column 1"):
        as_rows(x)


@pytest.mark.parametrize("suffix", ["npz", "npy", "parquet"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_files_are_refused(tmp_path, suffix, share):
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        np.savez_compressed(path, x=np.arange(500.0).reshape(100, 5))
    elif suffix == "npy":
        np.save(path, np.arange(500.0).reshape(100, 5))
    else:
        pd.DataFrame(np.arange(500.0).reshape(100, 5)).add_prefix("f").to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="damaged"):
        read(path)


@given(st.binary(max_size=200), st.sampled_from(["npz", "npy", "parquet"]))
@settings(deadline=None, max_examples=50)
def test_foreign_bytes_are_refused(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("foreign") / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        read(path)


def test_an_array_by_the_name_of_an_archive_is_refused(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(ValueError, match=r"is no \.npz archive"):
        read(tmp_path / "a.npz")


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([Bomb()], object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=np.array([Bomb()], object))
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Bomb()))
    for name in ("a.npy", "a.npz", "raw.npy", "raw.npz"):
        with pytest.raises(ValueError, match="damaged"):
            read(tmp_path / name)


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*a\.npz"):
        read(tmp_path / "a.npz")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"must be \.npz, \.npy, \.csv, \.tsv or \.parquet, got a\.txt"):
        read(tmp_path / "a.txt")
    np.savez(tmp_path / "b.npz", z=X)
    with pytest.raises(ValueError, match="must hold an array x, or the CSR parts"):
        read(tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"drop has a meaning in \.csv, \.tsv and \.parquet files only"):
        read(tmp_path / "b.npz", drop=["a"])
    with pytest.raises(ValueError, match=r"in \.csv, \.tsv and \.parquet files only"):
        read(tmp_path / "b.npz", label="y")
