"""Scores of rows: what they mean, that they repeat, and that they leave nothing behind."""

from __future__ import annotations

import copy
import gc
import math
import time

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import probclust as pc
from probclust.distributions.diagonal_normal import HALF_LOG_2PI
from probclust.story import chunks
from probclust.story.chunks import evaluating
from probclust.story.scoring import log_weights
from tests.support.stories import CASE_NAMES, CASES, LATENT, FactorAnalysers, Poissons

SCORES = {
    "log_joint": pc.log_joint,
    "log_joint of draws": lambda story, x: pc.log_joint(story, x, particles=2),
    "responsibilities": pc.responsibilities,
    "predict": pc.predict,
    "elbo": pc.elbo,
    "log_likelihood": lambda story, x: pc.log_likelihood(story, x, particles=3),
    "reconstruct": pc.reconstruct,
    "embed": pc.embed,
}
score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
every_case = pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)


@every_case
def test_one_table_gives_responsibilities_and_predictions(case):
    story, x = case.build(), case.rows()
    table = pc.log_joint(story, x)
    assert table.shape == (len(x), 3)
    torch.testing.assert_close(pc.responsibilities(story, x), table.softmax(1))
    assert torch.equal(pc.predict(story, x), table.argmax(1))


@score
@every_case
def test_scores_repeat_and_leave_nothing_behind(case, score):
    story, x = case.build(), case.rows()
    story.train()
    random, weights = torch.get_rng_state(), copy.deepcopy(story.state_dict())
    first = score(story, x)
    assert torch.equal(torch.get_rng_state(), random), "the caller's random state moved"
    torch.manual_seed(123)
    assert torch.equal(score(story, x), first), "the score depends on the caller's random state"
    assert not first.requires_grad
    assert story.training
    assert all(parameter.grad is None for parameter in story.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in story.state_dict().items())


@pytest.mark.parametrize("name", ["log_joint", "responsibilities", "predict", "reconstruct", "embed"])
@every_case
def test_deterministic_scores_do_not_depend_on_the_chunks(case, name, monkeypatch):
    story, x = case.build(), case.rows(23)
    whole = SCORES[name](story, x)
    for rows_per_chunk in (1, 5, 22):
        monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", rows_per_chunk * 3 * 64)
        assert len(list(chunks.chunks(story, x))) == math.ceil(23 / rows_per_chunk)
        torch.testing.assert_close(SCORES[name](story, x), whole)


@pytest.mark.parametrize("name", ["elbo", "log_likelihood"])
def test_bounds_of_stories_without_latents_do_not_depend_on_the_chunks(name, monkeypatch):
    story, x = Poissons(4, 3), torch.poisson(torch.full((23, 4), 2.0))
    whole = SCORES[name](story, x)
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", 5 * 3 * 64)
    torch.testing.assert_close(SCORES[name](story, x), whole)


def test_chunks_bound_the_memory_of_many_rows():
    """What is alive in a pass is bounded by the chunk, not by the rows."""
    sizes = []

    class Watched(FactorAnalysers):
        def model(self, x):
            sizes.append(len(x))
            super().model(x)

    story, x = Watched(4, 3), torch.randn(200_000, 4)
    pc.log_joint(story, x[:10])  # checks the contract, once
    sizes.clear()
    pc.log_joint(story, x)
    assert max(sizes) * 3 * 64 <= chunks.CHUNK_ELEMENTS
    assert sum(sizes) == 200_000


def test_memory_does_not_grow_over_calls():
    story, x = FactorAnalysers(4, 3), torch.randn(20, 4)

    def objects_after(calls):
        for _ in range(calls):
            pc.log_likelihood(story, x, particles=2)
        gc.collect()
        return len(gc.get_objects())

    objects_after(3)
    assert objects_after(20) - objects_after(3) in range(-50, 50)


@every_case
def test_bounds_without_local_latents_are_exact(case):
    story, x = case.build(), case.rows()
    if case.name in LATENT or case.name == "bayesian-normal":
        assert not torch.equal(pc.elbo(story, x, seed=0), pc.elbo(story, x, seed=1))
        return
    exact = pc.log_joint(story, x).logsumexp(1)
    torch.testing.assert_close(pc.elbo(story, x), exact)
    torch.testing.assert_close(pc.log_likelihood(story, x), exact)


