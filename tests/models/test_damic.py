"""DAMIC against the equations of its paper, against separate autoencoders and against k-means."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

import probclust as pc
from probclust.data.synthetic import four_gaussians
from probclust.likelihoods import Gaussian
from probclust.models import DAMIC
from probclust.objectives.bounds import Exact, Hard
from probclust.story.recipe import START

D, K = 5, 3


def perceptron(layers, k, x):
    """The k-th of the stacked perceptrons, layer by layer."""
    for number, layer in enumerate(layers):
        x = (x.relu() if number else x) @ layer.weight[k] + layer.bias[k]
    return x


def expert(story, k, x):
    """f_k(x), from the k-th expert's weights alone."""
    return perceptron(story.experts.decoders.layers, k, perceptron(story.experts.encoders.layers, k, x))


def log_gate(story, x):
    """(rows, K) log p(cluster | x), equation 1."""
    for layer in story.embedding:
        x = layer(x)
    return (x @ story.gate.weight.T + story.gate.bias).log_softmax(1)


def distances(story, x):
    """(rows, K) 1/2 ||x - f_k(x)||^2."""
    return torch.stack([(x - expert(story, k, x)).square().sum(1) / 2 for k in range(story.n_clusters)], 1)


def equation_3(story, x):
    return -(log_gate(story, x).exp() * (-distances(story, x)).exp()).sum(1).log().sum()


def small(**settings):
    return DAMIC(D, K, latent_dim=2, hidden=(7,), gate_hidden=(6,), **settings)


@pytest.fixture
def x():
    return torch.randn(11, D, dtype=torch.float64)


@pytest.fixture
def story(float64):
    return small()


def test_the_exact_objective_is_equation_3(story, x):
    constant = len(x) * D / 2 * math.log(2 * math.pi)
    loss = Exact().loss(story.model, story.guide, x)
    assert loss == pytest.approx(equation_3(story, x).item() + constant, rel=1e-12)


def test_the_log_joint_is_gate_times_stacked_experts_and_its_softmax_equation_5(story, x):
    expected = log_gate(story, x) - distances(story, x) - D / 2 * math.log(2 * math.pi)
    torch.testing.assert_close(pc.log_joint(story, x), expected.detach())
    weights = log_gate(story, x).exp() * (-distances(story, x)).exp()
    torch.testing.assert_close(pc.responsibilities(story, x), (weights / weights.sum(1, keepdim=True)).detach())


def test_gradients_are_weighted_by_equation_5_as_in_equation_4(story, x):
    weights = pc.responsibilities(story, x)
    gate = [*story.embedding.parameters(), *story.gate.parameters()]
    experts = [*story.experts.encoders.parameters(), *story.experts.decoders.parameters()]
    loss = Exact().differentiable_loss(story.model, story.guide, x)
    found = torch.autograd.grad(loss, gate + experts)
    equation_4 = torch.autograd.grad(-(weights * log_gate(story, x)).sum(), gate)
    of_experts = torch.autograd.grad((weights * distances(story, x)).sum(), experts)
    for one, other in zip(found, equation_4 + of_experts, strict=True):
        torch.testing.assert_close(one, other)
    assert all(gradient.abs().max() > 1e-4 for gradient in found)


def test_without_the_gate_the_hard_objective_is_equation_7(float64, x):
    story = small(gate=False)
    equation_7 = distances(story, x).min(1).values.sum().item()
    constant = len(x) * (D / 2 * math.log(2 * math.pi) + math.log(K))
    assert Hard().loss(story.model, story.guide, x) == pytest.approx(equation_7 + constant, rel=1e-12)


def test_with_constant_experts_and_no_gate_it_is_k_means(float64):
    x = torch.randn(60, D)
    story = DAMIC(D, K, latent_dim=2, hidden=(), gate=False)
    means = x[:K].clone()
    with torch.no_grad():
        story.experts.decoders.layers[-1].weight.zero_()
        story.experts.decoders.layers[-1].bias.copy_(means[:, None])
    kmeans = KMeans(K, init=means.numpy(), n_init=1, max_iter=1)
    with warnings.catch_warnings(action="ignore"):  # it has not converged
        kmeans.fit(x.numpy())
    labels = torch.cdist(x, means).argmin(1)
    assert torch.equal(pc.predict(story, x), labels)
    loss = Hard().differentiable_loss(story.model, story.guide, x)
    (gradient,) = torch.autograd.grad(loss, story.experts.decoders.layers[-1].bias)
    counts = labels.bincount(minlength=K)[:, None]
    stepped = means - gradient.squeeze(1) / counts  # Newton's step: the loss is quadratic in the constants
    torch.testing.assert_close(stepped, torch.as_tensor(kmeans.cluster_centers_))


def test_the_paper_assigns_by_the_gate_or_by_the_reconstruction(story, x):
    with torch.no_grad():
        story.gate.weight.mul_(20)
    by_gate, by_error = log_gate(story, x).argmax(1), distances(story, x).argmin(1)
    assert not torch.equal(by_gate, by_error)
    assert torch.equal(story.assign(x), by_gate)
    assert torch.equal(story.assign(x, by="reconstruction"), by_error)
    ungated = small(gate=False)
    assert torch.equal(pc.predict(ungated, x), distances(ungated, x).argmin(1))
    assert torch.equal(pc.predict(ungated, x), ungated.assign(x, "reconstruction"))


