"""DMAE against the equations of its paper, written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

import probclust as pc
from probclust.data.synthetic import circles
from probclust.dissimilarities import Custom, Mahalanobis
from probclust.models import DMAE
from probclust.starts.augmentation import RotateAndShift
from probclust.starts.labels import KMEANS
from probclust.story.recipe import START, Run

D, K, L = 6, 3, 2
NAMES = ["mahalanobis", "squared_euclidean", "euclidean", "manhattan", "chebyshev", "minkowski", "cosine"]
QUICK = {"pretrain_epochs": 2, "epochs": 2}


def root(x, m):
    """A dissimilarity of a user's."""
    return ((x - m).abs() + 0.1).sqrt().sum(-1)


def build(kind, latent_dim=L, **settings):
    part = Custom(root, latent_dim or D, K) if kind == "custom" else kind
    story = DMAE(D, K, latent_dim, (8,), part, **settings)
    with torch.no_grad():  # parameters at which every one of them counts
        for parameter in story.dissimilarity.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        story.bias.normal_()
    return story


def by_hand(story, kind, h, theta):
    """V(h, theta) of one code and one cluster's parameters, in numpy."""
    difference = h - theta[0]
    if kind == "mahalanobis":
        return difference @ np.linalg.inv(theta[1] @ theta[1].T) @ difference
    if kind == "squared_euclidean":
        return difference @ difference
    if kind == "cosine":
        return 1 - h @ theta[0] / np.linalg.norm(h) / np.linalg.norm(theta[0])
    if kind == "custom":
        return np.sqrt(np.abs(difference) + 0.1).sum()
    p = {"manhattan": 1, "euclidean": 2, "minkowski": 3}.get(kind)
    return np.abs(difference).max() if p is None else (np.abs(difference) ** p).sum() ** (1 / p)


def equations(story, kind, x):
    """(rows, K) s and (rows,) loss, equations 8 to 13, one row after the other."""
    h = story.codec.encoder(x).detach().numpy()
    if kind == "cosine":
        h = h / np.linalg.norm(h, axis=1, keepdims=True)
    theta = [t.detach().numpy() for t in story.dissimilarity.theta]
    assignments, losses = [], []
    for row, code in zip(x.numpy(), h, strict=True):
        d = np.array([by_hand(story, kind, code, [t[k] for t in theta]) for k in range(K)])
        weights = np.exp(-story.alpha * d + story.bias.detach().numpy())
        s = weights / weights.sum()
        soft = [sum(s[k] * t[k] for k in range(K)) for t in theta]
        rebuilt = story.codec.decoder(torch.as_tensor(soft[0])).detach().numpy()
        assignments.append(s)
        losses.append(story.lambda_r * ((row - rebuilt) ** 2).sum() + story.lambda_c * by_hand(story, kind, code, soft))
    return np.array(assignments), np.array(losses)


@pytest.mark.parametrize("kind", [*NAMES, "custom"])
def test_the_log_joint_and_the_bound_are_the_papers_equations(float64, kind):
    story, x = build(kind, alpha=1.5, lambda_r=0.3, lambda_c=0.7), torch.randn(9, D)
    s, loss = equations(story, kind, x)
    constant = D / 2 * math.log(math.pi / 0.3)
    np.testing.assert_allclose(pc.responsibilities(story, x), s, rtol=1e-8)
    np.testing.assert_allclose(-pc.elbo(story, x), loss + constant, rtol=1e-8)
    np.testing.assert_allclose(pc.log_joint(story, x), np.log(s) - (loss + constant)[:, None], rtol=1e-8)
    assert np.median(s.max(1)) < 0.995  # assignments are soft enough to matter


def test_the_objective_of_training_is_the_papers_and_reaches_every_parameter(float64):
    story, x = build("mahalanobis", alpha=1.5), torch.randn(9, D)
    loss = pc.objectives.Exact().differentiable_loss(story.model, story.guide, x)
    expected = equations(story, "mahalanobis", x)[1].sum() + 9 * D / 2 * math.log(math.pi / story.lambda_r)
    assert loss.item() == pytest.approx(expected, rel=1e-8)
    loss.backward()
    for name, parameter in story.named_parameters():
        trained = not name.startswith("code_density.") and parameter.requires_grad
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == trained, name


def test_without_reconstruction_the_constant_falls_away(float64):
    story, x = build("mahalanobis", alpha=1.5, lambda_r=0.0), torch.randn(9, D)
    np.testing.assert_allclose(-pc.elbo(story, x), equations(story, "mahalanobis", x)[1], rtol=1e-8)


def test_the_shallow_variant_works_on_the_rows_themselves(float64):
    story, x = build("manhattan", latent_dim=None, alpha=0.7, lambda_r=0.2), torch.randn(9, D)
    assert {name.split(".")[0] for name, _ in story.named_parameters()} == {"bias", "dissimilarity", "code_density"}
    s, loss = equations(story, "manhattan", x)
    np.testing.assert_allclose(pc.responsibilities(story, x), s, rtol=1e-8)
    np.testing.assert_allclose(-pc.elbo(story, x), loss + D / 2 * math.log(math.pi / 0.2), rtol=1e-8)


