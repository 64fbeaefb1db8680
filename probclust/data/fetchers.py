"""Data sets from the network, through scikit-learn's fetchers, as the arrays that our archives hold.

Each fetcher takes the folder where scikit-learn keeps what it downloads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Arrays = dict[str, NDArray[Any]]

ROOTS = {"CCAT": 4312, "GCAT": 2403, "MCAT": 2471, "ECAT": 814}  # documents per category in Reuters-10k
VOCABULARY = 2000


def fetch_mnist(home: Path) -> Arrays:
    """MNIST, 70,000 images of 28x28 pixels, in the official order."""
    return _openml(home, 554, np.uint8)


def fetch_fashion_mnist(home: Path) -> Arrays:
    """Fashion-MNIST, 70,000 images of 28x28 pixels, in the official order."""
    return _openml(home, 40996, np.uint8)


def fetch_usps(home: Path) -> Arrays:
    """USPS, 9298 images of 16x16 pixels, moved to the range from 0 to 1."""
    arrays = _openml(home, 41082, np.float32)
    x = arrays["x"]
    return {**arrays, "x": (x - x.min()) / (x.max() - x.min())}


def fetch_har(home: Path) -> Arrays:
    """UCI HAR, all 10,299 windows of 561 features."""
    return _openml(home, 1478, np.float32)


def fetch_reuters10k(home: Path) -> Arrays:
    """Reuters-10k: 10,000 documents of RCV1 with one root category each, 2000 stems, rows of unit length.

    The published draw of documents is not known: this one takes as many of each category, with seed 0. The
    stems are those that occur in the most drawn documents, and the weights RCV1's own (log tf-idf), scaled anew.

    References:
        Xie, Girshick, Farhadi, 2016, Unsupervised deep embedding for clustering analysis.
    """
    from sklearn.datasets import fetch_rcv1
    from sklearn.preprocessing import normalize

    rcv1 = fetch_rcv1(data_home=str(home))
    columns = [list(rcv1.target_names).index(root) for root in ROOTS]
    belongs = rcv1.target[:, columns].toarray().astype(bool)
    has_one = belongs.sum(axis=1) == 1
    rng = np.random.default_rng(0)
    rows = rng.permutation(
        np.concatenate(
            [
                rng.choice(np.flatnonzero(has_one & belongs[:, k]), count, replace=False)
                for k, count in enumerate(ROOTS.values())
            ]
        )
    )
    x = sparse.csr_matrix(rcv1.data[rows])
    stems = np.sort(np.argsort(-x.getnnz(axis=0), kind="stable")[:VOCABULARY])
    return {**_csr_parts(normalize(x[:, stems])), "y": belongs[rows].argmax(axis=1).astype(np.int64)}


def fetch_20news(home: Path) -> Arrays:
    """20 Newsgroups by date, 18,846 messages, training part first: tf-idf of 2000 commonest words."""
    from sklearn.datasets import fetch_20newsgroups
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

    parts = [fetch_20newsgroups(data_home=str(home), subset=subset, shuffle=False) for subset in ("train", "test")]
    texts = [text for part in parts for text in part.data]
    words = CountVectorizer(stop_words="english", max_features=VOCABULARY, token_pattern=r"\b[a-z]{2,}\b")
    x = TfidfTransformer(norm="l2", sublinear_tf=True).fit_transform(words.fit_transform(texts))
    return {**_csr_parts(x), "y": np.concatenate([part.target for part in parts]).astype(np.int64)}


def _openml(home: Path, data_id: int, dtype: type[np.generic]) -> Arrays:
    from sklearn.datasets import fetch_openml

    bunch = fetch_openml(data_id=data_id, as_frame=False, parser="auto", data_home=str(home))
    # OpenML has labels as text, some of them counted from 1; ours count from 0 in the same order.
    _, y = np.unique(bunch.target.astype(np.int64), return_inverse=True)
    return {"x": bunch.data.astype(dtype), "y": y.astype(np.int64)}


def _csr_parts(x: Any) -> Arrays:
    x = sparse.csr_matrix(x, dtype=np.float32)
    return {
        "data": x.data,
        "indices": x.indices.astype(np.int32),
        "indptr": x.indptr.astype(np.int64),
        "shape": np.array(x.shape),
    }
