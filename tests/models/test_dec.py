"""DEC against its paper's equations, written out by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

import probclust as pc
from probclust.models import DEC, IDEC
from probclust.starts.labels import KMEANS
from probclust.story.recipe import START, Batch, Compute, Run

QUICK = {"pretrain_epochs": 2, "epochs": 4, "interval": 3, "delta": 0.0}


def blobs(n=120):
    """(n, 6) rows of three separated clusters, and their labels."""
    torch.manual_seed(5)
    y = torch.arange(n) % 3
    return (torch.eye(3, 6)[y] + 0.1 * torch.randn(n, 6)).float(), y


def q_by_hand(story, x):
    z, mu = story.codec.encoder(x).detach().double().numpy(), story.centres.detach().double().numpy()
    kernel = 1 / (1 + ((z[:, None] - mu) ** 2).sum(-1))
    return kernel / kernel.sum(1, keepdims=True)


def objective_by_hand(story, x):
    """(rows,) KL(p || q), the target from these rows."""
    q = q_by_hand(story, x)
    p = q**2 / q.sum(0)
    p /= p.sum(1, keepdims=True)
    return (p * np.log(p / q)).sum(1)


def weights(story):
    return torch.cat([p.detach().flatten() for p in story.state_dict().values()])


def test_the_log_joint_is_log_q_and_the_objective(float64):
    story, x = DEC(6, 3, latent_dim=2, hidden=(8,)), torch.rand(20, 6)
    np.testing.assert_allclose(pc.responsibilities(story, x), q_by_hand(story, x), rtol=1e-10)
    story._set_frequencies(Run(story, x, None, 0))
    expected = np.log(q_by_hand(story, x)) - objective_by_hand(story, x)[:, None]
    np.testing.assert_allclose(pc.log_joint(story, x), expected, rtol=1e-10)
    np.testing.assert_allclose(-pc.elbo(story, x), objective_by_hand(story, x), rtol=1e-10)
    part = pc.log_joint(story, x[:3])  # the frequencies are those of all rows, not of the batch
    np.testing.assert_allclose(part, expected[:3], rtol=1e-10)


def test_the_objective_of_training_is_the_papers(float64):
    story, x = DEC(6, 3, latent_dim=2, hidden=(8,)), torch.rand(20, 6)
    run = Run(story, x, None, 0)
    story.recipe()[-2].before(run, 0)
    index = torch.arange(5, 15)
    loss = story.loss(Batch(x[index], index, run)).item()
    assert loss == pytest.approx(objective_by_hand(story, x)[5:15].mean(), rel=1e-10)
    story.loss(Batch(x[index], index, run)).backward()
    assert all(p.grad is None for p in story.codec.decoder.parameters())


def test_plain_svi_descends_along_the_papers_gradient(float64):
    """Minus the bound has equation 9 and 10's gradient, p held fixed."""
    story, x = DEC(6, 3, latent_dim=2, hidden=(8,)), torch.rand(20, 6)
    run = Run(story, x, None, 0)
    story._set_frequencies(run)
    story.recipe()[-2].before(run, 0)
    parameters = [*story.codec.encoder.parameters(), story.centres]
    expected = torch.autograd.grad(story.loss(Batch(x, torch.arange(20), run)), parameters)
    loss = pc.objectives.Exact().differentiable_loss(story.model, story.guide, x) / 20
    for found, wanted in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_the_architecture_is_the_papers():
    sizes = [tuple(p.shape) for n, p in DEC(784, 10).named_parameters() if p.dim() == 2 and n != "centres"]
    assert sizes == [
        (500, 784), (500, 500), (2000, 500), (10, 2000),
        (2000, 10), (500, 2000), (500, 500), (784, 500),
    ]  # fmt: skip


@pytest.mark.parametrize("pretraining", ["neighbours", "embedding", "autoencoder"])
@pytest.mark.parametrize("kind", [DEC, IDEC])
def test_a_fit_finds_separated_clusters(kind, pretraining):
    x, y = blobs()
    story = kind(6, 3, latent_dim=3, hidden=(16,))
    pretrain_epochs = 60 if pretraining == "embedding" else 20  # codes follow an embedding more slowly
    settings = {"pretraining": pretraining, "pretrain_epochs": pretrain_epochs, "epochs": 20, "interval": 5}
    record = pc.fit(story, x, recipe=settings, batch_size=20)
    labels = pc.predict(story, x)
    assert pc.metrics.accuracy(y, labels) > 0.97
    assert pc.metrics.accuracy(y, labels) >= pc.metrics.accuracy(y, record.memory[KMEANS])
    assert record.bound == pytest.approx(pc.elbo(story, x).mean().item(), rel=1e-5)


def test_the_centres_start_at_the_means_of_the_clusters_codes():
    x, y = blobs()
    story = DEC(6, 3, latent_dim=2, hidden=(8,))
    run = Run(story, x, None, 0, {START: y})
    story._set_centres(run)
    codes = story.codec.encoder(x).detach()
    torch.testing.assert_close(story.centres.detach(), torch.stack([codes[y == k].mean(0) for k in range(3)]))
    assert codes.std().item() == pytest.approx(story.spread, rel=1e-4)


def test_rescaling_the_codes_leaves_the_reconstruction_alone():
    x, y = blobs()
    story = IDEC(6, 3, latent_dim=2, hidden=(8,))
    before = pc.reconstruct(story, x)
    story._set_centres(Run(story, x, None, 0, {START: y}))
    torch.testing.assert_close(pc.reconstruct(story, x), before)


