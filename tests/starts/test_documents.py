"""Words' vectors, and the start of documents from them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array

import probclust as pc
from probclust.starts.clusterers.graphs import agreed_with_neighbours
from probclust.starts.clusterers.word_vectors import document_vectors, word_vectors
from probclust.starts.documents import words_start
from probclust.starts.labels import KMEANS, NEIGHBOURS
from probclust.story.recipe import START, Run


def documents(n=300, seed=0, n_words=15):
    """(rows, 60) counts about three subjects of 20 words each, of which two documents share few, and the subjects."""
    random = np.random.default_rng(seed)
    y = random.integers(3, size=n)
    shares = np.full((3, 60), 0.25 / 60) + 0.75 * np.eye(3).repeat(20, 1) / 20
    return np.stack([random.multinomial(n_words, shares[k]) for k in y]).astype(np.float32), torch.as_tensor(y)


def run_of(x, n_clusters=3, y=None, seed=0):
    return Run(pc.models.GaussianMixture(x.shape[1], n_clusters), torch.as_tensor(x), y, seed=seed)


def test_words_share_the_information_of_their_vectors():
    """The square of all vectors' Gram matrix is what of P is not negative, for their exponent is a quarter."""
    x, _ = documents()
    n = len(x)
    information = np.zeros((60, 60))
    for i in range(60):
        for j in range(60):
            together = ((x[:, i] > 0) & (x[:, j] > 0)).sum()
            if i != j and together:
                information[i, j] = max(0, np.log(together * n / ((x[:, i] > 0).sum() * (x[:, j] > 0).sum())))
    values, vectors = np.linalg.eigh(information)
    positive = (vectors * values.clip(min=0)) @ vectors.T
    gram = word_vectors(x, 60) @ word_vectors(x, 60).T
    np.testing.assert_allclose(gram @ gram, positive, atol=1e-3)


def test_a_word_of_no_document_and_an_empty_document_have_no_direction():
    x, _ = documents()
    x[:, 7] = 0
    x[5] = 0
    assert np.isfinite(word_vectors(x)).all()
    assert np.allclose(word_vectors(x)[7], 0, atol=1e-3)
    assert (document_vectors(x)[5] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(np.delete(document_vectors(x), 5, 0), axis=1), 1, rtol=1e-5)


def test_documents_without_a_common_word_are_near_by_their_subject():
    x, y = documents()
    by_words = x / np.linalg.norm(x, axis=1, keepdims=True)
    points, apart = document_vectors(x, 10), by_words @ by_words.T < 0.05
    same = (y[:, None] == y).numpy()
    likeness = points @ points.T
    assert likeness[apart & same].mean() > likeness[apart & ~same].mean() + 0.2


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match="got -1"):
        word_vectors(np.array([[0.0, -1.0], [1.0, 1.0]]))


def test_it_finds_subjects():
    x, y = documents()
    run = run_of(x)
    words_start().run(run)
    assert pc.metrics.accuracy(y, run.memory[START]) > 0.95
    assert run.memory[KMEANS].shape == (300,)
    assert run.memory.embedding.shape == (300, 10)
    assert run.memory[NEIGHBOURS].shape == (300, 15)


def test_known_rows_start_in_their_cluster():
    x, y = documents()
    known = torch.full_like(y, -1)
    known[:30] = (y[:30] + 1) % 3
    run = run_of(x, y=known)
    words_start().run(run)
    assert (run.memory[START] == (y + 1) % 3).float().mean() > 0.95


def test_of_several_starts_the_one_that_explains_the_graph_best_counts(monkeypatch):
    x, y = documents()
    random = np.random.default_rng(0)
    tried = [random.integers(3, size=300), y.numpy(), random.integers(3, size=300)]

    class Stub:
        def __init__(self, n_clusters, *, n_init, random_state):
            pass

        def fit_predict(self, points):
            return tried.pop()

    monkeypatch.setattr("probclust.starts.documents.KMeans", Stub)
    monkeypatch.setattr("probclust.starts.documents.agreed_with_neighbours", lambda labels, graph, n_clusters: labels)
    run = run_of(x)
    words_start(n_init=3).run(run)
    assert torch.equal(run.memory[START], y)


