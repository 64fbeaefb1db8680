"""Every public function takes every story: the strangers' ones with no further code, and ours, by their names."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import probclust as pc
from probclust import testing
from probclust.testing import check_story
from tests.support.ours import OURS
from tests.support.stories import CASES, LATENT, Bayesian

NOT_OF_A_STORY = {"load", "register", "cluster_order", "stability", "select_n_clusters"}
"""Of names, of labels, or fits of many stories; they have tests of their own."""
NEEDS_MORE = {"to_images"}
"""Rows that are images."""


def fit_codes(story, x):
    """What a story's own recipe would do beside SVI, where its samples need it."""
    if hasattr(story, "fit_codes"):
        story.fit_codes(x)


@pytest.mark.parametrize("case", [*CASES, *OURS], ids=lambda case: case.name)
def test_every_public_function_takes_it(case):
    skipped = check_story(case.build, case.rows(40), objective=case.objective, prepare=fit_codes)
    story = case.build()
    allowed = set()
    if not {"n_features", "n_clusters"} <= story.arguments.keys():
        allowed.add("pc.DeepMixture")
    if case.objective == "amortised":
        allowed.add("pc.fit(y=...)")
    if story.conditional or case.name == "cosine-mixture":  # neither has a distribution of a part of a row
        allowed.add("pc.impute")
    if story.conditional and not hasattr(story, "fit_codes"):
        allowed |= {"pc.sample", "pc.modes", "pc.prototypes, pc.predictive_check"}
    assert skipped.keys() == allowed


def test_the_suite_calls_every_public_function_of_a_story():
    source = "".join(path.read_text(encoding="utf-8") for path in Path(testing.__file__).parent.glob("*.py"))
    functions = {name for name in pc.__all__ if inspect.isfunction(getattr(pc, name))}
    left_out = {name for name in functions if f"pc.{name}(" not in source and f"pc.{name})" not in source}
    assert left_out == (NOT_OF_A_STORY | NEEDS_MORE) - {"load"}


def test_what_starts_differently_has_another_bound():
    case = next(case for case in CASES if case.name in LATENT)
    record = pc.fit(case.build(), case.rows(40), recipe=[pc.SVI(epochs=1)], n_init=2)
    assert record.bounds[0] != record.bounds[1]


def test_all_observed_sites_are_in_the_record():
    for case in CASES:
        if not isinstance(case.build(), Bayesian):
            record = pc.fit(case.build(), case.rows(40), recipe=[pc.SVI(epochs=1)], objective=case.objective)
            assert {f"log p({name})" for name in ("cluster", *case.observed)} <= set(record.history[-1]["terms"])


def test_every_public_name_can_be_imported():
    for name in pc.__all__:
        assert getattr(pc, name) is not None, name
