"""DGG: the divergence by hand, what is added to the bound, and VaDE where the weight is 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.spatial.distance import jensenshannon

import probclust as pc
from probclust.models import DGG, VaDE
from probclust.objectives.bounds import Exact
from probclust.objectives.linked import Linked, jensen_shannon
from probclust.starts.labels import NEIGHBOURS
from probclust.story.joint import trace_joint
from probclust.story.recipe import START, SVI, Compute, Run

SMALL = {"latent_dim": 2, "hidden": (16,)}
SHORT = {"pretrain_epochs": 2, "fit_epochs": 2, "epochs": 1}


def blobs(noise=0.1):
    y = torch.arange(240) % 3
    return (torch.eye(3, 6)[y] + noise * torch.randn(240, 6)).float(), y


def test_the_divergence_is_scipys():
    first, second = torch.randn(2, 7, 4).double()
    expected = [jensenshannon(p, q) ** 2 for p, q in zip(first.softmax(1), second.softmax(1), strict=True)]
    np.testing.assert_allclose(jensen_shannon(first, second), expected)


def test_the_divergence_is_finite_with_its_gradient_where_rows_are_sure():
    first = torch.tensor([[200.0, 0.0], [200.0, 0.0]], requires_grad=True)
    found = jensen_shannon(first, torch.tensor([[0.0, 200.0], [200.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([math.log(2), 0.0]))
    found.sum().backward()
    assert first.grad.isfinite().all()


def test_the_penalty_is_the_divergence_from_each_rows_neighbour():
    x, _ = blobs()
    story = DGG(6, 3, **SMALL)
    run = Run(story, x, None, seed=0, memory={NEIGHBOURS: torch.arange(240).roll(1)[:, None]})
    objective, index = Linked(2.5), torch.tensor([3, 0, 17])
    objective.start(run, None)
    here = trace_joint(story.model, story.guide, x[index])
    torch.manual_seed(1)
    found = objective.penalty(run, index, here)
    torch.manual_seed(1)
    torch.randint(1, (3,))
    there = trace_joint(story.model, story.guide, x[index - 1])
    torch.testing.assert_close(found, 2.5 * jensen_shannon(here.table, there.table).mean())


def test_its_recipe_is_vades_with_links():
    steps, others = DGG(6, 3, **SMALL).recipe(**SHORT, weight=2.0), VaDE(6, 3, **SMALL).recipe(**SHORT)
    assert [step.name for step in steps if step.name != "links"] == [step.name for step in others]
    assert [step.objective.weight for step in steps if isinstance(step, SVI)] == [2.0, 2.0]


def test_the_bound_is_vades():
    x, _ = blobs()
    story = DGG(6, 3, **SMALL)
    bounds = []
    for objective in (Linked(5.0), Exact()):
        torch.manual_seed(0)
        bounds.append(objective.per_row(story.model, story.guide, x)[0])
    torch.testing.assert_close(*bounds)


@pytest.mark.parametrize("engine", ["eager", "staged"])
def test_links_bring_responsibilities_together(engine):
    torch.manual_seed(0)
    x, _ = blobs(noise=0.6)  # clusters that overlap: where rows are sure, the divergence is flat
    strangers = torch.stack([(torch.arange(240) + shift) % 240 for shift in (1, 4, 7)], 1)  # rows of another blob
    apart = []
    for weight in (0.0, 300.0):
        torch.manual_seed(0)
        story = DGG(6, 3, **SMALL)
        graph = Compute(name="graph", run=lambda run: run.memory.__setitem__(NEIGHBOURS, strangers))
        *before, last = story.recipe(pretrain_epochs=10, fit_epochs=10, epochs=10, weight=weight)
        record = pc.fit(story, x, seed=0, recipe=[*before, graph, last], engine=engine)
        table = pc.log_joint(story, x)
        apart.append(float(jensen_shannon(table, table[strangers[:, 0]]).mean()))
        assert record.history[-1]["terms"]["penalty"] <= 0
    assert apart[0] > 0.1
    assert apart[1] < 0.7 * apart[0]


def test_it_finds_blobs_with_its_recipe():
    torch.manual_seed(0)
    x, y = blobs()
    story = DGG(6, 3, **SMALL)
    record = pc.fit(story, x, seed=0)
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > 0.98
    assert record.memory[NEIGHBOURS].shape == (240, 10)
    assert {START, NEIGHBOURS} <= set(record.memory)


def test_a_start_without_a_graph_gets_one():
    x, _ = blobs()
    record = pc.fit(DGG(6, 3, **SMALL), x, recipe={**SHORT, "pretraining": "autoencoder", "n_neighbours": 4})
    assert record.memory[NEIGHBOURS].shape == (240, 4)


def test_links_without_a_graph_are_refused():
    with pytest.raises(ValueError, match="take a start with neighbours"):
        pc.fit(VaDE(6, 3, **SMALL), blobs()[0], recipe=[SVI(epochs=1, objective=Linked(1.0))])


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match="at least 0"):
        Linked(weight)


def test_rows_that_are_read_by_batch_are_refused_before_anything_is_done(monkeypatch):
    monkeypatch.setattr("probclust.data.stored.RESIDENT_BYTES", 0)
    story = DGG(6, 3, **SMALL)
    before = {name: value.clone() for name, value in story.state_dict().items()}
    with pytest.raises(ValueError, match=r"\(linked\) needs all rows in memory"):
        pc.fit(story, csr_matrix(blobs()[0]))
    assert all((value == before[name]).all() for name, value in story.state_dict().items())


def test_no_neighbours_are_refused_at_once():
    with pytest.raises(ValueError, match="n_neighbours must be an integer of at least 1, got 0"):
        DGG(6, 3).recipe(n_neighbours=0)


def test_an_encoder_may_have_no_hidden_layer():
    pc.fit(DGG(6, 3, latent_dim=2, hidden=()), blobs()[0], recipe=SHORT)
