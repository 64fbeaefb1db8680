"""MyStory against numbers worked out apart from it, and on rows whose clusters are known."""

from __future__ import annotations

import torch
from torch.distributions import Normal

import probclust as pc
from probclust.models import MyStory
from probclust.testing import check_story


def test_every_public_function_takes_it():
    assert check_story(lambda: MyStory(4, 3), torch.randn(40, 4)) == {}


def test_the_log_joint_is_the_formula(float64):
    story, x = MyStory(4, 3), torch.randn(6, 4)
    log_weights = story.weights.logits.log_softmax(0)
    expected = torch.stack([Normal(story.loc[k], story.scale[k]).log_prob(x).sum(1) for k in range(3)], 1) + log_weights
    torch.testing.assert_close(pc.log_joint(story, x), expected)


def test_it_finds_clusters_that_lie_apart():
    data = pc.data.blobs(300, n_features=4, n_clusters=3, separation=8.0, seed=0)
    story = MyStory(4, 3)
    pc.fit(story, data.x, seed=0)
    assert pc.metrics.accuracy(data.y, pc.predict(story, data.x)) > 0.98
