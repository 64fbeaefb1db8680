"""The fetchers, with scikit-learn's own replaced by stubs of the same shape of answer."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.datasets
from scipy import sparse
from sklearn.utils import Bunch

from probclust.data import fetchers


def stub_openml(monkeypatch, data_id, data, target):
    def fetch_openml(**arguments):
        assert arguments == {"data_id": data_id, "as_frame": False, "parser": "auto", "data_home": "home"}
        return Bunch(data=np.array(data), target=np.array(target, object))

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch_openml)


@pytest.mark.parametrize(("fetch", "data_id"), [(fetchers.fetch_mnist, 554), (fetchers.fetch_fashion_mnist, 40996)])
def test_images_stay_bytes(monkeypatch, fetch, data_id):
    stub_openml(monkeypatch, data_id, [[0.0, 255.0], [3.0, 4.0], [5.0, 6.0]], ["5", "0", "9"])
    arrays = fetch("home")
    assert arrays["x"].dtype == np.uint8
    assert arrays["x"].tolist() == [[0, 255], [3, 4], [5, 6]]
    assert arrays["y"].tolist() == [1, 0, 2]


def test_usps_is_moved_to_the_unit_range_and_counted_from_zero(monkeypatch):
    stub_openml(monkeypatch, 41082, [[-1.0, 0.0], [1.0, 0.5]], ["1", "10"])
    arrays = fetchers.fetch_usps("home")
    assert arrays["x"].tolist() == [[0, 0.5], [1, 0.75]]
    assert arrays["y"].tolist() == [0, 1]


def test_har_is_counted_from_zero(monkeypatch):
    stub_openml(monkeypatch, 1478, [[-1.0], [0.5]], ["6", "1"])
    arrays = fetchers.fetch_har("home")
    assert arrays["x"].dtype == np.float32
    assert arrays["y"].tolist() == [1, 0]


def test_reuters_takes_documents_of_one_root_and_the_commonest_stems(monkeypatch):
    monkeypatch.setattr(fetchers, "ROOTS", {"CCAT": 3, "GCAT": 2})
    monkeypatch.setattr(fetchers, "VOCABULARY", 2)
    # Stem 0 marks what must not be drawn, stem 1 occurs in all documents, stem 3 in most, stem 2 in one.
    kinds = ["C", "C", "C", "G", "G", "both", "none"]
    topics = {"C": [0, 1, 1], "G": [1, 0, 1], "both": [1, 1, 1], "none": [0, 0, 1]}  # GCAT, CCAT, another
    x = np.array([[0, 3, 0, 4], [0, 3, 0, 4], [0, 3, 0, 4], [0, 3, 9, 0], [0, 5, 0, 12], [1, 1, 1, 1], [1, 1, 1, 1]])
    bunch = Bunch(
        data=sparse.csr_matrix(x.astype(float)),
        target=sparse.csr_matrix(np.array([topics[kind] for kind in kinds], np.uint8)),
        target_names=np.array(["GCAT", "CCAT", "M11"], object),
    )
    monkeypatch.setattr(sklearn.datasets, "fetch_rcv1", lambda data_home: bunch)
    arrays = fetchers.fetch_reuters10k("home")
    rows = sparse.csr_matrix(
        (arrays["data"], arrays["indices"], arrays["indptr"]), shape=tuple(arrays["shape"])
    ).toarray()
    assert np.bincount(arrays["y"]).tolist() == [3, 2]
    assert rows.dtype == np.float32
    assert rows[arrays["y"] == 0] == pytest.approx(np.array([[0.6, 0.8]] * 3))
    assert sorted(rows[arrays["y"] == 1].tolist()) == [
        pytest.approx([5 / 13, 12 / 13]),
        pytest.approx([1, 0]),
    ]


def test_news_are_weighted_words(monkeypatch):
    parts = {
        "train": Bunch(data=["The cat, the cat, the DOG!", "dog bird x 42"], target=np.array([1, 0])),
        "test": Bunch(data=["bird"], target=np.array([2])),
    }

    def fetch_20newsgroups(data_home, subset, shuffle):
        assert not shuffle
        return parts[subset]

    monkeypatch.setattr(sklearn.datasets, "fetch_20newsgroups", fetch_20newsgroups)
    arrays = fetchers.fetch_20news("home")
    rows = sparse.csr_matrix(
        (arrays["data"], arrays["indices"], arrays["indptr"]), shape=tuple(arrays["shape"])
    ).toarray()
    idf = {word: np.log(4 / (1 + count)) + 1 for word, count in {"bird": 2, "cat": 1, "dog": 2}.items()}
    expected = np.array(
        [[0, (1 + np.log(2)) * idf["cat"], idf["dog"]], [idf["bird"], 0, idf["dog"]], [idf["bird"], 0, 0]]
    )
    assert rows == pytest.approx(expected / np.linalg.norm(expected, axis=1, keepdims=True), abs=1e-6)
    assert arrays["y"].tolist() == [1, 0, 2]
