from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from probclust import data
from probclust.data import catalogue, fetchers


@pytest.fixture(autouse=True)
def empty_folders(tmp_path, monkeypatch):
    """Neither the tester's data nor the network: a folder and a cache of the test's own."""

    def offline(home: Path) -> fetchers.Arrays:
        raise OSError("no network in tests")

    (tmp_path / "data").mkdir()
    monkeypatch.setenv("PROBCLUST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PROBCLUST_CACHE", str(tmp_path / "cache"))
    offline_entries = {name: dataclasses.replace(entry, fetch=offline) for name, entry in catalogue.ENTRIES.items()}
    monkeypatch.setattr(catalogue, "ENTRIES", offline_entries)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "data"


def stub(monkeypatch, name, fetch):
    monkeypatch.setitem(catalogue.ENTRIES, name, dataclasses.replace(catalogue.ENTRIES[name], fetch=fetch))


def test_digits_always_work(monkeypatch):
    monkeypatch.delenv("PROBCLUST_DATA")
    digits = data.load("digits")
    assert digits.x.shape == (1797, 64)
    assert digits.x.dtype == np.float32
    assert (digits.x.min(), digits.x.max()) == (0, 1)
    assert digits.image_shape == (8, 8)
    assert np.bincount(digits.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert repr(digits) == "Dataset('digits', 1797 rows, 64 features, 10 labels)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        digits.name = "other"


def test_integer_pixels_are_scaled(folder):
    np.savez(folder / "mnist.npz", x=np.array([[0, 51, 255]], np.uint8), y=[7])
    mnist = data.load("mnist")
    assert mnist.x[0] == pytest.approx([0, 0.2, 1])
    assert mnist.y.tolist() == [7]
    assert mnist.image_shape == (28, 28)


def test_unrounded_pixels_are_preferred(folder):
    np.savez(folder / "usps.npz", x=np.array([[255]], np.uint8), x_float=np.array([[0.25]], np.float32), y=[0])
    assert data.load("usps").x.tolist() == [[0.25]]


def test_sparse_sets_come_dense_and_objects_beside_them_stay_untouched(folder):
    csr = sparse.csr_matrix(np.array([[0, 0.6, 0.8], [1, 0, 0]], np.float32))
    parts = {"data": csr.data, "indices": csr.indices, "indptr": csr.indptr, "shape": csr.shape}
    np.savez(folder / "20news.npz", **parts, y=[3, 4], vocab=np.array(["pickled"], object))
    news = data.load("20news")
    assert (news.x == csr.toarray()).all()
    assert news.image_shape is None
    assert len(news.target_names) == 20


def test_the_folder_goes_before_the_cache_and_the_cache_before_the_network(tmp_path, folder):
    (tmp_path / "cache").mkdir()
    np.savez(tmp_path / "cache" / "har.npz", x=[[2.0]], y=[0])
    assert data.load("har").x.tolist() == [[2]]
    np.savez(folder / "har_train.npz", x=[[1.0]], y=[0])
    assert data.load("har").x.tolist() == [[1]]


def test_what_is_fetched_is_cached_once(tmp_path, monkeypatch):
    calls = []

    def fetch(home: Path) -> fetchers.Arrays:
        calls.append(home)
        return {"x": np.array([[0.5]]), "y": np.array([1])}

    stub(monkeypatch, "mnist", fetch)
    assert data.load("mnist").x.tolist() == data.load("mnist").x.tolist() == [[0.5]]
    assert calls == [tmp_path / "cache" / "scikit-learn"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["mnist.npz"]


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full_disk(*args, **kwargs):
        raise OSError("no space left")

    stub(monkeypatch, "mnist", lambda home: {"x": np.zeros((1, 1)), "y": np.zeros(1, int)})
    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="no space left"):
        data.load("mnist")
    assert not list((tmp_path / "cache").iterdir())


def test_what_is_nowhere_says_what_to_do(monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"download failed \(no network.*put mnist\.npz into a folder"):
        data.load("mnist")
    monkeypatch.setenv("PROBCLUST_DATA", "/no/such/folder")
    with pytest.raises(FileNotFoundError, match="PROBCLUST_DATA names no folder: /no/such/folder"):
        data.load("mnist")


def test_an_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r"one of digits, mnist, fashion_mnist, .*, got 'cifar'"):
        data.load("cifar")
    assert data.names() == ("digits", "mnist", "fashion_mnist", "usps", "reuters10k", "20news", "har")


@pytest.mark.parametrize(
    "arrays",
    [{"x": [[1.0]]}, {"x": [[1.0]], "y": [0, 1]}, {"x": [1.0], "y": [0]}, {"y": [0]}, {"data": [1.0]}],
)
def test_a_file_that_lacks_something_is_refused(folder, arrays):
    np.savez(folder / "mnist.npz", **arrays)
    with pytest.raises(ValueError, match=r"mnist\.npz must hold"):
        data.load("mnist")


def test_a_damaged_file_is_refused(folder):
    np.savez_compressed(folder / "mnist.npz", x=np.zeros((9, 9)), y=np.zeros(9, int))
    (folder / "mnist.npz").write_bytes((folder / "mnist.npz").read_bytes()[:300])
    with pytest.raises(ValueError, match="damaged"):
        data.load("mnist")
