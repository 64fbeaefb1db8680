"""The start from principal components against scikit-learn's own pipeline, and as a start of every story by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

import probclust as pc
from probclust.starts import STARTS
from probclust.starts.principal_components import principal_components_start
from probclust.story.recipe import Run

X, Y = (torch.as_tensor(part) for part in (pc.data.blobs(200, 6, 3, seed=0).x, pc.data.blobs(200, 6, 3, seed=0).y))


def test_clusters_are_those_of_scikit_learns_pipeline():
    run = Run(pc.models.VaDE(6, 3), X, None, 5)
    principal_components_start(n_components=2, n_init=3).run(run)
    pipeline = make_pipeline(PCA(2, random_state=0), KMeans(3, n_init=3, random_state=5))
    assert pc.metrics.accuracy(pipeline.fit_predict(X.numpy()), run.memory.labels.numpy()) == 1
    np.testing.assert_allclose(run.memory.embedding, pipeline[0].transform(X.numpy()), atol=1e-5)


@pytest.mark.parametrize("build", [pc.models.VaDE, pc.models.DCN, pc.models.MixtureOfVAEs, pc.models.DAMIC])
def test_a_story_starts_from_them_by_name(build):
    story = build(6, 3, latent_dim=2, hidden=(8,))
    recipe = {"pretraining": "principal components", "pretrain_epochs": 2, "fit_epochs": 5}
    record = pc.fit(story, X, recipe=recipe, epochs=1, seed=0)
    assert pc.metrics.accuracy(Y.numpy(), record.memory["start"].numpy()) > 0.95
    assert "principal components" in STARTS


def test_known_rows_start_in_their_own_cluster():
    y = torch.full((200,), -1)
    y[:3] = torch.tensor([2, 0, 1])
    run = Run(pc.models.VaDE(6, 3), X, y, 0)
    principal_components_start().run(run)
    assert run.memory.labels[:3].tolist() == [2, 0, 1]


def test_rows_may_not_change_under_it():
    with pytest.raises(ValueError, match="pretraining='principal components' takes no augment"):
        pc.models.VaDE(6, 3).recipe(pretraining="principal components", augment=torch.zeros_like)