def test_rows_take_the_cluster_of_most_weight_around_them():
    edges = [(0, 1, 0.6), (0, 2, 0.6), (3, 4, 0.9)]
    first, second, weight = (np.array(part) for part in zip(*edges, strict=True))
    graph = coo_array((np.r_[weight, weight], (np.r_[first, second], np.r_[second, first])), shape=(5, 5))
    found = agreed_with_neighbours(np.array([1, 0, 0, 0, 1]), graph.tocsr(), 2)
    np.testing.assert_array_equal(found, [0, 0, 0, 0, 1])


@pytest.mark.parametrize("likelihood", ["gaussian", "multinomial"])
@pytest.mark.parametrize("story_class", [pc.models.VaDE, pc.models.MixtureOfVAEs])
def test_stories_of_documents_start_from_it(story_class, likelihood):
    x, y = documents()
    story = story_class(60, 3, hidden=(32,), latent_dim=3, likelihood=likelihood)
    recipe = {"pretraining": "words", "pretrain_epochs": 5, "fit_epochs": 2, "epochs": 1}
    record = pc.fit(story, x, recipe=recipe)
    assert pc.metrics.accuracy(y, record.memory[START]) > 0.95
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > 0.8


@pytest.mark.parametrize(
    "name", ["vade", "mixture-of-vaes", "damic", "dmae", "dec", "idec", "dcn", "gmvae", "dgg", "ltvae"]
)
def test_stories_told_of_documents_start_from_it(name):
    from probclust.story.registry import story_class

    story = story_class(name)(60, 3)
    told = [step.name for step in story.recipe(documents=True)]
    assert told == [step.name for step in story.recipe(pretraining="words")]
    assert "start" in told
    assert told != [step.name for step in story.recipe()]
    with pytest.raises(ValueError, match="either images or documents"):
        story.recipe(documents=True, image_shape=(6, 10))


def test_clusters_that_may_be_empty_start_otherwise():
    story = pc.models.VaDE(60, 3, weights="stick-breaking")
    told = [step.name for step in story.recipe(documents=True)]
    assert told == [step.name for step in story.recipe()]


def test_the_command_tells_a_recipe_of_a_set_of_documents(tmp_path, monkeypatch, capsys):
    from probclust.cli.main import main

    x, y = documents()
    np.savez(tmp_path / "20news.npz", x=x, y=y.numpy())
    monkeypatch.setenv("PROBCLUST_DATA", str(tmp_path))
    assert pc.data.load("20news").documents
    assert not pc.data.load("digits").documents
    out = tmp_path / "out"
    short = ["--set", "hidden=[8]", "--recipe", "pretrain_epochs=1", "--recipe", "fit_epochs=1", "--epochs", "1"]
    with pytest.raises(SystemExit) as end:
        main(["fit", "vade", "--data", "20news", "--out", str(out), "--clusters", "3", *short])
    assert not end.value.code, capsys.readouterr()
    settings = json.loads((out / "record.json").read_text())["fit"]["settings"]
    assert settings["recipe"]["documents"] is True
    assert "start" in [step["name"] for step in settings["steps"]]


def test_augmentation_is_refused():
    with pytest.raises(ValueError, match="takes no augment"):
        pc.models.DMAE(4, 2).recipe(pretraining="words", augment=torch.zeros_like)


@pytest.mark.parametrize("x", [np.full((6, 3), 0.5), np.eye(3).repeat(2, 0), np.arange(6.0)[:, None]])
def test_words_that_never_come_together_more_than_by_chance_are_refused(x):
    with pytest.raises(ValueError, match="no two words occur together more often than by chance"):
        word_vectors(x)
