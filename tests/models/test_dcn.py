"""DCN against its paper's equations, written out by hand, and against mini-batch k-means."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import nn

import probclust as pc
from probclust.models import DCN
from probclust.starts.in_turn import InTurn, move_centroids
from probclust.starts.labels import KMEANS
from probclust.story.recipe import START, Batch, Run

K, D, L = 3, 6, 2


def small(**arguments):
    return DCN(D, K, **{"latent_dim": L, "hidden": (8,), "precision": 0.7, **arguments})


def blobs(n=240):
    """(n, 6) rows of three separated clusters, and their labels."""
    torch.manual_seed(5)
    y = torch.arange(n) % 3
    return (torch.eye(3, 6)[y] + 0.1 * torch.randn(n, 6)).float(), y


def loss_by_hand(story, x, k):
    """(rows,) squared error plus lambda / 2 times the squared distance to centroid k."""
    z = story.codec.encoder(x)
    return ((x - story.codec.decoder(z)) ** 2).sum(1) + 0.7 / 2 * ((z - story.centroids[k]) ** 2).sum(1)


CONSTANT = D / 2 * math.log(math.pi) - L / 2 * math.log(0.7 / (2 * math.pi)) + math.log(K)


def test_the_log_joint_is_minus_the_loss_and_a_constant(float64):
    story, x = small(), torch.rand(9, D)
    table = pc.log_joint(story, x)
    for k in range(K):
        torch.testing.assert_close(table[:, k], -loss_by_hand(story, x, k).detach() - CONSTANT)
    distance = torch.stack([((story.codec.encoder(x) - m) ** 2).sum(1) for m in story.centroids])
    assert pc.predict(story, x).tolist() == distance.argmin(0).tolist()


def test_the_hard_objective_is_the_papers_loss_and_gradient(float64):
    story, x = small(), torch.rand(9, D)
    nearest = pc.predict(story, x)
    expected = loss_by_hand(story, x, nearest).mean()
    found = pc.objectives.Hard().differentiable_loss(story.model, story.guide, x) / 9
    torch.testing.assert_close(found, expected + CONSTANT)
    networks = [*story.codec.encoder.parameters(), *story.codec.decoder.parameters()]
    pairs = zip(torch.autograd.grad(found, networks), torch.autograd.grad(expected, networks), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b)


def test_the_loss_of_training_is_the_papers():
    """The record of a first epoch of one batch is the loss before its gradient step."""
    x, _ = blobs(30)
    story = small()
    with torch.no_grad():
        expected = loss_by_hand(story, x, pc.predict(story, x)).mean() + CONSTANT
    record = pc.fit(story, x, recipe=[step_in_turn(story, epochs=1, batch_size=None)])
    assert record.losses()[0] == pytest.approx(expected.item(), rel=1e-5)


def step_in_turn(story, **changes):
    (step,) = (step for step in story.recipe() if isinstance(step, InTurn))
    return replace(step, **changes)


def test_the_centroids_move_as_in_a_loop_over_rows(float64):
    """The paper's rule, one row after the other, with c_k raised before it is used."""
    story, x = small(), torch.rand(40, D)
    story.counts.copy_(torch.tensor([5.0, 0.0, 12.0]))
    story.centroids.data.copy_(story.codec.encoder(x[:3]))
    z = story.codec.encoder(x).detach().numpy()
    centroids, counts = story.centroids.detach().numpy().copy(), story.counts.numpy().copy()
    nearest = ((z[:, None] - centroids) ** 2).sum(-1).argmin(1)
    assert set(nearest) == {0, 1, 2}
    for k, code in zip(nearest, z, strict=True):
        counts[k] += 1
        centroids[k] -= (centroids[k] - code) / counts[k]
    move_centroids(story.centroids, story.counts, story.codec.mean(x))
    np.testing.assert_allclose(story.centroids.detach(), centroids, rtol=1e-10)
    np.testing.assert_allclose(story.counts, counts)


def test_known_rows_move_the_centroid_of_their_cluster(float64):
    story, x = small(), torch.rand(4, D)
    before = story.centroids.detach().clone()
    move_centroids(story.centroids, story.counts, story.codec.mean(x), torch.full((4,), 1))
    torch.testing.assert_close(story.centroids[1].detach(), story.codec.encoder(x).mean(0).detach())
    torch.testing.assert_close(story.centroids[[0, 2]].detach(), before[[0, 2]])


class Constant(nn.Module):
    """A decoder that gives the same row whatever the code."""

    def __init__(self, n_features):
        super().__init__()
        self.row = nn.Parameter(torch.zeros(n_features))

    def forward(self, z):
        return self.row.expand(*z.shape[:-1], -1)


def test_without_networks_it_is_mini_batch_k_means(float64):
    """With code = row and a constant decoder, scikit-learn's `MiniBatchKMeans`, batch by batch."""
    x, _ = blobs()
    x = x.double()
    story = small(latent_dim=D)
    story.codec.encoder, story.codec.decoder = nn.Identity(), Constant(D)
    start = x[torch.tensor([0, 100, 200])]
    story.centroids.data.copy_(start)
    reference = MiniBatchKMeans(K, init=start.numpy(), n_init=1, reassignment_ratio=0)
    run, step = Run(story, x, None, 0), step_in_turn(story)
    for index in torch.randperm(240).split(20):
        step.after(Batch(x[index], index, run))
        reference.partial_fit(x[index].numpy())
        np.testing.assert_allclose(story.centroids.detach(), reference.cluster_centers_, rtol=1e-10)
    assert pc.predict(story, x).tolist() == reference.predict(x.numpy()).tolist()


