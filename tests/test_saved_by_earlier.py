"""What commit 061441d saved loads and gives the numbers that it gave then; its stopped fits go on to the same end.

A number that differs here is a fault of the change, unless a fault of then was mended: see `tests.saved.since`. In
tests/saved, classes.txt has the names of all stories and parts of then.
"""

from __future__ import annotations

import json
import shutil
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import probclust as pc
from probclust.story.registry import registered_class
from probclust.story.saving import saved_facts
from tests.saved.make import CHECKPOINTS, HERE, N_ROWS, N_SHOWN, STORIES, fit
from tests.saved.numbers import DRAWN, draws, numbers
from tests.saved.rows import rows
from tests.saved.since import SINCE

RECORD = json.loads((HERE / "numbers.json").read_text())
MENDED = json.loads(SINCE.read_text())["stories"]


def assert_close(found: Any, then: Any, where: str) -> None:
    """Equal up to the rounding of float32, wherever numbers stand."""
    if isinstance(then, dict):
        assert found.keys() == then.keys(), where
        for key in then:
            assert_close(found[key], then[key], f"{where} {key}")
    elif then is None:
        assert found is None, where
    else:
        arrays = [np.array(value, dtype=float) for value in (found, then)]  # None is NaN
        np.testing.assert_allclose(*arrays, rtol=1e-5, atol=2e-6, err_msg=where)


def test_there_is_a_file_of_every_story_that_was_written():
    assert {path.stem for path in HERE.glob("*.safetensors")} == set(STORIES) == set(RECORD["stories"])
    assert {path.stem for path in HERE.glob("*.checkpoint")} == set(CHECKPOINTS)


def test_every_story_of_then_is_among_them():
    kept = {type(pc.load(HERE / f"{name}.safetensors")).__name__ for name in STORIES}
    assert kept >= {
        "DAMIC", "DCN", "DEC", "DGG", "DMAE", "GMVAE", "IDEC", "LTVAE",
        "DissimilarityMixture", "GaussianMixture", "MixtureOfVAEs", "VaDE",
    }  # fmt: skip


@pytest.mark.parametrize("name", (HERE / "classes.txt").read_text().split())
def test_every_class_of_then_is_known_by_its_name(name, recwarn):
    found = registered_class(name)
    assert found is not None
    assert found.__qualname__ == name.partition(":")[2]
    assert not recwarn.list


@pytest.mark.parametrize("name", STORIES)
def test_a_story_gives_the_numbers_that_it_gave(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an old name in a file is no fault of the user's
        story = pc.load(HERE / f"{name}.safetensors")
    assert saved_facts(HERE / f"{name}.safetensors") == {"bound": 1.5}
    then = RECORD["stories"][name] | MENDED.get(name, {})
    found = numbers(story, rows(then["kind"], N_ROWS)[:N_SHOWN])
    same_draws = draws() == RECORD["draws"]
    for key, value in found.items():
        if same_draws or key not in DRAWN:
            assert_close(value, then[key], key)


def test_draws_are_those_of_then_where_torch_is():
    assert draws() == RECORD["draws"] or torch.__version__ != RECORD["torch"]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_stopped_fit_goes_on_to_the_end_of_the_unbroken_one(name, tmp_path):
    kind, build = STORIES[name]
    _, steps = CHECKPOINTS[name]
    path = tmp_path / "checkpoint"
    shutil.copy(HERE / f"{name}.checkpoint", path)
    unbroken, resumed = build(), build()
    fit(unbroken, rows(kind, N_ROWS), steps)
    record = fit(resumed, rows(kind, N_ROWS), steps, checkpoint=path, resume=True)
    assert record.history
    then = unbroken.state_dict()
    if name == "gmm":  # its start, by EM, is in float64 since
        assert pc.elbo(resumed, rows(kind, N_ROWS)).mean() > pc.elbo(unbroken, rows(kind, N_ROWS)).mean() - 0.5
        return
    for (
        key,
        value,
    ) in resumed.state_dict().items():  # on another processor than then, the first half is rounded otherwise
        torch.testing.assert_close(value, then[key], rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
