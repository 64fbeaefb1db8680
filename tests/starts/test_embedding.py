"""The start from a neighbour embedding: its labels, and codes that follow the embedding."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_moons

import probclust as pc
from probclust.networks.codec import Autoencoder
from probclust.starts.augmentation import RotateAndShift
from probclust.starts.clusterers.neighbour_embedding import neighbour_embedding
from probclust.starts.clusterers.neighbours import nearest_neighbours
from probclust.starts.embedding import embedding_start
from probclust.starts.following import embedding_pretraining
from probclust.starts.labels import KMEANS, start_from
from probclust.starts.start import recipe_names
from probclust.story.recipe import START, Batch, Run
from probclust.story.registry import story_class, story_names


def moons():
    x, y = make_moons((400, 200), noise=0.06, random_state=0)
    return torch.as_tensor(x).float(), torch.as_tensor(y)


def run_of(x, n_clusters=2, y=None):
    return Run(pc.models.GaussianMixture(x.shape[1], n_clusters), x, y, seed=0)


def test_it_follows_shapes_that_kmeans_cuts():
    x, y = moons()
    run = run_of(x)
    embedding_start().run(run)
    assert run.memory.embedding.shape == (600, 10)
    assert run.memory[KMEANS].shape == (600,)
    assert pc.metrics.accuracy(y, run.memory[START]) > 0.99


def test_known_rows_start_in_their_cluster():
    x, y = moons()
    known = torch.full_like(y, -1)
    known[::100] = 1 - y[::100]
    run = run_of(x, y=known)
    embedding_start().run(run)
    assert (run.memory[START] == 1 - y).float().mean() > 0.99


def test_known_rows_do_not_replace_the_clusters_of_the_embedding():
    x, y = moons()
    known = torch.full_like(y, -1)
    found = torch.arange(len(x)) % 2  # unlike what labels spread over neighbours in x would give
    known[:2] = found[:2]
    run = run_of(x, y=known)
    run.memory.embedding = torch.zeros(len(x), 10)
    start_from(found.numpy(), run)
    assert torch.equal(run.memory[START], found)


def test_augmentation_is_refused():
    with pytest.raises(ValueError, match="takes no augment"):
        pc.models.DMAE(4, 2).recipe(pretraining="embedding", augment=torch.zeros_like)


@torch.no_grad()
def test_the_loss_is_the_share_of_embedding_and_rows_that_is_missed():
    x = torch.randn(50, 3)
    network = Autoencoder(3, (4,), 2)
    run = run_of(x)
    run.memory.embedding = points = torch.randn(50, 5)
    index = torch.tensor([4, 1, 7])
    step = embedding_pretraining(network.encoder, network.decoder, [network], reconstruction=0.3)
    codes = network.encoder(x[index])
    off = (codes - points[index, :2]).square().sum() / 3 / points[:, :2].var(0).sum()
    missed = (network.decoder(codes) - x[index]).square().sum() / 3 / x[index].var(0).sum()
    torch.testing.assert_close(step.loss(Batch(x[index], index, run)), off + 0.3 * missed)


@pytest.mark.parametrize("story_class", [pc.models.VaDE, pc.models.MixtureOfVAEs, pc.models.DCN, pc.models.DAMIC])
def test_stories_start_from_it(story_class):
    x, _ = moons()
    story = story_class(2, 2, hidden=(16,), latent_dim=2)
    record = pc.fit(story, x, recipe={"pretraining": "embedding", "pretrain_epochs": 2, "epochs": 1})
    assert {"embedding", START, KMEANS} <= set(record.memory)
    assert pc.predict(story, x).bincount(minlength=2).min() > 100


@pytest.mark.parametrize("by_kmeans", [False, True])
def test_of_several_clusterings_the_one_that_explains_the_graph_best_counts(by_kmeans, monkeypatch):
    x, y = moons()
    random = np.random.default_rng(0)
    best = np.where(random.random(600) < 0.05, 1 - y, y)
    others = [random.permutation(y.numpy()) for _ in range(5)]
    seen = []

    def gaussians(points, n_clusters, *, seed):
        seen.append(seed)
        return best if len(seen) == 2 and not by_kmeans else others.pop()

    def kmeans(n_clusters, *, n_init, random_state):
        found = best if len(seen) == 2 and by_kmeans else others.pop()
        return SimpleNamespace(fit_predict=lambda points: found)

    monkeypatch.setattr("probclust.starts.embedding.merged_gaussians", gaussians)
    monkeypatch.setattr("probclust.starts.embedding.KMeans", kmeans)
    run = run_of(x)
    embedding_start(n_embeddings=3).run(run)
    assert len(set(seen)) == 3
    assert torch.equal(run.memory[START], torch.as_tensor(best))


def test_clusters_that_no_edge_joins_end_the_search(monkeypatch):
    tried = []
    monkeypatch.setattr(
        "probclust.starts.embedding.neighbour_embedding",
        lambda *arguments, **settings: tried.append(settings["seed"]) or neighbour_embedding(*arguments, **settings),
    )
    x = torch.cat([torch.randn(60, 2), torch.randn(60, 2) + 100])
    run = run_of(x)
    embedding_start().run(run)
    assert len(tried) == 1
    assert pc.metrics.accuracy(np.repeat([0, 1], 60), run.memory[START]) == 1


IMAGES = torch.as_tensor(load_digits().data[:150] / 16).float()
PRETRAINED = [name for name in story_names() if "pretraining" in (recipe_names(story_class(name).recipe) or ())]


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
@pytest.mark.parametrize("name", PRETRAINED)
def test_images_start_from_it_by_default(name):
    story = story_class(name)(64, 10, hidden=(16,), latent_dim=2)
    short = {"image_shape": (8, 8), "pretrain_epochs": 1, "epochs": 1}
    record = pc.fit(story, IMAGES, recipe=short)
    assert {"embedding", START} <= set(record.memory)
    assert record.settings["recipe"] == short


@pytest.mark.parametrize("name", PRETRAINED)
def test_other_rows_and_a_start_that_is_asked_for_do_not(name):
    story = story_class(name)(64, 10, hidden=(16,), latent_dim=2)
    names = [step.name for step in story.recipe()]
    assert "neighbours" in names
    assert names == [step.name for step in story.recipe(pretraining="neighbours", image_shape=(8, 8))]


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_shape_of_other_images_is_refused_before_the_fit(name):
    story = story_class(name)(64, 10, hidden=(16,), latent_dim=2)
    with pytest.raises(ValueError, match="63 columns, got 64"):
        story.recipe(image_shape=(7, 9))


def test_clusters_that_may_stay_empty_start_from_codes():
    story = pc.models.VaDE(64, 10, hidden=(16,), latent_dim=2, weights="stick-breaking")
    assert "neighbours" in [step.name for step in story.recipe(image_shape=(8, 8))]


def test_augmented_images_start_from_codes():
    augment = RotateAndShift((8, 8))
    steps = pc.models.DMAE(64, 10).recipe(augment=augment, image_shape=(8, 8))
    assert "neighbours" in [step.name for step in steps]


@pytest.mark.parametrize("pretraining", ["neighbours", "embedding"])
def test_neighbours_of_images_are_asked_for_by_their_shape(pretraining, monkeypatch):
    asked = []
    for module in ("neighbours", "embedding"):
        monkeypatch.setattr(
            f"probclust.starts.{module}.nearest_neighbours",
            lambda x, n_neighbours, shape: asked.append(shape) or nearest_neighbours(x, n_neighbours, shape),
        )
    story = pc.models.VaDE(64, 10, hidden=(16,), latent_dim=2)
    story.recipe(pretraining=pretraining, image_shape=(8, 8))[1].run(Run(story, IMAGES, None, seed=0))
    assert asked == [(8, 8)]