def test_alpha_makes_assignments_sparse_but_does_not_move_them(float64):
    story, x = build("mahalanobis"), torch.randn(200, D)
    story.bias.data.zero_()
    counts, labels = [], []
    for alpha in (0.01, 1.0, 100.0, 1e6):
        story.alpha = alpha
        counts.append((pc.responsibilities(story, x) > 1e-6).sum(1).double().mean().item())
        labels.append(pc.predict(story, x))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == K
    assert counts[-1] == pytest.approx(1, abs=0.02)
    assert all(torch.equal(one, labels[0]) for one in labels)


def test_with_squared_distances_and_hard_assignments_the_clustering_term_is_k_means(float64):
    """Equation 7 with alpha to infinity: the squared distance to the nearest centre."""
    story, x = build("squared_euclidean", alpha=1e9, lambda_r=0.0), torch.randn(50, D)
    nearest = torch.cdist(story.codec.encoder(x), story.dissimilarity.loc).square().min(1)
    torch.testing.assert_close(-pc.elbo(story, x), nearest.values.detach())
    assert torch.equal(pc.predict(story, x), nearest.indices)


def test_it_reconstructs_from_the_soft_assigned_centre(float64):
    story, x = build("mahalanobis", alpha=1.5), torch.randn(9, D)
    s = torch.as_tensor(equations(story, "mahalanobis", x)[0])
    expected = story.codec.decoder(s @ story.dissimilarity.loc).detach()
    torch.testing.assert_close(pc.reconstruct(story, x), expected)
    torch.testing.assert_close(pc.embed(story, x), story.codec.encoder(x).detach())


def test_the_architecture_is_the_papers():
    sizes = [tuple(p.shape) for n, p in DMAE(784, 10).named_parameters() if n.endswith("weight")]
    assert sizes == [
        (500, 784), (500, 500), (2000, 500), (10, 2000),
        (2000, 10), (500, 2000), (500, 500), (784, 500),
    ]  # fmt: skip


def blobs(n=120):
    """(n, 6) rows of three separated clusters, and their labels."""
    torch.manual_seed(5)
    y = torch.arange(n) % K
    return torch.eye(K, D)[y] + 0.1 * torch.randn(n, D), y


@pytest.mark.parametrize("kind", [*NAMES, "custom"])
@pytest.mark.parametrize("pretraining", ["neighbours", "autoencoder"])
def test_a_fit_finds_separated_clusters(kind, pretraining):
    x, y = blobs()
    part = Custom(root, 3, K) if kind == "custom" else kind
    story = DMAE(D, K, 3, (16,), part)
    record = pc.fit(story, x, recipe={"pretraining": pretraining, "pretrain_epochs": 30, "epochs": 3})
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > 0.97
    assert [step["step"] for step in record.history] == ["pre-train"] * 30 + ["svi"] * 3
    assert record.history[-1]["loss"] <= record.history[-3]["loss"]
    assert record.bound == pytest.approx(pc.elbo(story, x).mean().item(), rel=1e-5)
    if kind == "custom":
        with pytest.raises(ValueError, match="Custom has no normaliser"):
            pc.sample(story, 3)
        with pytest.raises(ValueError, match="Custom has no normaliser"):
            story.fit_codes(x)
    else:
        draws = pc.sample(story, 60, cluster=1, seed=0)
        assert (story.log_assignments(draws["h"]).argmax(1) == 1).float().mean() > 0.9


def test_the_shallow_fit_needs_no_pretraining():
    x, y = blobs()
    story = DMAE(D, K, None, dissimilarity="manhattan")
    pc.fit(story, x, recipe={"epochs": 20, "learning_rate": 1e-3})
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > 0.97
    with pytest.raises(ValueError, match="latent_dim=None leaves nothing to pre-train"):
        story.recipe(pretraining="neighbours")


def test_parameters_start_from_the_clusters_codes_at_unit_scale():
    x, y = blobs()
    story = DMAE(D, K, L, (8,))
    before = story.codec.decoder(story.codec.encoder(x))
    story._set_parameters(Run(story, x, None, 0, {START: y}))
    codes = story.codec.encoder(x).detach()
    assert codes.std().item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(story.codec.decoder(story.codec.encoder(x)), before)
    loc, factor = (t.detach() for t in story.dissimilarity.theta)
    for k in range(K):
        own = codes[y == k]
        torch.testing.assert_close(loc[k], own.mean(0))
        ridge = (0.0101 * story.dissimilarity.unit).square().diag()
        torch.testing.assert_close(factor[k] @ factor[k].T, own.T.cov(correction=0) + ridge, rtol=1e-3, atol=1e-5)