def test_wrong_rules_of_assignment_are_refused(story, x):
    with pytest.raises(ValueError, match="by must be 'gate' or 'reconstruction', got 'both'"):
        story.assign(x, by="both")
    with pytest.raises(ValueError, match="gate=False; use by='reconstruction'"):
        small(gate=False).assign(x)


def test_it_embeds_and_reconstructs_by_gate_and_experts(story, x):
    torch.testing.assert_close(pc.embed(story, x), story.embedding(x).detach())
    labels = pc.predict(story, x).tolist()
    rebuilt = torch.stack([expert(story, k, row) for k, row in zip(labels, x, strict=True)]).squeeze(1)
    torch.testing.assert_close(pc.reconstruct(story, x), rebuilt.detach())
    assert pc.embed(small(gate=False), x).shape == (11, K)  # the centred log joint: there is no h(x)


def test_samples_come_from_the_codes_of_each_experts_own_rows(story):
    x = torch.randn(400, D)
    with pytest.raises(ValueError, match=r"call story\.fit_codes"):
        pc.sample(story, 3)
    story.fit_codes(x)
    labels = pc.predict(story, x)
    own = {k: perceptron(story.experts.encoders.layers, k, x[labels == k]).detach() for k in labels.unique().tolist()}
    k = max(own, key=lambda k: len(own[k]))
    torch.testing.assert_close(story.code_density.weights, labels.bincount(minlength=K) / 400)
    torch.testing.assert_close(story.code_density.part.loc[k], own[k].mean(0))
    covariance = story.code_density.part.factor[k] @ story.code_density.part.factor[k].T
    torch.testing.assert_close(covariance, own[k].T.cov(correction=0), rtol=1e-3, atol=1e-5)
    draws = pc.sample(story, 4000, cluster=k, seed=0)
    assert draws["cluster"].unique().tolist() == [k]
    error = (own[k].var(0) / 4000).sqrt()
    assert ((draws["z"].mean(0) - own[k].mean(0)).abs() < 5 * error).all()  # false alarm below 1e-5
    noise = draws["x"] - perceptron(story.experts.decoders.layers, k, draws["z"])
    assert noise.std().item() == pytest.approx(1.0, abs=0.03)  # 20,000 draws: standard error 0.005
    drawn = pc.sample(story, 4000, seed=1)["cluster"].bincount(minlength=K) / 4000
    assert (drawn - story.code_density.weights).abs().max() < 0.04  # five standard errors


@pytest.mark.parametrize(("likelihood", "of"), [("gaussian", "scale"), ("bernoulli", None)])
def test_other_likelihoods_take_the_place_of_the_papers_distance(likelihood, of, x):
    x, story = x.float().sigmoid(), small(likelihood=likelihood)
    outputs = expert(story, 1, x)
    if of:
        expected = torch.distributions.Normal(outputs, story.experts.likelihood.scale).log_prob(x).sum(1)
    else:
        expected = -torch.nn.functional.binary_cross_entropy_with_logits(outputs, x, reduction="none").sum(1)
    torch.testing.assert_close(pc.log_joint(story, x)[:, 1], (log_gate(story, x)[:, 1] + expected).detach())