@pytest.mark.parametrize("kind", [DEC, IDEC])
def test_on_digits_the_fit_keeps_or_betters_its_start(kind):
    data = pc.data.load("digits")
    x, y = data.x[:600], data.y[:600]
    story = kind(64, 10, hidden=(64,))
    settings = {"pretrain_epochs": 15, "epochs": 30, "interval": 20}
    record = pc.fit(story, x, recipe=settings, seed=0)
    start = pc.metrics.accuracy(y, record.memory[KMEANS])
    assert start > 0.7
    assert pc.metrics.accuracy(y, pc.predict(story, x)) >= start


def test_a_fit_stops_at_delta():
    x, _ = blobs()
    settings = {**QUICK, "pretrain_epochs": 20, "epochs": 100, "interval": 20, "delta": 0.05}
    record = pc.fit(DEC(6, 3, latent_dim=3, hidden=(16,)), x, recipe=settings)
    epochs = [entry for entry in record.history if entry["step"] == "clustering"]
    assert 20 <= len(epochs) < 100  # one batch each


class Killed(BaseException):
    pass


def fitted(path=None, *, after=math.inf, resume=False):
    """A fit whose target is renewed within epochs; `Killed` before its batch number `after`."""
    torch.manual_seed(1)
    story, calls = DEC(6, 3, latent_dim=2, hidden=(8,)), 0
    loss = story.loss

    def counted(batch):
        nonlocal calls
        calls += 1
        if calls > after:
            raise Killed
        return loss(batch)

    story.loss = counted
    pc.fit(story, blobs()[0].repeat(3, 1), recipe=QUICK, seed=2, checkpoint=path, resume=resume)
    return story, calls


@pytest.mark.parametrize("snapshots", [0.0, 1e9])
def test_a_fit_stopped_anywhere_resumes_to_the_same_end(tmp_path, monkeypatch, snapshots):
    """Also within an epoch, after the target was renewed since the state that it goes back to."""
    monkeypatch.setattr("probclust.fitting.loop.SNAPSHOT_SECONDS", snapshots)
    unbroken, calls = fitted()
    assert calls == 8  # 4 epochs of 2 batches
    for after in range(calls):
        path = tmp_path / f"{after}"
        with pytest.raises(Killed):
            fitted(path, after=after)
        resumed, _ = fitted(path, resume=True)
        assert torch.equal(weights(resumed), weights(unbroken))


def test_the_targets_in_memory_are_of_all_rows():
    x, _ = blobs()
    record = pc.fit(DEC(6, 3, latent_dim=2, hidden=(8,)), x, recipe=QUICK)
    assert record.memory["target"].shape == (120, 3)
    assert record.memory["target labels"].shape == (120,)


@pytest.mark.parametrize("kind", [DEC, IDEC])
def test_known_clusters_are_learned(kind):
    x, y = blobs()
    wanted = (y + 1) % 3
    known = torch.where(torch.arange(120) < 30, wanted, -1)
    story = kind(6, 3, latent_dim=3, hidden=(16,))
    pc.fit(story, x, known, recipe={"pretrain_epochs": 20, "epochs": 10, "interval": 5}, batch_size=20)
    assert (pc.predict(story, x) == wanted).float().mean() > 0.9


def test_what_a_conditional_story_has_and_has_not():
    x, _ = blobs()
    story = DEC(6, 3, latent_dim=2, hidden=(8,))
    assert pc.reconstruct(story, x).shape == (120, 6)
    torch.testing.assert_close(pc.reconstruct(story, x), story.codec.decoder(story.codec.encoder(x)).detach())
    torch.testing.assert_close(pc.embed(story, x), story.codec.encoder(x).detach())
    with pytest.raises(ValueError, match="conditions on x"):
        pc.sample(story, 3)
    with pytest.warns(pc.ComparisonWarning, match="no likelihood"):
        assert pc.compare({"dec": story}, x)["log_likelihood"].isna().all()


def test_settings_of_svi_are_refused_where_there_is_none():
    with pytest.raises(ValueError, match="epochs would change the SVI steps, but this recipe has none"):
        pc.fit(DEC(6, 3, latent_dim=2, hidden=(8,)), blobs()[0], epochs=3)


def test_wrong_pretraining_is_refused():
    with pytest.raises(ValueError, match="pretraining must be"):
        pc.fit(DEC(6, 3, latent_dim=2, hidden=(8,)), blobs()[0], recipe={"pretraining": "stacked"})


def test_the_papers_start_trains_layer_by_layer_first():
    story = DEC(4, 2, latent_dim=2, hidden=(5,))
    with_layers = story.recipe(pretraining="autoencoder", layerwise_epochs=2)
    assert [step.name for step in with_layers][1:4] == ["layer 1", "layer 2", "pre-train"]
    assert [step.name for step in story.recipe(pretraining="autoencoder")][1] == "pre-train"


@pytest.mark.parametrize("story_class", [DEC, IDEC])
def test_clusters_that_the_last_step_empties_are_warned_of(story_class):
    """What counts is who holds the rows at the end, not after the step before."""
    x, _ = blobs()
    story = story_class(6, 3, latent_dim=2, hidden=(8,))

    def push(run):
        run.story.centres[2] += 1e4

    *steps, clustering, frequencies = story.recipe(**{**QUICK, "epochs": 1})
    slow = dataclasses.replace(clustering, learning_rate=1e-9)
    with pytest.warns(pc.FitWarning, match=r"clusters \[2\] hold less than one row"):
        pc.fit(story, x, recipe=[*steps, Compute(name="push", run=torch.no_grad()(push)), slow, frequencies])
    assert pc.predict(story, x).bincount(minlength=3)[2] == 0
