"""Self-training: the kernel, the target and the divergence by their formulas, and when the target is renewed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import t as student

import probclust as pc
from probclust.starts.self_training import (
    SelfTraining,
    divergence,
    student_t,
    target_distribution,
)
from probclust.story.recipe import Run


@pytest.fixture
def log_q(float64):
    """(20, 3) log assignments of unequal clusters."""
    return (2 * torch.randn(20, 3) + torch.tensor([0.0, 1.0, -1.0])).log_softmax(1)


def test_assignments_by_the_papers_formula(float64):
    codes, centres = torch.randn(7, 4), torch.randn(3, 4)
    expected = np.empty((7, 3))
    for i, j in itertools.product(range(7), range(3)):
        expected[i, j] = 1 / (1 + sum((float(a) - float(b)) ** 2 for a, b in zip(codes[i], centres[j], strict=True)))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(student_t(codes, centres).exp(), expected, rtol=1e-12)


def test_assignments_are_students_density_with_one_degree_of_freedom(float64):
    codes, centres = torch.randn(7, 1), torch.randn(3, 1)
    density = student(df=1).pdf(codes.numpy() - centres.numpy().T)
    np.testing.assert_allclose(student_t(codes, centres).exp(), density / density.sum(1, keepdims=True), rtol=1e-12)


def test_target_by_the_papers_formula(log_q):
    q = log_q.exp().numpy()
    expected = np.empty_like(q)
    for i, j in itertools.product(range(20), range(3)):
        expected[i, j] = (q[i, j] ** 2 / q[:, j].sum()) / sum(q[i, m] ** 2 / q[:, m].sum() for m in range(3))
    np.testing.assert_allclose(target_distribution(log_q), expected, rtol=1e-12)
    frequency = log_q.logsumexp(0) - math.log(20)  # up to a constant
    np.testing.assert_allclose(target_distribution(log_q[:5], frequency), expected[:5], rtol=1e-12)


def test_divergence_by_its_formula(log_q):
    target = target_distribution(log_q)
    expected = [
        sum(p * (math.log(p) - float(log_q[i, j])) for j, p in enumerate(target[i].tolist())) for i in range(20)
    ]
    np.testing.assert_allclose(divergence(target, log_q), expected, rtol=1e-10)
    assert divergence(torch.tensor([[0.0, 1.0]]), torch.tensor([[-1.0, -2.0]])).item() == 2.0


def test_gradients_are_the_papers(float64):
    """Equations 9 and 10 of IDEC, against automatic differentiation."""
    z, mu = torch.randn(6, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    q = student_t(z, mu).exp().detach()
    p = target_distribution(torch.randn(6, 3).log_softmax(1))
    divergence(p, student_t(z, mu)).sum().backward()
    difference = (z[:, None] - mu).detach()
    kernel = 1 / (1 + difference.square().sum(-1))
    torch.testing.assert_close(z.grad, 2 * ((kernel * (p - q))[..., None] * difference).sum(1))
    torch.testing.assert_close(mu.grad, 2 * ((kernel * (q - p))[..., None] * difference).sum(0))


class Drift:
    """Assignments of 100 rows of which a given share changes cluster at each renewal."""

    def __init__(self, *shares):
        self.labels, self.shares, self.seen = torch.arange(100) % 2, iter(shares), []

    def __call__(self, x):
        self.seen.append(len(x))
        share = next(self.shares, 0.0) if len(self.seen) > 1 else 0.0
        change = torch.arange(100) < 100 * share
        self.labels = torch.where(change, 1 - self.labels, self.labels)
        return torch.nn.functional.one_hot(self.labels, 2).float().log_softmax(1)


def renewals(step, n_batches):
    """The batches before which the step renews its target, and the one before which it ends."""
    run, renewed = Run(None, torch.zeros(100, 4), None, 0), []
    for number in range(n_batches):
        before = run.memory.get("target")
        ended = step.before(run, number)
        if run.memory.target is not before:
            renewed.append(number)
        if ended:
            return renewed, number
    return renewed, None


def test_the_target_is_renewed_every_so_many_batches_on_all_rows():
    assign = Drift(*[0.5] * 20)
    assert renewals(SelfTraining(name="s", assign=assign, interval=7), 30) == ([0, 7, 14, 21, 28], None)
    assert set(assign.seen) == {100}


@pytest.mark.parametrize(("batch_size", "every"), [(1, 50), (2, 30), (256, 30)])  # 100, 50 and 1 batches an epoch
def test_the_target_is_renewed_twice_an_epoch_and_not_before_30_batches_where_nothing_is_said(batch_size, every):
    step = SelfTraining(name="s", assign=Drift(*[0.5] * 20), batch_size=batch_size)
    assert renewals(step, 101) == (list(range(0, 101, every)), None)


def test_the_step_ends_once_fewer_than_delta_of_the_labels_change():
    def step(delta):
        return SelfTraining(name="s", assign=Drift(0.5, 0.05, 0.02, 0.0), interval=5, delta=delta)

    assert renewals(step(0.02), 50) == ([0, 5, 10, 15, 20], 20)  # 2% is not fewer than 2%
    assert renewals(step(0.03), 50) == ([0, 5, 10, 15], 15)
    assert renewals(step(0.0), 22) == ([0, 5, 10, 15, 20], None)


def test_known_rows_have_their_cluster_for_target():
    y = torch.full((100,), -1)
    y[:3] = torch.tensor([1, 1, 0])
    run = Run(None, torch.zeros(100, 4), y, 0)
    SelfTraining(name="s", assign=Drift()).before(run, 0)
    assert run.memory.target[:3].tolist() == [[0, 1], [0, 1], [1, 0]]
    assert run.memory.target[3:].min() > 0


@pytest.mark.parametrize(
    "wrong",
    [{"interval": 0}, {"interval": 2.5}, {"batch_size": 0}, {"batch_size": None}, {"delta": -0.1}, {"delta": 2}],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must"):
        SelfTraining(name="s", assign=Drift(), **wrong)


class Means(pc.models.GaussianMixture):
    """A story with a loss of its own, trained towards a target; it stops itself after a few batches."""

    def step(self, **settings):
        def loss(batch):
            return divergence(batch.run.memory.target[batch.index], self.assign(batch.x)).mean()

        return SelfTraining(name="s", assign=self.assign, loss=loss, batch_size=10, **settings)

    def assign(self, x):
        return student_t(x, self.loc)


def test_a_step_that_ends_itself_ends_the_epoch_and_says_so():
    """100 rows in batches of 10: with delta=1 the second renewal ends the step, whatever changed."""
    for interval, epochs, ended in ((7, 1, True), (10, 1, None), (14, 2, True)):
        story = Means(4, 3, "spherical")
        record = pc.fit(story, torch.randn(100, 4), recipe=[story.step(interval=interval, delta=1.0, epochs=5)])
        assert len(record.history) == epochs
        assert record.history[-1].get("ended") is ended
        assert all(math.isfinite(entry["loss"]) for entry in record.history)
        assert record.memory["target labels"].shape == (100,)
        assert record.settings["steps"][0]["interval"] == interval
