"""LTVAE: facets beside the clusters, from codes that have them, and VaDE where there is none."""

from __future__ import annotations

import pytest
import torch

import probclust as pc
from probclust.models import LTVAE, VaDE
from probclust.story.joint import trace_joint
from probclust.story.recipe import START

SMALL = {"latent_dim": 4, "hidden": (32,)}


def two_facets(n=600, seed=0):
    """Rows of 12 columns, 6 of which tell the cluster, and 6 a style that has nothing to do with it."""
    random = torch.Generator().manual_seed(seed)
    y, style = (torch.randint(3, (n,), generator=random) for _ in range(2))
    x = torch.cat([torch.eye(3)[y].repeat(1, 2), 0.7 * torch.eye(3)[style].repeat(1, 2)], 1)
    return x + 0.1 * torch.randn(n, 12, generator=random), y, style


def test_with_the_cluster_alone_it_is_vade():
    x, _, _ = two_facets()
    tree, plain = LTVAE(12, 3, **SMALL), VaDE(12, 3, **SMALL)
    own = tree.state_dict()
    plain.load_state_dict({name: own[name] for name in plain.state_dict()})
    tables = []
    for story in (tree, plain):
        torch.manual_seed(0)
        tables.append(trace_joint(story.model, story.guide, x[:7]).table)
    torch.testing.assert_close(*tables)


def test_styles_become_a_facet_and_a_partition(tmp_path):
    """Codes that the test sets: the first two columns by cluster, the others by style; then the whole way to a file."""
    x, y, style = two_facets()
    story = LTVAE(12, 3, **SMALL)
    codes = 2 * torch.cat([torch.eye(3)[y][:, :2], torch.eye(3)[style][:, :2]], 1) + 0.2 * torch.randn(600, 4)
    story.prior.start(codes, y)
    assert story.prior.facets() == [[0, 1], [2, 3]]
    recipe = [
        pc.Train(
            name="codes",
            loss=lambda batch: (story.codec.mean(x[batch.index]) - codes[batch.index]).square().mean(),
            epochs=60,
            learning_rate=3e-3,
            modules=[story.codec.encoder],
        )
    ]
    pc.fit(story, x, recipe=recipe)
    clusters, styles = story.partitions(x)
    assert clusters.shape == (600, 3)
    torch.testing.assert_close(styles.sum(1), torch.ones(600))
    assert pc.metrics.accuracy(y, clusters.argmax(1)) > 0.95
    assert pc.metrics.accuracy(style, styles.argmax(1)) > 0.95
    pc.save(story, tmp_path / "story.safetensors")
    again = pc.load(tmp_path / "story.safetensors")
    for one, other in zip(story.partitions(x), again.partitions(x), strict=True):
        torch.testing.assert_close(one, other)


def test_its_recipe_finds_the_clusters():
    x, y, _ = two_facets()
    story = LTVAE(12, 3, **SMALL)
    record = pc.fit(story, x, seed=0, recipe={"fit_epochs": 10})
    assert story.is_density
    assert pc.metrics.accuracy(y, pc.predict(story, x)) == pytest.approx(
        pc.metrics.accuracy(y, record.memory[START]), abs=0.05
    )
    assert len(story.partitions(x)) == len(story.prior.facets())
    drawn = pc.sample(story, 5, cluster=1, temperature=0.5)
    assert drawn["x"].isfinite().all()


@pytest.mark.parametrize("weights", ["learned", "dirichlet", "stick-breaking"])
def test_partitions_are_not_drawn(weights):
    x, _, _ = two_facets(50)
    story = LTVAE(12, 3, **SMALL, weights=weights)
    first, second = story.partitions(x), story.partitions(x)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert first[0].shape == (50, 3)
    torch.testing.assert_close(first[0].sum(1), torch.ones(50))