def test_samples_come_from_a_density_of_each_clusters_codes():
    x, _ = blobs(600)
    story = DMAE(D, K, L, (8,))
    with pytest.raises(ValueError, match=r"call story\.fit_codes"):
        pc.sample(story, 3)
    story._set_parameters(Run(story, x, None, 0, {START: torch.arange(600) % K}))
    story.fit_codes(x)
    labels, codes = pc.predict(story, x), pc.embed(story, x)
    k = int(labels.bincount(minlength=K).argmax())
    own, draws = codes[labels == k], pc.sample(story, 5000, cluster=k, seed=0)
    assert draws["cluster"].unique().tolist() == [k]
    error = (own.var(0) / 5000).sqrt()
    assert ((draws["h"].mean(0) - own.mean(0)).abs() < 5 * error).all()  # false alarm below 1e-5
    torch.testing.assert_close(draws["h"].T.cov(), own.T.cov(), rtol=0.15, atol=0.15 * own.var(0).max().item())
    noise = draws["x"] - story.codec.decoder(draws["h"]).detach()
    missed = (x - story.codec.decoder(codes).detach()).square().mean().sqrt().item()
    assert noise.std().item() == pytest.approx(missed, rel=0.03)
    shares = pc.sample(story, 5000, seed=1)["cluster"].bincount(minlength=K) / 5000
    assert (shares - labels.bincount(minlength=K) / 600).abs().max() < 0.036  # five standard errors


def test_augmentation_is_for_pretraining():
    seen = []

    def augment(rows):
        seen.append(len(rows))
        return RotateAndShift((2, 3))(rows)

    x, _ = blobs()
    story = DMAE(D, K, L, (8,))
    pc.fit(story, x, recipe={**QUICK, "augment": augment})
    assert sum(seen) == 2 * 2 * 120  # rows and their neighbours, in each of 2 epochs
    seen.clear()
    pc.fit(story, x, recipe={**QUICK, "pretraining": "autoencoder", "augment": augment})
    assert sum(seen) == 2 * 120
    with pytest.raises(ValueError, match="'fourier' takes no augment"):
        story.recipe(pretraining="fourier", augment=augment)
    for pretraining in ("fourier", "neighbours"):
        with pytest.raises(ValueError, match="epochs must be an integer of at least 1"):
            story.recipe(pretraining=pretraining, pretrain_epochs=0)


def test_known_clusters_are_learned():
    x, y = blobs()
    wanted = (y + 1) % K
    known = torch.where(torch.arange(120) < 30, wanted, -1)
    story = DMAE(D, K, 3, (16,))
    pc.fit(story, x, known, recipe={"pretrain_epochs": 20, "epochs": 5})
    assert (pc.predict(story, x) == wanted).float().mean() > 0.9


def test_two_circles_are_told_apart_from_fourier_features():
    """Supplement 7.1, with fewer rows and smaller networks; the ring lies around the spot, so k-means on x cuts it."""
    data = circles(600, ratio=0.1, scale=0.1)
    assert pc.metrics.accuracy(data.y, KMeans(2, n_init=5, random_state=0).fit_predict(data.x)) < 0.8
    story = DMAE(2, 2, 60, (64, 64))
    torch.manual_seed(0)
    recipe = {"pretraining": "fourier", "pretrain_epochs": 60, "epochs": 5}
    pc.fit(story, data.x, recipe=recipe, batch_size=100)
    assert pc.metrics.accuracy(data.y, pc.predict(story, data.x)) > 0.95


def test_on_digits_the_fit_betters_its_start():
    data = pc.data.load("digits")
    x, y = data.x[:800], data.y[:800]
    story = DMAE(64, 10, hidden=(64,))
    torch.manual_seed(0)
    record = pc.fit(story, x)
    start = pc.metrics.accuracy(y, record.memory[KMEANS])
    assert start > 0.7
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > start


def test_a_part_is_saved_with_the_story(tmp_path):
    x, _ = blobs()
    story = DMAE(D, K, L, (8,), Mahalanobis(L, K, floor=0.05), activation="swish")
    pc.fit(story, x, recipe=QUICK)
    pc.save(story, tmp_path / "story")
    loaded = pc.load(tmp_path / "story")
    assert torch.equal(pc.log_joint(loaded, x), pc.log_joint(story, x))
    assert torch.equal(pc.sample(loaded, 5, seed=0)["x"], pc.sample(story, 5, seed=0)["x"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": 0.0}, "alpha must be a positive number, got 0"),
        ({"lambda_r": -1.0}, "lambda_r must be a number of at least 0, got -1"),
        ({"lambda_c": math.nan}, "lambda_c must be a number of at least 0, got nan"),
        ({"activation": "tanh"}, "activation must be one of"),
        ({"dissimilarity": Mahalanobis(D, K)}, f"must be built for n_features={L}"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        DMAE(D, K, L, (8,), **wrong)


def test_wrong_pretraining_is_refused():
    with pytest.raises(ValueError, match="pretraining must be"):
        DMAE(D, K, L, (8,)).recipe(pretraining="stacked")
