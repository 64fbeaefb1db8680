"""The weights of every story after two epochs from seed 0 are those of commit 061441d, to the last bit.

`python -m tests.saved.two_epochs --check WORDS` says the same in a moment for the cases of a change.
"""

from __future__ import annotations

import json

import pytest

from tests.saved.two_epochs import CASES, RECORD, SINCE, SLOW, difference, fingerprint, machine

FOUND = json.loads(RECORD.read_text())


def cases():
    """Names of all cases; those that take seconds are slow, but for one story each."""
    for name in CASES:
        what = name.partition(" ")[2]
        slow = what in SLOW and name not in ("VaDE images", "DAMIC embedding")
        yield pytest.param(name, marks=[pytest.mark.slow] if slow else [])


@pytest.fixture(scope="module")
def comparable():
    """Skip where this machine trains even a plain network to other numbers than the record's did."""
    if fingerprint() != FOUND["fingerprint"]:
        assert machine() != FOUND["machine"], "the machine is that of the record, and trains a plain network otherwise"
        pytest.skip(f"this machine rounds otherwise: {machine()}, and the record is of {FOUND['machine']}")


def test_every_case_has_a_record():
    assert FOUND["cases"].keys() == CASES.keys()
    assert {name for name, commit in FOUND["commits"].items() if commit == "743c1e9"} == SINCE.keys()


def test_the_fingerprint_repeats():
    assert fingerprint() == fingerprint()


@pytest.mark.parametrize("name", list(cases()))
def test_weights_are_those_of_the_record(name, comparable):
    assert not difference(name, FOUND)
