"""Warm starts: neighbours, k-means labels and their vote, rows for each expert."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import make_moons
from sklearn.mixture import GaussianMixture
from torch.nn import functional

import probclust as pc
from probclust.networks.codec import Autoencoder
from probclust.networks.codes import rescale_codes
from probclust.priors.codes import cluster_moments
from probclust.starts.autoencoder import reconstruction_pretraining
from probclust.starts.clusters import gmm_start, kmeans_start
from probclust.starts.experts import own_rows
from probclust.starts.labels import KMEANS, NEIGHBOURS, in_known_order
from probclust.starts.neighbours import neighbour_pretraining
from probclust.starts.start import STARTS, Coder, Start
from probclust.story.recipe import START, Batch, Run


def run_of(x, n_clusters=3, y=None):
    return Run(pc.models.GaussianMixture(x.shape[1], n_clusters), x, y, seed=0)


def test_neighbours_are_the_nearest_rows_but_not_the_row_itself():
    x = torch.randn(40, 3)
    network = Autoencoder(3, (4,), 2)
    find, _ = neighbour_pretraining(network.encoder, network.decoder, [network], n_neighbours=5)
    run = run_of(x)
    find.run(run)
    distance = torch.cdist(x, x).fill_diagonal_(torch.inf)
    expected = distance.topk(5, largest=False).indices.sort().values
    assert torch.equal(run.memory[NEIGHBOURS].sort().values, expected)


@torch.no_grad()
def test_the_contrastive_loss_is_its_formula():
    x = torch.randn(12, 3)
    network = Autoencoder(3, (4,), 2)
    find, train = neighbour_pretraining(
        network.encoder, network.decoder, [network], n_neighbours=1, temperature=0.3, reconstruction=0.7
    )
    run = run_of(x)
    find.run(run)
    index = torch.tensor([3, 1, 8, 5])
    here = [functional.normalize(network.encoder(x[i]), dim=0) for i in index]
    there = [functional.normalize(network.encoder(x[run.memory[NEIGHBOURS][i, 0]]), dim=0) for i in index]
    scores = torch.tensor([[float(a @ b) / 0.3 for b in there] for a in here])
    contrast = -(scores.log_softmax(1).diag() + scores.log_softmax(0).diag()).mean() / 2
    missed = (network.decoder(network.encoder(x[index])) - x[index]).square().sum(1).mean()
    expected = contrast + 0.7 * missed / (x - x.mean(0)).square().sum(1).mean()
    torch.testing.assert_close(train.loss(Batch(x[index], index, run)), expected)


def test_the_start_is_k_means_and_the_vote_mends_a_lonely_row():
    x = torch.cat([torch.randn(20, 2) - 6, torch.randn(20, 2) + 6])
    run = run_of(x, n_clusters=2)
    kmeans_start().run(run)
    expected = KMeans(2, n_init=20, random_state=0).fit_predict(x.numpy())
    assert run.memory[START].tolist() == run.memory[KMEANS].tolist() == expected.tolist()
    run.memory[NEIGHBOURS] = torch.arange(20, 23).repeat(40, 1)  # every row's neighbours lie in the second half
    kmeans_start().run(run)
    assert (run.memory[START] == expected[20]).all()
    assert run.memory[KMEANS].tolist() == expected.tolist()


def test_known_rows_name_the_starting_clusters():
    y = torch.full((9,), -1)
    y[[0, 3, 6]] = torch.tensor([2, 0, 1])
    labels = np.repeat([0, 1, 2], 3)
    order = in_known_order(labels, run_of(torch.randn(9, 2), y=y))
    assert order.tolist() == [1, 2, 0]  # cluster 0 is the start's 1, and so on
    assert np.argsort(order)[labels].tolist() == [2] * 3 + [0] * 3 + [1] * 3


def test_each_expert_draws_all_of_its_own_rows_and_no_other():
    run = run_of(torch.arange(60.0)[:, None].repeat(1, 2), n_clusters=4)
    labels = torch.randint(0, 3, (60,))  # cluster 3 is empty
    run.memory[START] = labels
    drawn = torch.cat([own_rows(Batch(run.x[:40], torch.arange(40), run)) for _ in range(60)], 1)[..., 0].long()
    assert drawn.shape == (4, 600)
    for k in range(3):
        assert set(drawn[k].tolist()) == set(torch.where(labels == k)[0].tolist())  # misses a row with p < 1e-10


def test_the_mixture_start_is_scikit_learns_and_follows_known_rows():
    x = torch.cat([torch.randn(30, 2) - 5, torch.randn(30, 2) + 5]) * 3
    y = torch.full((60,), -1)
    y[[0, 40]] = torch.tensor([1, 0])
    for known, expected in ((None, None), (y, [1] * 30 + [0] * 30)):
        run = run_of(x, n_clusters=2, y=known)
        gmm_start(lambda rows: rows).run(run)
        reference = GaussianMixture(2, covariance_type="diag", n_init=10, random_state=0, reg_covar=1e-3)
        found = reference.fit_predict(x.double().numpy() / x.double().numpy().std())
        assert run.memory[START].tolist() == (expected or (found != found[0]).astype(int).tolist())


def test_reconstruction_pretraining_minimises_the_squared_error():
    x = torch.randn(12, 3)
    network = Autoencoder(3, (4,), 2)
    (step,) = reconstruction_pretraining(network.encoder, network.decoder, [network])
    expected = ((network.decoder(network.encoder(x)) - x) ** 2).mean()
    torch.testing.assert_close(step.loss(Batch(x, torch.arange(12), run_of(x))), expected)


def test_codes_are_rescaled_and_the_reconstruction_stays():
    x = torch.randn(50, 3)
    network = Autoencoder(3, (4,), 2)
    before = network.decoder(network.encoder(x)).detach()
    codes = rescale_codes(network.encoder(x).detach(), network.encoder[-1], network.decoder, spread=2.0)
    torch.testing.assert_close(network.encoder(x), codes)
    assert codes.std().item() == pytest.approx(2.0, rel=1e-5)
    torch.testing.assert_close(network.decoder(codes), before)


def test_moments_are_those_of_each_cluster_and_finite_where_it_is_empty():
    codes, labels = torch.randn(60, 2, dtype=torch.float64), torch.arange(60) % 3
    weights, loc, variance = cluster_moments(codes, labels, 4)
    torch.testing.assert_close(weights, torch.tensor([1, 1, 1, 0]).double() / 3, rtol=0, atol=1e-4)
    for k in range(3):
        torch.testing.assert_close(loc[k], codes[labels == k].mean(0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(variance[k], codes[labels == k].var(0, correction=0), rtol=1e-3, atol=1e-4)
    assert (loc[3] == 0).all()
    assert (variance[3] > 0).all()
    assert weights[3] > 0


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
@pytest.mark.parametrize(("story", "pretraining"), [(pc.models.VaDE, "autoencoder"), (pc.models.MixtureOfVAEs, "vade")])
def test_the_papers_starts_are_there_and_one_seed_gives_one_result(story, pretraining):
    x = torch.cat([torch.randn(20, 3) - 4, torch.randn(20, 3) + 4])
    recipe = {"pretraining": pretraining, "pretrain_epochs": 2, "fit_epochs": 2, "epochs": 2}
    fitted = [story(3, 2, hidden=(8,), latent_dim=2) for _ in range(2)]
    records = [pc.fit(one, x, seed=3, recipe=recipe) for one in fitted]
    assert records[0].memory[START].shape == (40,)
    assert all(torch.equal(*pair) for pair in zip(*(s.state_dict().values() for s in fitted), strict=True))
    with pytest.raises(ValueError, match=r"pretraining must be .*, got 'nonsense'"):
        fitted[0].recipe(pretraining="nonsense")


@torch.no_grad()
@pytest.mark.parametrize("pretraining", ["neighbours", "autoencoder"])
def test_augmented_rows_take_the_place_of_the_rows(pretraining):
    """With an augmentation that only doubles, the loss is that of doubled data."""
    x, index = torch.randn(20, 3), torch.arange(8)
    network = Autoencoder(3, (4,), 2)
    losses = []
    for rows, augment in ((2 * x, None), (x, lambda part: 2 * part)):
        parts = network.encoder, network.decoder
        coder = Coder(*parts, [network], lambda part: part, parts)
        steps = STARTS[pretraining].steps(Start(augment=augment), pc.models.DCN(3, 2), coder, kmeans_start)
        run = run_of(rows)
        if pretraining == "neighbours":
            steps[0].run(run)
            run.memory["variance"] = (2 * x).var(0, correction=0).sum()
        train = next(step for step in steps if step.name == "pre-train")
        torch.manual_seed(4)
        losses.append(train.loss(Batch(rows[index], index, run)))
    torch.testing.assert_close(losses[0], losses[1])


def two_moons():
    x, moon = make_moons(200, noise=0.05, random_state=0)
    y = torch.full((200,), -1)
    y[[int(np.argmax(moon == 0)), int(np.argmax(moon == 1))]] = torch.tensor([1, 0])
    return torch.as_tensor(x, dtype=torch.float32), y, 1 - moon


@pytest.mark.parametrize("start", [kmeans_start, lambda: gmm_start(lambda rows: rows)], ids=["k-means", "mixture"])
def test_known_rows_spread_over_their_neighbours(start):
    x, y, expected = two_moons()
    alone = run_of(x, n_clusters=2)
    start().run(alone)
    assert pc.metrics.accuracy(expected, alone.memory[START].numpy()) < 0.95  # no straight line parts the moons
    run = run_of(x, n_clusters=2, y=y)
    start().run(run)
    assert (run.memory[START].numpy() == expected).mean() > 0.99


def test_codes_of_neighbours_keep_their_clusters_and_known_rows_their_own():
    x, y, _ = two_moons()
    y[100] = 1
    runs = [run_of(x, n_clusters=2), run_of(x, n_clusters=2, y=y)]
    for run in runs:
        run.memory[NEIGHBOURS] = torch.arange(200)[:, None]
        kmeans_start().run(run)
    free, told = (run.memory[START] for run in runs)
    assert (told[y >= 0] == y[y >= 0]).all()
    assert pc.metrics.accuracy(free[y < 0].numpy(), told[y < 0].numpy()) == 1


def test_without_a_known_row_in_every_cluster_labels_only_name_them():
    x = torch.cat([torch.randn(20, 2) - 6, torch.randn(20, 2) + 6])
    y = torch.full((40,), -1)
    y[0] = 1
    run = run_of(x, n_clusters=2, y=y)
    kmeans_start().run(run)
    assert run.memory[START].tolist() == [1] * 20 + [0] * 20


SHARED_CODE = ["VaDE", "DGG", "LTVAE", "GMVAE", "DMAE", "DEC", "IDEC", "DCN"]


def pretraining_epochs(story, n_batches, **asked):
    steps = getattr(pc.models, story)(4, 3).recipe(**asked)
    (step,) = (step for step in steps if step.name == "pre-train")
    return [step.n_epochs(n) for n in n_batches]


@pytest.mark.parametrize("settings", [{"image_shape": (2, 2)}, {"lengths": [9]}, {"documents": True}])
@pytest.mark.parametrize("story", SHARED_CODE)
def test_codes_follow_an_embedding_for_15_epochs_but_4000_steps_where_rows_are_few(story, settings):
    assert pretraining_epochs(story, (1, 29, 266, 267, 1000), **settings) == [4000, 138, 16, 15, 15]
    assert pretraining_epochs(story, (1, 100), pretrain_epochs=2, **settings) == [2, 2]


@pytest.mark.parametrize("story", [*SHARED_CODE, "MixtureOfVAEs", "DAMIC"])
def test_codes_agree_with_neighbours_for_15_epochs_but_1500_steps_where_rows_are_few(story):
    assert pretraining_epochs(story, (1, 29, 99, 100, 1000)) == [1500, 52, 16, 15, 15]
    assert pretraining_epochs(story, (1, 100), pretrain_epochs=2) == [2, 2]


@pytest.mark.parametrize("story", [*SHARED_CODE, "DAMIC"])
def test_an_autoencoder_that_reconstructs_is_trained_for_50_epochs(story):
    assert pretraining_epochs(story, (1, 100), pretraining="autoencoder") == [50, 50]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("VaDE", {"layerwise_epochs": 2}),  # the default start, from neighbours
        ("DEC", {"noise": 0.1, "pretraining": "embedding"}),
        ("DCN", {"batch_size": 32, "pretraining": "neighbours"}),
        ("DCN", {"augment": torch.zeros_like, "pretraining": "none"}),
        ("MixtureOfVAEs", {"augment": torch.zeros_like, "pretraining": "vade"}),
        ("GMVAE", {"augment": torch.zeros_like, "pretraining": "none"}),
        ("DMAE", {"layerwise_epochs": 1, "pretraining": "fourier"}),
    ],
)
def test_a_setting_that_a_start_would_not_heed_is_refused(name, settings):
    setting = next(iter(settings))
    with pytest.raises(ValueError, match=f"takes no {setting}; leave it out, or take .*'autoencoder'"):
        getattr(pc.models, name)(4, 3).recipe(**settings)