@pytest.mark.usefixtures("float64")
def test_bounds_are_what_they_say_of_their_draws():
    story, x = FactorAnalysers(4, 3), torch.randn(6, 4)
    torch.manual_seed(5)
    with torch.no_grad():
        draws = torch.stack([_draw(story, x) for _ in range(4)])
    torch.testing.assert_close(pc.elbo(story, x, particles=4, seed=5), draws.logsumexp(2).mean(0))
    weighted = draws.logsumexp(2).logsumexp(0) - math.log(4)
    torch.testing.assert_close(pc.log_likelihood(story, x, particles=4, seed=5), weighted)
    torch.testing.assert_close(pc.log_joint(story, x, particles=4, seed=5), draws.mean(0))


def _draw(story, x):
    """(rows, K) under one draw of z for each row and cluster, with torch's distributions only."""
    columns = []
    noise = torch.randn(3, len(x), 2)
    for k in range(3):
        loc, scale = (x - story.loc[k]) @ story.encoder[k].T, story.log_scale[k].exp()
        z = loc + scale * noise[k]
        log_p_x = torch.distributions.Normal(story.loc[k] + z @ story.loading[k].T, story.log_noise.exp()).log_prob(x)
        log_p_z = torch.distributions.Normal(0.0, 1.0).log_prob(z)
        log_q = torch.distributions.Normal(loc, scale).log_prob(z)
        columns.append(story.logits.log_softmax(0)[k] + log_p_x.sum(1) + (log_p_z - log_q).sum(1))
    return torch.stack(columns, 1)


def test_scoring_uses_evaluation_mode_and_restores_each_module():
    class Dropped(Poissons):
        def __init__(self, n_features, n_clusters):
            super().__init__(n_features, n_clusters)
            self.dropout, self.frozen = nn.Dropout(0.5), nn.Dropout(0.5)
            self.modes = []

        def model(self, x):
            self.modes.append(self.dropout.training)
            super().model(x)

    story, x = Dropped(4, 3), torch.ones(5, 4)
    pc.log_joint(story, x)
    story.train()
    story.frozen.eval()
    story.modes.clear()
    pc.log_joint(story, x)
    assert not any(story.modes)
    assert [story.training, story.dropout.training, story.frozen.training] == [True, True, False]
    story.eval()
    pc.log_joint(story, x)
    assert not story.dropout.training


@score
def test_rows_of_another_width_are_refused(score):
    with pytest.raises(ValueError, match="expected 4 features, got 3"):
        score(Poissons(4, 3), torch.ones(5, 3))


@pytest.mark.parametrize("particles", [0, -2, 1.5, True, "2"])
@pytest.mark.parametrize("use", [pc.log_joint, pc.elbo, pc.log_likelihood])
def test_particles_must_count(use, particles):
    with pytest.raises(ValueError, match="particles must be an integer of at least 1"):
        use(Poissons(4, 3), torch.ones(5, 4), particles=particles)


def test_any_table_is_taken_and_cast():
    story, x = FactorAnalysers(4, 3), torch.randn(6, 4)
    expected = pc.log_joint(story, x)
    assert torch.equal(pc.log_joint(story, x.double().numpy()), expected)
    assert torch.equal(pc.log_joint(story, x.tolist()), expected)
    double = pc.log_joint(copy.deepcopy(story).double(), x)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double, expected.double(), rtol=1e-5, atol=1e-4)


def test_a_weight_of_zero_is_no_error():
    story = Poissons(4, 3)
    story.logits.data = torch.tensor([0.0, 1.0, -math.inf])
    table = pc.log_joint(story, torch.ones(5, 4))
    assert (table[:, 2] == -math.inf).all()
    assert torch.isfinite(table.logsumexp(1)).all()


def test_one_row_and_one_cluster():
    story = FactorAnalysers(4, 1)
    assert pc.responsibilities(story, torch.randn(1, 4)).tolist() == [[1.0]]


