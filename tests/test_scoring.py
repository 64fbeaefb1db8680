"""Scores of rows: what they mean, that they repeat, and that they leave nothing behind."""

from __future__ import annotations

import copy
import gc
import math

import pytest
import torch
from stories import CASE_NAMES, CASES, LATENT, FactorAnalysers, Poissons
from torch import nn

import probclust as pc
from probclust import rows

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
        monkeypatch.setattr(rows, "CHUNK_ELEMENTS", rows_per_chunk * 3 * 64)
        assert len(list(rows.chunks(story, x))) == math.ceil(23 / rows_per_chunk)
        torch.testing.assert_close(SCORES[name](story, x), whole)


@pytest.mark.parametrize("name", ["elbo", "log_likelihood"])
def test_bounds_of_stories_without_latents_do_not_depend_on_the_chunks(name, monkeypatch):
    story, x = Poissons(4, 3), torch.poisson(torch.full((23, 4), 2.0))
    whole = SCORES[name](story, x)
    monkeypatch.setattr(rows, "CHUNK_ELEMENTS", 5 * 3 * 64)
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
    assert max(sizes) * 3 * 64 <= rows.CHUNK_ELEMENTS
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