def test_in_training_the_optimizer_leaves_the_centroids_to_k_means():
    x, _ = blobs(64)
    story = small()
    story.counts.fill_(1e12)  # so that k-means leaves them where they are
    before = story.centroids.detach().clone()
    pc.fit(story, x, recipe=[step_in_turn(story, epochs=2)])
    torch.testing.assert_close(story.centroids.detach(), before)
    assert story.counts.sum() - 3e12 == pytest.approx(128, abs=1e6)
    weights = [p.clone() for p in story.codec.encoder.parameters()]
    pc.fit(story, x, recipe=[step_in_turn(story, epochs=1)])
    assert not any(torch.equal(*pair) for pair in zip(weights, story.codec.encoder.parameters(), strict=True))


def test_the_start():
    x, y = blobs()
    story = small()
    before = pc.reconstruct(story, x)
    story._set_centroids(Run(story, x, None, 0, {START: y}))
    codes = story.codec.encoder(x).detach()
    assert codes.std().item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(pc.reconstruct(story, x), before)
    means = torch.stack([codes[y == k].mean(0) for k in range(K)])
    torch.testing.assert_close(story.centroids.detach(), means, rtol=1e-3, atol=1e-4)
    assert story.counts.tolist() == [80, 80, 80]


@pytest.mark.parametrize("pretraining", ["neighbours", "autoencoder", "none"])
def test_a_fit_finds_separated_clusters(pretraining):
    x, y = blobs()
    story = DCN(6, 3, latent_dim=3, hidden=(16,))
    record = pc.fit(story, x, recipe={"pretraining": pretraining, "pretrain_epochs": 20, "epochs": 10})
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > 0.97
    assert record.bound == pytest.approx(pc.elbo(story, x).mean().item(), rel=1e-5)
    k = pc.predict(story, x[:1]).item()
    means = pc.sample(story, 500, cluster=k, seed=0)["x"].mean(0)
    rebuilt = pc.reconstruct(story, x)[pc.predict(story, x) == k]
    torch.testing.assert_close(means, rebuilt.mean(0), rtol=0, atol=0.2)


def test_on_digits_the_fit_keeps_or_betters_its_start():
    data = pc.data.load("digits")
    x, y = data.x[:600], data.y[:600]
    story = DCN(64, 10, hidden=(128,))
    record = pc.fit(story, x, seed=0, recipe={"pretrain_epochs": 15})  # which leave room to better it
    start = pc.metrics.accuracy(y, record.memory[KMEANS])
    assert start > 0.7
    assert pc.metrics.accuracy(y, pc.predict(story, x)) >= start


def test_known_clusters_are_learned():
    x, y = blobs()
    wanted = (y + 1) % 3
    story = DCN(6, 3, latent_dim=3, hidden=(16,))
    pc.fit(story, x, torch.where(torch.arange(240) < 30, wanted, -1), recipe={"pretrain_epochs": 10, "epochs": 5})
    assert (pc.predict(story, x) == wanted).float().mean() > 0.9


class Killed(BaseException):
    pass


def fitted(path=None, *, after=math.inf, resume=False):
    """A fit that dies before its call number `after` of k-means."""
    torch.manual_seed(1)
    story, calls = small(), 0

    def counted(*arguments):
        nonlocal calls
        calls += 1
        if calls > after:
            raise Killed
        move_centroids(*arguments)

    recipe = {"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probclust.starts.in_turn.move_centroids", counted)
        pc.fit(story, blobs(100)[0], recipe=recipe, seed=2, checkpoint=path, resume=resume)
    return torch.cat([p.detach().flatten() for p in story.state_dict().values()]), calls


def test_a_fit_stopped_anywhere_resumes_to_the_same_end(tmp_path):
    unbroken, calls = fitted()
    assert calls == 4  # 2 epochs of 2 batches
    for after in range(calls):
        path = tmp_path / f"{after}"
        with pytest.raises(Killed):
            fitted(path, after=after)
        assert torch.equal(fitted(path, resume=True)[0], unbroken)


def test_samples_come_from_the_codes_of_the_cluster(float64):
    story, x = small(), torch.rand(200, D)
    with pytest.raises(ValueError, match=r"call story\.fit_codes"):
        pc.sample(story, 3)
    story.fit_codes(x)
    labels, codes = pc.predict(story, x), story.codec.encoder(x).detach()
    k = labels.mode().values.item()
    draws = pc.sample(story, 4000, cluster=k, seed=0)
    own = codes[labels == k]
    assert ((draws["z"].mean(0) - own.mean(0)).abs() < 5 * own.std(0) / math.sqrt(4000)).all()
    noise = draws["x"] - story.codec.decoder(draws["z"]).detach()
    assert noise.std().item() == pytest.approx(math.sqrt(0.5), abs=0.02)


def test_it_has_no_likelihood_but_embeds_and_reconstructs():
    x, _ = blobs()
    story = small()
    torch.testing.assert_close(pc.embed(story, x), story.codec.encoder(x).detach())
    torch.testing.assert_close(pc.reconstruct(story, x), story.codec.decoder(story.codec.encoder(x)).detach())
    with pytest.warns(pc.ComparisonWarning, match="is_density = False"):
        assert pc.compare({"dcn": story}, x)["log_likelihood"].isna().all()


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="pretraining must be"):
        small().recipe(pretraining="stacked")
    with pytest.raises(ValueError, match="precision must be a positive number"):
        small(precision=0)
