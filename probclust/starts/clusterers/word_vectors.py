"""Word vectors from the words that occur together, and documents as the means of their words' vectors.

Words i and j that occur together in more documents than chance has it share positive pointwise mutual information,

    P[i, j] = max(0, log(n_ij n / (n_i n_j))),    n_ij documents with both of n, and P[i, i] = 0.

With P's largest eigenvalues l and their eigenvectors U, word i's vector is row i of U l^(1/4). Documents about the same
things are near each other by them even where they share few words.

Source: O. Levy, Y. Goldberg, I. Dagan, "Improving distributional similarity with lessons learned from word embeddings",
Transactions of the Association for Computational Linguistics, 2015, sections 2.2 and 3.3: the exponents 0 and 1/2 do
well there; this is the one between.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_matrix
from sklearn.preprocessing import normalize


def word_vectors(x: NDArray[Any], n_components: int = 100) -> NDArray[np.float32]:
    """Vectors of words that are near where the words occur with the same others.

    Args:
        x: (documents, words) non-negative weights; 0 where a document lacks a word.
        n_components: of a vector, at most the number of words.

    Returns:
        (words, n_components), that of the largest eigenvalue first.

    Raises:
        ValueError: a weight is negative, or no two words occur together more often than chance has it.
    """
    if x.min(initial=0) < 0:
        raise ValueError(
            f"words need weights of 0 or more, such as counts or tf-idf, got {x.min():.3g}; do not centre columns, or "
            "choose another pretraining"
        )
    n_words = x.shape[1]
    n_components = min(n_components, n_words)
    occurs = csr_matrix(x > 0, dtype=np.float32)
    together = (occurs.T @ occurs).toarray().astype(np.float64)
    often = together.diagonal()
    expected = np.outer(often, often) / len(x)
    information = np.log(np.maximum(together, expected), out=np.zeros_like(together), where=expected > 0)
    information -= np.log(expected, out=np.zeros_like(expected), where=expected > 0)
    np.fill_diagonal(information, 0)
    if not information.any():
        raise ValueError(
            "no two words occur together more often than by chance, so that nothing tells documents apart: got "
            f"{len(x)} documents of {n_words} words, each word in {often.min():.0f} to {often.max():.0f} of them; "
            "words that a document lacks need the weight 0, or choose another pretraining"
        )
    values, vectors = eigh(information, subset_by_index=(n_words - n_components, n_words - 1))
    scaled: NDArray[np.float32] = (vectors * values.clip(min=0) ** 0.25)[:, ::-1].astype(np.float32)
    return scaled


def document_vectors(x: NDArray[Any], n_components: int = 100) -> NDArray[np.float32]:
    """(documents, n_components) directions, each of length 1, of the sums of words' vectors by the documents' weights.

    Args and errors: those of `word_vectors`. Documents without a known word are all 0.
    """
    summed: NDArray[np.float32] = normalize(np.asarray(x, dtype=np.float32) @ word_vectors(x, n_components))
    return summed
