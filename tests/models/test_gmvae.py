"""GMVAE against its formulas, written out by hand, and against VaDE, of which it is the general case."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import softplus

import probclust as pc
from probclust.likelihoods import Gaussian
from probclust.models import GMVAE, VaDE
from probclust.models.gmvae import MinimumInformation
from probclust.starts.labels import KMEANS
from probclust.story.joint import trace_joint
from probclust.story.recipe import START, Run

pytestmark = pytest.mark.usefixtures("float64")
SMALL = {"latent_dim": 2, "w_dim": 3, "hidden": (8, 7), "w_hidden": (6,), "prior_hidden": (5,)}


@pytest.fixture
def story():
    """A GMVAE with unequal weights, whose components depend on w."""
    story = GMVAE(6, 3, **SMALL)
    with torch.no_grad():
        story.logits.copy_(torch.tensor([0.0, 0.7, -0.7]))
        for layer in story.prior_networks.layers:
            layer.weight.mul_(3)
    return story


def blobs():
    """(240, 6) rows of three separated clusters, and their labels, in float32."""
    torch.set_default_dtype(torch.float32)
    y = torch.arange(240) % 3
    return (torch.eye(3, 6)[y] + 0.1 * torch.randn(240, 6)).float(), y


def log_normal(value, loc, scale):
    return (-((value - loc) / scale).square() / 2 - scale.log() - math.log(2 * math.pi) / 2).sum(-1)


def component(story, w, k):
    """(rows, L) mean and standard deviation of p(z | w, cluster = k), by that cluster's network alone."""
    (first, last), h = story.prior_networks.layers, w
    h = torch.relu(h @ first.weight[k] + first.bias[k])
    loc, raw = (h @ last.weight[k] + last.bias[k]).split(2, -1)
    return loc, 0.05 + softplus(raw)


@pytest.mark.parametrize("latents", ["mean", "draw"])
def test_log_joint_by_hand(story, latents):
    x = torch.rand(5, 6)
    joint = trace_joint(story.model, story.guide, x, latents=latents)
    z, w, q_z, q_w = joint.guide["z"].value, joint.guide["w"].value, story.codec.encoder(x), story.w_encoder(x)
    shared = log_normal(x, story.codec.decoder(z), story.codec.likelihood.scale.expand(6)) - log_normal(
        z, q_z.mean, q_z.stddev
    )
    shared = shared + log_normal(w, torch.zeros(3), torch.ones(3)) - log_normal(w, q_w.mean, q_w.stddev)
    for k in range(3):
        expected = shared + log_normal(z, *component(story, w, k)) + story.logits.log_softmax(0)[k]
        torch.testing.assert_close(joint.table[:, k], expected)
    assert (joint.table.softmax(1).std(0) > 0.001).all()  # the clusters do differ


def test_the_exact_objective_is_the_papers_four_terms(story):
    """At the same draw; of the closed forms that the paper takes, against the mean of 20,000 draws with r held fixed.

    Within 5 standard errors: a false alarm of 6e-7.
    """
    x = torch.rand(1, 6)
    rows = x.expand(20_000, 6)
    with torch.no_grad():
        joint = trace_joint(story.model, story.guide, rows)
        log_r, prior = joint.table.log_softmax(1), story.logits.log_softmax(0)
        r = log_r.exp()
        terms = {name: term.expand(3, 20_000).T for name, term in joint.terms()}
        conditional = (r * (terms["log p(z)"] + terms["-log q(z)"])).sum(1)
        w_prior = (terms["log p(w)"] + terms["-log q(w)"])[:, 0]
        z_prior = -(r * (log_r - prior)).sum(1)
        total = terms["log p(x)"][:, 0] + conditional + w_prior + z_prior
        torch.testing.assert_close(total, joint.table.logsumexp(1))
        q_w, q_z, w = story.w_encoder(x), story.codec.encoder(x), joint.guide["w"].value
        closed = -kl_divergence(Normal(q_w.mean, q_w.stddev), Normal(0.0, 1.0)).sum()
        assert abs(w_prior.mean() - closed) < 5 * w_prior.std() / math.sqrt(20_000)
        for k in range(3):
            p = Normal(*component(story, w, k))
            closed = -kl_divergence(Normal(q_z.mean.expand(w.shape[0], 2), q_z.stddev), p).sum(1)
            drawn = terms["log p(z)"][:, k] + terms["-log q(z)"][:, k]
            assert abs((drawn - closed).mean()) < 5 * (drawn - closed).std() / math.sqrt(20_000)


def test_the_value_and_gradient_are_pyros_own(story):
    x, parameters = torch.rand(7, 6), list(story.parameters())
    pyro.set_rng_seed(7)
    enumerated = config_enumerate(story.model, "parallel"), config_enumerate(story.guide, "parallel")
    theirs = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(*enumerated, x)
    pyro.set_rng_seed(7)
    ours = pc.objectives.Exact().differentiable_loss(story.model, story.guide, x)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        torch.testing.assert_close(a, b)


def as_vade(story):
    """The VaDE that a GMVAE is whose components do not depend on w."""
    vade = VaDE(6, 3, latent_dim=2, hidden=(8, 7))
    last = story.prior_networks.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        vade.codec.load_state_dict(story.codec.state_dict())
        vade.weights.logits.copy_(story.logits)
        vade.prior.loc.copy_(last.bias[:, 0, :2])
        vade.prior.raw_scale.copy_(last.bias[:, 0, 2:])
    return vade


