"""MyStart: it finds clusters that lie apart, leaves known rows in theirs, and starts stories by its name."""

from __future__ import annotations

import pytest
import torch

import probclust as pc
from probclust.models import DCN, MixtureOfVAEs, VaDE
from probclust.starts import STARTS
from probclust.starts.my_start import my_start
from probclust.story.recipe import Run

DATA = pc.data.blobs(200, n_features=6, n_clusters=3, separation=8.0, seed=0)
X, Y = torch.as_tensor(DATA.x), torch.as_tensor(DATA.y)


def test_it_finds_clusters_that_lie_apart():
    run = Run(VaDE(6, 3), X, None, 0)
    my_start().run(run)
    assert pc.metrics.accuracy(Y, run.memory.labels) > 0.98


def test_known_rows_start_in_their_own_cluster():
    y = torch.full((200,), -1)
    y[:3] = torch.tensor([2, 0, 1])
    run = Run(VaDE(6, 3), X, y, 0)
    my_start().run(run)
    assert run.memory.labels[:3].tolist() == [2, 0, 1]


@pytest.mark.parametrize("build", [VaDE, DCN, MixtureOfVAEs])
def test_stories_take_it_by_name(build):
    assert "my-start" in STARTS
    story = build(6, 3, latent_dim=2, hidden=(8,))
    recipe = {"pretraining": "my-start", "pretrain_epochs": 2, "fit_epochs": 5}
    record = pc.fit(story, X, recipe=recipe, epochs=1, seed=0)
    assert pc.metrics.accuracy(Y, record.memory["start"]) > 0.98
