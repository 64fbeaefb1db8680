"""Stories composed at random, each taken through every public function against its truth by brute force."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_stories.plan import drawn_plan, random_pick
from random_stories.walk import walk


@st.composite
def plans(draw):
    return drawn_plan(lambda options: draw(st.sampled_from(options)))


def failures(plan):
    return [o for o in walk(plan) if o.status in ("wrong", "crash")]


@settings(max_examples=50, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(plans())
def test_random_stories_are_right_or_refused(plan):
    assert not failures(plan)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_two_thousand_random_stories_are_right_or_refused():
    found = {seed: failures(drawn_plan(random_pick(seed))) for seed in range(2000)}
    assert not {seed: failed for seed, failed in found.items() if failed}
