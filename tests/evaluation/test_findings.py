from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import probclust as pc
from probclust.cli.page.page import Told, page
from probclust.evaluation.findings import confusion, embedding, find
from tests.support.stories import Poissons


@pytest.fixture(scope="module")
def blobs():
    return pc.data.blobs(n_rows=150, n_features=4, n_clusters=3, seed=2)


@pytest.fixture(scope="module")
def mixture(blobs):
    story = pc.models.GaussianMixture(4, 3)
    pc.fit(story, blobs.x, epochs=1)
    return story


def test_confusion_puts_matched_clusters_on_the_diagonal():
    y = ["b", "b", "b", "a", "a", "c"]
    clusters = [0, 0, 4, 2, 2, 1]
    table = confusion(y, np.array(clusters), n_clusters=5)
    assert table.labels == ["a", "b", "c"]
    assert table.clusters == [2, 0, 1, 3, 4]
    assert table.counts.tolist() == [[2, 0, 0, 0, 0], [0, 2, 0, 0, 1], [0, 0, 1, 0, 0]]
    assert table.matched == {2: "a", 0: "b", 1: "c"}


def test_the_picture_keeps_neighbours_together(mixture, blobs):
    points = embedding(pc.log_joint(mixture, blobs.x).numpy(), seed=0)
    clusters = pc.predict(mixture, blobs.x).numpy()
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (clusters[distance.argmin(1)] == clusters).mean() > 0.95


@pytest.mark.parametrize(("rows", "clusters"), [(4, 3), (20, 1)])
def test_there_is_no_picture_of_too_little(rows, clusters):
    assert embedding(np.random.default_rng(0).normal(size=(rows, clusters)), seed=0) is None


def test_the_picture_stands_rows_that_a_cluster_cannot_give():
    table = np.random.default_rng(0).normal(size=(20, 3))
    table[3, 1] = -np.inf
    assert np.isfinite(embedding(table, seed=0)).all()


def test_findings_hold_draws_of_each_cluster_and_reconstructions(mixture, blobs):
    found = findings("gmm", mixture, torch.as_tensor(blobs.x), blobs.y, n_images=7)
    assert found.samples.shape == (3, 7, 4)
    for k, draws in enumerate(found.samples):
        assert (pc.predict(mixture, draws) == k).float().mean() > 0.8
    assert found.originals.shape == found.reconstructions.shape == (7, 4)
    assert set(pc.predict(mixture, found.originals).tolist()) == {0, 1, 2}
    facts = found.facts()
    assert len(facts["embedding"]["points"]) == len(facts["clusters"]) == 150


def test_findings_repeat_and_leave_the_random_state_alone(mixture, blobs):
    x = torch.as_tensor(blobs.x)
    state = torch.get_rng_state()
    one, other = (findings("gmm", mixture, x).facts() for _ in range(2))
    assert one == other
    assert torch.equal(state, torch.get_rng_state())


def findings(name, story, x, y=None, **options):
    return find(name, story, pc.evaluate(story, x, y, particles=2), x, y, **options)


class Squares(Poissons):
    """Observes a transformation of x."""

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            pyro.sample("x", dist.Normal(self.log_rate[k], 1.0).to_event(1), obs=(x + 1).square())


def test_a_story_without_columns_of_x_has_no_draws_of_rows(blobs):
    found = findings("squares", Squares(4, 3), torch.as_tensor(blobs.x))
    assert found.samples is None
    assert "observes a transformation of x" in found.why_no_samples
    assert found.reconstructions is None


def test_a_conditional_story_has_draws_where_it_can_generate_and_else_says_why_not(blobs):
    x = torch.as_tensor(blobs.x)
    damic = pc.models.DAMIC(4, 3, latent_dim=2, hidden=(8,), gate_hidden=(8,))
    for story in (damic, pc.models.DCN(4, 3, latent_dim=2, hidden=(8,))):
        without = findings("no density of codes yet", story, x, n_images=5)
        assert without.samples is None
        assert "fit_codes" in without.facts()["why_no_samples"]
    damic.fit_codes(x)
    found = findings("damic", damic, x, n_images=5)
    assert found.why_no_samples is None
    torch.testing.assert_close(
        found.samples[2], pc.sample(damic, 15, torch.arange(3).repeat_interleave(5), 0)["x"][10:]
    )
    dec = findings("dec", pc.models.DEC(4, 3, latent_dim=2, hidden=(8,)), x)
    assert dec.samples is None
    assert "DEC conditions on x" in dec.why_no_samples
    with pytest.warns(pc.ComparisonWarning):
        frame = pc.compare({"dec": dec.evaluation})
    assert "No draws of x are shown: DEC conditions on x" in page("", "", frame, [Told(dec, "")], [])