class PointOfADraw(pc.Story):
    """z ~ N(0, 1), w ~ N(z, 1/2), x ~ N(w, 1); the guide has a point for w given z."""

    def __init__(self, wrapped=False):
        super().__init__(n_features=1, n_clusters=2)
        self.wrapped = wrapped

    def model(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("cluster", dist.Categorical(torch.ones(2)))
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            w = pyro.sample("w", dist.Normal(z, 0.5).to_event(1))
            pyro.sample("x", dist.Normal(w, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.4 * x, 0.9).to_event(1))
            point = 0.8 * z + 0.2 * x
            pyro.sample("w", dist.Delta(point).to_event(1) if self.wrapped else dist.Delta(point, event_dim=1))


class FactorOfADraw(PointOfADraw):
    """The guide's z is drawn, and its density corrected by a factor: the same q."""

    def guide(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.4 * x, 1.8).to_event(1))
            right = dist.Normal(0.4 * x, 0.9).to_event(1).log_prob(z)
            pyro.factor("right", right - dist.Normal(0.4 * x, 1.8).to_event(1).log_prob(z), has_rsample=True)
            pyro.sample("w", dist.Delta(0.8 * z + 0.2 * x, event_dim=1))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_point_given_a_draw_follows_the_draw(wrapped):
    """Against the closed form of the bound, within 6 standard errors of 4,000 draws."""
    story, x = PointOfADraw(wrapped), torch.tensor([[0.0], [2.0]])
    mean, var = 0.4 * x[:, 0], 0.81
    w_mean, w_var = 0.8 * mean + 0.2 * x[:, 0], 0.64 * var
    gap = (w_mean - mean) ** 2 + 0.04 * var  # E (w - z)^2
    bound = (
        -0.5 * (mean**2 + var) - 0.5 * gap / 0.25 - math.log(0.5) - 0.5 * ((x[:, 0] - w_mean) ** 2 + w_var)
        - 3 * HALF_LOG_2PI + HALF_LOG_2PI + math.log(0.9) + 0.5
    )  # fmt: skip
    particles = 4000
    found = pc.elbo(story, x, particles=particles, seed=0)
    draws = torch.stack([pc.elbo(story, x, seed=s) for s in range(100)])
    error = draws.std(0) / math.sqrt(particles)
    assert ((found - bound).abs() < 6 * error).all(), (found, bound, error)
    tight = pc.log_likelihood(story, x, particles=particles)
    assert (tight > bound + 0.01).all()


def test_a_factor_of_the_guide_counts_at_every_draw():
    torch.manual_seed(0)
    x = torch.tensor([[0.0], [2.0]])
    z = 0.4 * x + 1.8 * torch.randn(200_000, 2, 1)
    w = 0.8 * z + 0.2 * x
    normal = torch.distributions.Normal
    log_q = normal(0.4 * x, 0.9).log_prob(z)
    weight = (
        normal(0.0, 1.0).log_prob(z) + normal(z, 0.5).log_prob(w) + normal(w, 1.0).log_prob(x) - log_q
    )[..., 0]  # fmt: skip
    found = pc.elbo(FactorOfADraw(), x, particles=20_000, seed=0)
    error = weight.std(0) * math.sqrt(1 / 20_000 + 1 / 200_000)
    assert ((found - weight.mean(0)).abs() < 6 * error).all()


def test_many_draws_of_few_rows_take_no_second():
    story, x = pc.models.VaDE(20, 3, latent_dim=2, hidden=(8,)), torch.randn(10, 20)
    pc.log_likelihood(story, x, particles=2)
    times = []
    for _ in range(3):
        start = time.process_time()
        pc.log_likelihood(story, x, particles=10_000)
        times.append(time.process_time() - start)
    assert min(times) < 1, times


def test_draws_made_together_are_draws_like_those_made_one_by_one(monkeypatch):
    """The means of 1,000 of each agree within 6 standard errors."""
    story, x = FactorAnalysers(4, 3), torch.randn(6, 4)
    together = torch.stack(list(_weights(story, x, 1000)))
    monkeypatch.setattr("probclust.story.scoring.FEW_ROWS", 1)
    singly = torch.stack(list(_weights(story, x, 1000)))
    error = (together.var(0) / 1000 + singly.var(0) / 1000).sqrt()
    assert ((together.mean(0) - singly.mean(0)).abs() < 6 * error).all()
    assert not torch.equal(together, singly)


def _weights(story, x, particles):
    with evaluating(story, 0):
        yield from log_weights(story, x, particles)
