"""Stories composed at random, each taken through every public function against its truth by brute force."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_stories.breaches import NAMED, applies, breach
from random_stories.plan import drawn_plan, random_pick
from random_stories.truth import Truth
from random_stories.walk import Walk, walk
from scipy.special import logsumexp
from scipy.stats import multivariate_normal


@st.composite
def plans(draw):
    return drawn_plan(lambda options: draw(st.sampled_from(options)))


def failures(plan):
    return [o for o in walk(plan) if o.status in ("wrong", "crash")]


every_plan = given(plans())


def stories(n):
    """So many of them, the same at each run."""
    return settings(
        max_examples=n, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )


@stories(30)
@every_plan
def test_random_stories_are_right_or_refused(plan):
    assert not failures(plan)


@pytest.mark.parametrize("name", NAMED)
@stories(2)
@every_plan
def test_a_breach_of_the_contract_is_refused_by_name(name, plan):
    if applies(name, plan):
        assert breach(plan, name).status == "right"


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_two_thousand_random_stories_are_right_or_refused():
    found = {seed: failures(drawn_plan(random_pick(seed))) for seed in range(2000)}
    assert not {seed: failed for seed, failed in found.items() if failed}


def linear_gaussian(pick):
    """A plan whose latents and features are all Gaussian, and linear in each other."""
    plan = drawn_plan(pick)
    latent = {"name": "z", "kind": "normal", "width": 2, "bare": False, "by_cluster": False, "parent": False}
    site = {"name": "x", "family": "normal", "width": 3, "bare": False, "by_cluster": True, "mask": None}
    plain = {
        "zero": None,
        "plate": "plain",
        "globals": [],
        "factors": [],
        "values": [],
        "missing": False,
        "scale": 1.0,
        "n_clusters": 3,
    }
    return plan | plain | {"latents": [latent | {"scale": 1.0}], "sites": [site | {"scale": 1.0}]}


@pytest.mark.parametrize("seed", range(3))
def test_the_truth_of_a_linear_gaussian_story_is_the_closed_form(seed):
    w = Walk(linear_gaussian(random_pick(seed)))
    v = w.story.arrays()
    columns = []
    for k, log_weight in enumerate(v["logits"] - logsumexp(v["logits"])):
        loading = v["site0_loading"][0][:, None] * np.array([[0.5, 0.5]])  # decoders see the mean of z
        loc = v["site0_eta"][k] + loading @ v["latent0_loc"][k]
        covariance = loading @ np.diag(v["latent0_scale"] ** 2) @ loading.T + np.diag(v["site0_scale"][k] ** 2)
        columns.append(log_weight + multivariate_normal.logpdf(w.x, loc, covariance))
    np.testing.assert_allclose(Truth(w.story, w.x).evidence, logsumexp(columns, 0), atol=1e-3)