def test_with_components_that_know_no_w_it_is_vade(story):
    x, vade = torch.rand(9, 6), as_vade(story)
    with torch.no_grad():
        for parameter in (*story.w_encoder.loc.parameters(), *story.w_encoder.log_variance.parameters()):
            parameter.zero_()  # q(w | x) is the prior, so that w costs nothing
    torch.testing.assert_close(pc.responsibilities(story, x), pc.responsibilities(vade, x))
    pyro.set_rng_seed(3)
    joint = trace_joint(story.model, story.guide, x)
    pyro.set_rng_seed(3)
    torch.testing.assert_close(joint.table, trace_joint(vade.model, vade.guide, x).table)  # z is drawn first


def test_bounds_are_in_order(story):
    x = torch.rand(20, 6)
    elbo = pc.elbo(story, x, particles=100).mean()
    bounds = [pc.log_likelihood(story, x, particles=n).mean() for n in (10, 500)]
    assert elbo < bounds[0] < bounds[1]


def test_samples_have_the_moments_of_their_cluster(story):
    """z of cluster k is a mixture over w: its mean is that of m_k(w), within 5 standard errors."""
    draws = pc.sample(story, 20_000, cluster=2, seed=0)
    assert draws["w"].shape == (20_000, 3)
    with torch.no_grad():
        loc, scale = component(story, torch.randn(20_000, 3), 2)
    error = math.sqrt(2) * draws["z"].std(0) / math.sqrt(20_000)
    assert ((draws["z"].mean(0) - loc.mean(0)).abs() < 5 * error).all()
    expected = (loc.var(0) + scale.square().mean(0)).sqrt()
    torch.testing.assert_close(draws["z"].std(0), expected, rtol=0.05, atol=0)


def test_the_minimum_information_constraint_by_hand(story):
    x = torch.rand(8, 6)
    pyro.set_rng_seed(5)
    joint = trace_joint(story.model, story.guide, x)
    log_r = joint.table.log_softmax(1)
    divergence = (log_r.exp() * (log_r - story.logits.log_softmax(0))).sum(1).mean()
    exact = joint.table.logsumexp(1).mean()
    for threshold in (0.0, 0.5 * divergence.item(), divergence.item() + 0.2):
        pyro.set_rng_seed(5)
        bound = -MinimumInformation(threshold).loss(story.model, story.guide, x) / 8
        assert bound == pytest.approx((exact + divergence - max(threshold, divergence)).item())
    above, free = MinimumInformation(9.0), exact + divergence  # the divergence has no gradient there
    pyro.set_rng_seed(5)
    found = torch.autograd.grad(above.differentiable_loss(story.model, story.guide, x), [story.logits])[0]
    torch.testing.assert_close(found / 8, -torch.autograd.grad(free, [story.logits])[0])
    with pytest.raises(ValueError, match="threshold must be"):
        MinimumInformation(-1.0)


def test_the_start_is_the_vade_of_the_starting_clusters(story):
    x, labels = torch.rand(60, 6), torch.arange(60) % 3
    before = pc.reconstruct(story, x)
    story._set_prior(Run(story, x, None, 0, {START: labels}))
    codes = story.codec.encoder.mean(x).detach()
    assert codes.std().item() == pytest.approx(1, rel=1e-6)
    torch.testing.assert_close(pc.reconstruct(story, x), before)
    for w in torch.randn(2, 4, 3):
        for k in range(3):
            loc, scale = component(story, w, k)
            torch.testing.assert_close(loc, codes[labels == k].mean(0).expand(4, 2), rtol=1e-3, atol=1e-4)
            expected = codes[labels == k].std(0, correction=0).clamp(min=0.05).expand(4, 2)
            torch.testing.assert_close(scale, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("pretraining", ["neighbours", "autoencoder"])
def test_a_fit_finds_separated_clusters(pretraining):
    x, y = blobs()
    story = GMVAE(6, 3, 3, w_dim=2, hidden=(16,), w_hidden=(8,), prior_hidden=(8,), likelihood=Gaussian(6, scale=0.1))
    pc.fit(story, x, recipe={"pretraining": pretraining, "pretrain_epochs": 10, "fit_epochs": 40, "epochs": 5})
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > 0.97
    k = pc.predict(story, x[:1]).item()
    draws = pc.sample(story, 200, cluster=k, seed=0)
    assert (pc.predict(story, draws["x"]) == k).float().mean() > 0.8


def test_the_papers_way_starts_from_random_weights():
    x, _ = blobs()
    story = GMVAE(6, 3, 3, w_dim=2, hidden=(16,), w_hidden=(8,), prior_hidden=(8,))
    record = pc.fit(story, x, recipe={"pretraining": "none", "epochs": 20, "minimum_information": 0.7})
    assert {entry["step"] for entry in record.history} == {"svi"}
    assert record.losses()[-1] < record.losses()[0] - 1


def test_on_digits_the_fit_keeps_its_start():
    torch.set_default_dtype(torch.float32)
    data = pc.data.load("digits")
    x, y = data.x[:600], data.y[:600]
    story = GMVAE(64, 10, hidden=(128,), w_hidden=(64,), prior_hidden=(32,))
    record = pc.fit(story, x, recipe={"fit_epochs": 10, "epochs": 3}, seed=0)
    start = pc.metrics.accuracy(y, record.memory[KMEANS])
    assert start > 0.7
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > start - 0.01


def test_wrong_pretraining_is_refused(story):
    with pytest.raises(ValueError, match=r"pretraining must be 'none', 'autoencoder', .* got 'stacked'"):
        story.recipe(pretraining="stacked")
