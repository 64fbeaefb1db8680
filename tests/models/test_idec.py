"""IDEC against its paper's equations, and against DEC."""

from __future__ import annotations

import pytest
import torch

import probclust as pc
from probclust.models import DEC, IDEC
from probclust.starts.self_training import divergence
from probclust.story.recipe import Batch, Run

pytestmark = pytest.mark.usefixtures("float64")


def prepared(story, x):
    """A run that has its target and frequencies, and a batch of some of its rows."""
    run = Run(story, x, None, 0)
    story.recipe()[-2].before(run, 0)
    story._set_frequencies(run)
    index = torch.arange(3, 12)
    return run, Batch(x[index], index, run)


def test_with_the_reconstruction_off_it_is_dec():
    """The sentence after equation 6: loss, gradients and log joint."""
    x = torch.rand(20, 6)
    dec, idec = DEC(6, 3, 2, (8,)), IDEC(6, 3, 2, (8,), gamma=1.0, reconstruction=0.0)
    idec.load_state_dict(dec.state_dict())
    found = []
    for story in (dec, idec):
        _, batch = prepared(story, x)
        loss = story.loss(batch)
        loss.backward()
        gradients = [story.centres.grad, *(p.grad for p in story.codec.encoder.parameters())]
        assert all(p.grad is None for p in story.codec.decoder.parameters())
        found.append((loss.detach(), gradients, pc.log_joint(story, x)))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")  # of noise, it empties a cluster
def test_with_the_reconstruction_off_a_fit_is_decs():
    x = torch.rand(60, 6)
    recipe = {"pretrain_epochs": 2, "epochs": 4, "interval": 3}
    stories = []
    for build in (lambda: DEC(6, 3, 2, (8,)), lambda: IDEC(6, 3, 2, (8,), gamma=1.0, reconstruction=0.0)):
        torch.manual_seed(0)
        stories.append(build())
        pc.fit(stories[-1], x, recipe=recipe)
    torch.testing.assert_close(stories[0].state_dict(), stories[1].state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("gamma", "weight"), [(0.1, 1.0), (0.5, 2.0)])
def test_the_loss_is_equation_6(gamma, weight):
    x = torch.rand(20, 6)
    story = IDEC(6, 3, 2, (8,), gamma=gamma, reconstruction=weight)
    run, batch = prepared(story, x)
    rebuilt = story.codec.decoder(story.codec.encoder(batch.x))
    clustering = divergence(run.memory.target[batch.index], pc.responsibilities(story, batch.x).log()).mean()
    expected = weight * (batch.x - rebuilt).square().sum() / (9 * 6) + gamma * clustering
    torch.testing.assert_close(story.loss(batch), expected)


def test_the_bound_is_minus_the_loss_up_to_a_constant():
    x = torch.rand(20, 6)
    story = IDEC(6, 3, 2, (8,), gamma=0.3, reconstruction=2.0)
    constants = []
    for _ in range(3):
        story.redraw()
        run, _ = prepared(story, x)
        constants.append(story.loss(Batch(x, torch.arange(20), run)).detach() + pc.elbo(story, x).mean())
    torch.testing.assert_close(constants[1:], constants[:1] * 2)


@pytest.mark.parametrize("wrong", [{"gamma": -0.1}, {"reconstruction": float("nan")}])
def test_wrong_weights_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a number of at least 0"):
        IDEC(6, 3, 2, (8,), **wrong)