def two_planes(n=300):
    """Rows on two planes of D dimensions: what an expert with two codes learns to reconstruct."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(n) % 2)
    planes, centres = rng.standard_normal((2, 2, D)), np.array([[-3.0] * D, [3.0] * D])
    rows = centres[y] + np.einsum("ni,nij->nj", rng.standard_normal((n, 2)), planes[y])
    return rows.astype(np.float32), y


@pytest.mark.parametrize(("gate", "pretraining", "epochs"), [(True, "neighbours", 3), (False, "autoencoder", 60)])
def test_the_recipe_starts_gate_and_experts_and_fits_the_codes(gate, pretraining, epochs):
    x, y = two_planes()
    story = DAMIC(D, 2, hidden=(32,), gate=gate, gate_hidden=(16,))
    before = distances(story, torch.as_tensor(x)).min(1).values.mean()
    recipe = {
        "pretraining": pretraining,
        "pretrain_epochs": epochs,
        "fit_epochs": 40,
        "start_hidden": (16,),
        "start_dim": 2,
    }
    record = pc.fit(story, x, recipe=recipe)
    steps = list(dict.fromkeys(entry["step"] for entry in record.history))
    assert steps == ["pre-train", *(["gate"] if gate else []), "experts", "svi"]
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > 0.97
    assert distances(story, torch.as_tensor(x)).min(1).values.mean() < 0.05 * before
    if gate:
        assert pc.metrics.accuracy(y, story.assign(x)) > 0.97
    draws = pc.sample(story, 50, cluster=0, seed=0)
    assert (pc.predict(story, draws["x"]) == 0).float().mean() > 0.9


def test_the_papers_start_trains_the_single_autoencoder_layer_by_layer_first():
    recipe = small().recipe(pretraining="autoencoder", layerwise_epochs=2, start_hidden=(6,), start_dim=2)
    assert [step.name for step in recipe][1:5] == ["layer 1", "layer 2", "pre-train", "start"]
    x, y = two_planes()
    story, settings = DAMIC(D, 2, hidden=(32,), gate_hidden=(16,)), {"start_hidden": (16,), "start_dim": 2}
    recipe = {"pretraining": "autoencoder", "pretrain_epochs": 20, "layerwise_epochs": 10, **settings}
    record = pc.fit(story, x, recipe=recipe)
    assert pc.metrics.accuracy(y, record.memory["k-means"]) > 0.95


def test_a_further_round_starts_fresh_networks_from_the_clusters_of_the_last(monkeypatch):
    x, _ = two_planes()
    settings = {"pretraining": "none", "fit_epochs": 2, "epochs": 1}
    once, twice = (DAMIC(D, 2, hidden=(8,), gate_hidden=(8,)) for _ in range(2))
    pc.fit(once, x, recipe=settings)
    first, weights = pc.predict(once, x), once.experts.encoders.layers[0].weight.clone()
    seen = {}
    start_again = DAMIC._start_again

    def look(story, run):
        seen["before"] = story.experts.encoders.layers[0].weight.clone()
        start_again(story, run)
        seen["fresh"], seen["start"] = story.experts.encoders.layers[0].weight.clone(), run.memory[START].clone()

    monkeypatch.setattr(DAMIC, "_start_again", look)
    record = pc.fit(twice, x, recipe=settings | {"rounds": 2})
    assert torch.equal(seen["before"], weights)  # the first round is the only one of a fit with one
    assert torch.equal(seen["start"], first)
    assert not torch.equal(seen["fresh"], weights)
    assert torch.equal(record.memory["sizes"], first.bincount(minlength=2))
    assert torch.equal(first[record.memory["members"]], first.sort().values)
    steps = list(dict.fromkeys(entry["step"] for entry in record.history))
    assert steps == ["gate", "experts", "svi", "gate 2", "experts 2", "svi 2"]


def test_known_rows_start_a_further_round_in_their_own_cluster():
    x, _ = two_planes()
    y = torch.full((len(x),), -1)
    y[:20] = torch.arange(20) % 2  # whatever their planes
    story = DAMIC(D, 2, hidden=(8,), gate_hidden=(8,))
    recipe = {"pretraining": "none", "fit_epochs": 2, "epochs": 1, "rounds": 2}
    assert torch.equal(pc.fit(story, x, y, recipe=recipe).memory[START][:20], y[:20])


def test_wrong_pretraining_is_refused():
    with pytest.raises(ValueError, match=r"pretraining must be .*'none'.*, got 'vade'"):
        small().recipe(pretraining="vade")
    with pytest.raises(ValueError, match="pretrain_epochs must be an integer of at least 1, got 0"):
        small().recipe(pretrain_epochs=0)


def on_the_papers_synthetic_set(seed):
    """NMI and ARI of k-means on x and of DAMIC, and DAMIC and the rows themselves."""
    data = four_gaussians(seed=seed)
    torch.manual_seed(0)
    noise = Gaussian(100, scale=0.01)  # of the order of what the experts miss: under 1, their errors hardly count
    story = DAMIC(100, 4, hidden=(64,), gate_hidden=(64,), embedding_dim=2, likelihood=noise)
    recipe = {"pretraining": "none", "rounds": 4, "fit_epochs": 6, "epochs": 2}
    record = pc.fit(story, data.x, recipe=recipe, learning_rate=1e-3, seed=seed)
    found = [record.memory["k-means"], pc.predict(story, data.x)]
    return [score(data.y, labels) for labels in found for score in (pc.metrics.nmi, pc.metrics.ari)], story, data


def test_it_finds_the_clusters_of_the_papers_synthetic_set():
    """Table 2: NMI 0.94, ARI 0.96; k-means 0.80, 0.81. The rule that knows the Gaussians has 0.97 and 0.98 here."""
    (*kmeans, nmi, ari), story, data = on_the_papers_synthetic_set(seed=0)
    assert max(kmeans) < 0.85
    assert nmi > 0.94
    assert ari > 0.96
    assert pc.metrics.nmi(data.y, story.assign(data.x)) > 0.85  # the gate follows the experts
    assert pc.embed(story, data.x[:5]).shape == (5, 2)


@pytest.mark.slow
def test_it_finds_them_on_the_mean_of_five_draws():
    """Measured: NMI 0.952, ARI 0.969; with seeds 20 to 27, too, 0.945 and 0.963, single draws from 0.928 to 0.966.

    The settings were chosen, with labels in view, on other draws, those of seeds 1 to 3.
    """
    scores = np.mean([on_the_papers_synthetic_set(seed)[0] for seed in range(10, 15)], axis=0)
    assert scores[2] > 0.94
    assert scores[3] > 0.96
