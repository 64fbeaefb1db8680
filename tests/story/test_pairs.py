"""Must-link and cannot-link pairs: their penalty by hand, and what it does to a fit."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate

import probclust as pc
from probclust.objectives.penalties import pair_penalty
from tests.support.stories import CASES

pytestmark = pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")


@pytest.mark.usefixtures("float64")
def test_the_penalty_and_its_gradient_are_those_by_hand():
    table = torch.randn(6, 4, requires_grad=True)
    is_must = torch.tensor([True, False, True])
    r = table.softmax(1)
    same = [sum(r[i, k] * r[i + 3, k] for k in range(4)) for i in range(3)]
    expected = -(same[0].log() + (1 - same[1]).log() + same[2].log()) / 3
    found = pair_penalty(table, is_must)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, table), torch.autograd.grad(expected, table))
    assert torch.autograd.gradcheck(lambda t: pair_penalty(t, is_must), table)


def test_rows_sure_of_one_cluster_still_feel_a_cannot_link():
    table = torch.tensor([[90.0, 0.0], [95.0, 0.0]], requires_grad=True)
    penalty = pair_penalty(table, torch.tensor([False]))
    assert penalty.item() == pytest.approx(90 - math.log1p(math.exp(-5)), abs=1e-4)  # 1 - r_i . r_j = e^-90 + e^-95
    (gradient,) = torch.autograd.grad(penalty, table)
    assert gradient[0].tolist() == pytest.approx([1 / (1 + math.exp(-5)), -1 / (1 + math.exp(-5))], abs=1e-3)


def square(n=40):
    """Four blobs at the corners of a wide rectangle: two clusters are left and right, or, if told, top and bottom."""
    rng = np.random.default_rng(0)
    corners = np.array([[-2.0, -1.0], [-2.0, 1.0], [2.0, -1.0], [2.0, 1.0]])
    corner = np.repeat(np.arange(4), n)
    return (corners[corner] + 0.3 * rng.normal(size=(4 * n, 2))).astype(np.float32), corner


def mixture():
    torch.manual_seed(0)
    story = pc.models.GaussianMixture(2, 2)
    with torch.no_grad():
        story.loc.copy_(torch.tensor([[-1.0, -0.2], [1.0, 0.2]]))
    return story


SETTINGS = {"recipe": [pc.SVI(epochs=60, learning_rate=0.05)], "batch_size": 40, "seed": 0}


def test_pairs_decide_between_two_ways_to_cut():
    x, corner = square()
    alone = mixture()
    pc.fit(alone, x, **SETTINGS)
    assert pc.metrics.accuracy(corner // 2, pc.predict(alone, x).numpy()) == 1  # left and right
    rng = np.random.default_rng(1)
    must = [(rng.integers(40), 80 + rng.integers(40)) for _ in range(5)]  # bottom left, bottom right
    must += [(40 + rng.integers(40), 120 + rng.integers(40)) for _ in range(5)]
    cannot = [(rng.integers(40), 40 + rng.integers(40)) for _ in range(5)]
    pairs = pc.Pairs(must, cannot, weight=5)
    assert pairs.kept(pc.predict(alone, x)) == 0
    told = mixture()
    record = pc.fit(told, x, pairs=pairs, **SETTINGS)
    assert pairs.kept(pc.predict(told, x)) == 1
    assert (
        pc.metrics.accuracy(corner % 2, pc.predict(told, x).numpy()) > 0.98
    )  # top and bottom: all rows, not the pairs'
    assert record.history[-1]["terms"]["pairs"] > -0.1
    assert record.settings["pairs"]["weight"] == 5


def test_a_batch_draws_pairs_evenly_and_a_large_one_takes_all():
    pairs = pc.Pairs(must=[(0, 1), (2, 3)], cannot=[(4, 5)])
    rows, is_must = pairs.draw(10)
    assert rows.tolist() == [0, 2, 4, 1, 3, 5]
    assert is_must.tolist() == [True, True, False]
    drawn = torch.cat([pairs.draw(2)[0][:2] for _ in range(1500)])
    share = drawn.bincount()[[0, 2, 4]] / 3000
    torch.testing.assert_close(share, torch.full((3,), 1 / 3), atol=0.04, rtol=0)  # 4.6 standard errors


@pytest.mark.parametrize(
    ("case", "objective"),
    [(case, "exact") for case in CASES] + [(CASES[2], other) for other in ("hard", "amortised", "importance")],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_story_and_objective_takes_pairs(case, objective):
    story, x = case.build(), case.rows(20)
    pairs = pc.Pairs(must=[(0, 1)], cannot=[(2, 3), (4, 5)])
    record = pc.fit(story, x, pairs=pairs, recipe=[pc.SVI(epochs=2)], objective=objective, batch_size=7)
    assert math.isfinite(record.bound)
    assert record.history[-1]["terms"]["pairs"] < 0


def test_pyros_own_elbo_takes_pairs_too():
    x, _ = square(5)
    pairs = pc.Pairs(must=[(0, 1), (2, 3)], cannot=[(0, 15)])
    losses = []
    for objective in ("exact", TraceEnum_ELBO(max_plate_nesting=1)):
        story = mixture()
        story.model = config_enumerate(story.model)
        record = pc.fit(story, x, pairs=pairs, recipe=[pc.SVI(epochs=3)], objective=objective, batch_size=4)
        losses.append(record.losses())
    np.testing.assert_allclose(*losses, rtol=1e-5)
    without = pc.fit(mixture(), x, recipe=[pc.SVI(epochs=3)], batch_size=4)
    assert abs(without.losses()[0] - losses[0][0]) > 0.01


class Stop(Exception):
    pass


def test_a_stopped_fit_with_pairs_resumes_to_the_same_end(tmp_path):
    x, _ = square()
    pairs = pc.Pairs(must=[(0, 90), (50, 130)], cannot=[(1, 41)])

    def run(path, stop_at=None, resume=False):
        story, steps = mixture(), [pc.SVI(epochs=4, learning_rate=0.05)]

        class Stopping(pc.SVI):
            def before(self, run, n_batches):
                if n_batches == stop_at:
                    raise Stop
                return False

        if stop_at is not None:
            steps = [Stopping(epochs=4, learning_rate=0.05)]
        pc.fit(story, x, pairs=pairs, recipe=steps, batch_size=40, checkpoint=path, resume=resume)
        return story.state_dict()

    whole = run(tmp_path / "whole")
    with pytest.raises(Stop):
        run(tmp_path / "part", stop_at=9)
    resumed = run(tmp_path / "part", resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(ValueError, match="pairs: expected"):
        pc.fit(
            mixture(),
            x,
            checkpoint=tmp_path / "part",
            resume=True,
            recipe=[pc.SVI(epochs=4, learning_rate=0.05)],
            batch_size=40,
        )


def test_known_clusters_and_pairs_go_together():
    x, corner = square()
    y = np.full(len(x), -1)
    y[0], y[40] = 1, 0
    pairs = pc.Pairs(must=[(k, 80 + k) for k in range(10)] + [(40 + k, 120 + k) for k in range(10)], weight=5)
    story = mixture()
    with torch.no_grad():
        story.loc.copy_(torch.tensor([[0.0, 0.5], [0.0, -0.5]]))
    pc.fit(story, x, y, pairs=pairs, **SETTINGS)
    assert (pc.predict(story, x).numpy() == 1 - corner % 2).mean() > 0.98


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({0: 0, 2: 1}, r"y has row \d in cluster \d and a row that must-links join to it in cluster \d"),
        ({0: 1, 4: 1}, r"cannot-link \[4, 2\] contradicts y, which has its rows in cluster 1"),
        ({0: 0, 4: 1}, None),
        ({1: 1, 3: 1, 5: 0}, None),
    ],
)
def test_pairs_that_contradict_known_clusters_are_refused(known, message):
    """Rows 0, 1 and 2 are joined, and row 4 is apart from them; rows 3 and 5 are in no pair."""
    x, _ = square(2)
    y = np.full(len(x), -1)
    y[list(known)] = list(known.values())
    pairs = pc.Pairs(must=[(0, 1), (1, 2)], cannot=[(4, 2)])
    settings = {"recipe": [pc.SVI(epochs=1)], "pairs": pairs}
    if message is None:
        pc.fit(mixture(), x, y, **settings)
        return
    with pytest.raises(ValueError, match=message):
        pc.fit(mixture(), x, y, **settings)


def test_contradictions_and_wrong_pairs_are_refused():
    with pytest.raises(ValueError, match=r"cannot-link \[0, 2\] contradicts the must-links"):
        pc.Pairs(must=[(0, 1), (1, 2)], cannot=[(3, 4), (0, 2)])
    with pytest.raises(ValueError, match="row 3 with itself"):
        pc.Pairs(must=[(3, 3)])
    with pytest.raises(ValueError, match="at least one pair"):
        pc.Pairs()
    with pytest.raises(ValueError, match=r"shape \(pairs, 2\), got shape \(3,\)"):
        pc.Pairs(must=[1, 2, 3])
    with pytest.raises(TypeError, match="row numbers, got dtype float"):
        pc.Pairs(cannot=[(0.5, 1.0)])
    with pytest.raises(ValueError, match="from 0, got -1"):
        pc.Pairs(cannot=[(-1, 1)])
    with pytest.raises(ValueError, match="weight must be a positive number, got 0"):
        pc.Pairs(must=[(0, 1)], weight=0)
    x, _ = square(5)
    with pytest.raises(ValueError, match=r"rows 0\.\.19, got 20"):
        pc.fit(mixture(), x, pairs=pc.Pairs(must=[(0, 20)]))
    with pytest.raises(TypeError, match=r"must be probclust\.Pairs"):
        pc.fit(mixture(), x, pairs=[(0, 1)])
    with pytest.raises(ValueError, match="a story of one cluster"):
        pc.fit(pc.models.GaussianMixture(2, 1), x, pairs=pc.Pairs(cannot=[(0, 1)]))
    with pytest.raises(ValueError, match="SVI steps keep to pairs, and this recipe has none"):
        pc.fit(pc.models.DEC(2, 2, hidden=(4,)), x, pairs=pc.Pairs(must=[(0, 1)]))


def test_without_pairs_nothing_is_drawn():
    """The fits of before, bit for bit: pairs take no random number where there are none."""
    x, _ = square(10)
    states = []
    for _ in range(2):
        story = mixture()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pc.fit(story, x, pairs=None, recipe=[pc.SVI(epochs=2)])
        states.append(story.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
