from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist

import probclust as pc
from probclust.models import DAMIC, GaussianMixture
from tests.support.stories import CASE_NAMES, CASES, Poissons


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_those_of_a_gaussian_mixture_are_nearest_in_mahalanobis_distance(covariance_type):
    story = GaussianMixture(2, 3, covariance_type)
    with torch.no_grad():
        story.weights.logits.copy_(torch.tensor([0.0, 1.0, -1.0]))
        story.loc.mul_(3)
        if covariance_type == "full":
            story.lower[:, 1, 0] = 0.8
    x = pc.sample(story, 200, seed=0)["x"]
    table = pc.prototypes(story, x, n=4)
    labels = pc.predict(story, x).numpy()
    for k in range(3):
        law = story.component(torch.tensor(k))
        covariance = law.covariance_matrix if covariance_type == "full" else torch.diag(law.variance)
        inverse = np.linalg.inv(covariance.detach().double().numpy())
        distance = cdist(x.double(), law.mean.detach().double()[None], "mahalanobis", VI=inverse)[:, 0]
        mine = np.flatnonzero(labels == k)
        order = mine[np.argsort(distance[mine])]
        assert table.loc[k, "most"]["row"].tolist() == order[:4].tolist()
        assert table.loc[k, "least"]["row"].tolist() == order[::-1][:4].tolist()


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_every_story_has_prototypes(case):
    story, x = case.build(), case.rows(40)
    table = pc.prototypes(story, x, n=3)
    joint, labels = pc.log_joint(story, x).double(), pc.predict(story, x)
    for (k, kind, rank), entry in table.iterrows():
        row = int(entry["row"])
        assert labels[row] == k
        scores = joint[labels == k, k].sort(descending=kind == "most").values
        assert entry["log_joint"] == scores[rank]
        assert entry["responsibility"] == pytest.approx(joint.softmax(1)[row, k].item())
    assert len(table) == sum(2 * min(3, int((labels == k).sum())) for k in range(3))
    bounds = pc.prototypes(story, x, n=1, particles=4, seed=1)
    assert bounds.equals(pc.prototypes(story, x, n=1, particles=4, seed=1))


def test_a_frame_names_the_rows():
    x = pd.DataFrame(np.ones((3, 4)) * [[1], [2], [3]], index=["a", "b", "c"])
    table = pc.prototypes(Poissons(4, 1), x, n=2)
    assert (table["name"] == x.index[table["row"]]).all()


def test_conditional_stories_rank_by_their_score_and_wrong_numbers_are_refused():
    assert len(pc.prototypes(DAMIC(4, 3, 2, hidden=(8,), gate_hidden=(8,)), torch.rand(30, 4), n=1))
    with pytest.raises(ValueError, match="n must be an integer of at least 1"):
        pc.prototypes(Poissons(4, 2), torch.ones(5, 4), n=0)
