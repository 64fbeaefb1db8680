"""The start of rows in order of time."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

import probclust as pc
from probclust.data.kinds import checked_lengths
from probclust.starts.labels import KMEANS
from probclust.starts.recordings import sequence_start, standardised
from probclust.story.recipe import START, Run
from tests.starts.test_hidden_markov import chain

LENGTHS = (120, 100, 80)


def recordings(seed=0, people=8.0, quickly=5.0):
    """(300, 6) rows of three people, whose three activities last, and the activities.

    People differ more than activities, and two columns that change from row to row differ most.
    """
    random = np.random.default_rng(seed)
    y = chain(LENGTHS, stay=0.9, seed=seed)
    person = np.repeat(np.arange(3), LENGTHS)
    means, offsets = 2.5 * np.eye(3), random.normal(scale=people, size=(3, 3))
    steady = means[y] + offsets[person] + random.normal(scale=0.6, size=(300, 3))
    quick = random.normal(scale=quickly, size=(300, 2))
    return np.hstack([steady, quick, np.ones((300, 1))]).astype(np.float32), torch.as_tensor(y)


def run_of(x, y=None, seed=0):
    return Run(pc.models.GaussianMixture(x.shape[1], 3), torch.as_tensor(x), y, seed=seed)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_activities_that_kmeans_does_not(seed):
    x, y = recordings(seed)
    run = run_of(x, seed=seed)
    sequence_start(LENGTHS).run(run)
    assert pc.metrics.accuracy(y, run.memory[START]) > 0.95
    assert pc.metrics.accuracy(y, KMeans(3, n_init=10, random_state=seed).fit_predict(x)) < 0.6
    assert run.memory[KMEANS].shape == (300,)
    assert run.memory.embedding.shape == (300, 2)


def test_known_rows_start_in_their_cluster():
    x, y = recordings()
    known = torch.full_like(y, -1)
    known[:100] = (y[:100] + 1) % 3
    run = run_of(x, y=known)
    sequence_start(LENGTHS).run(run)
    assert (run.memory[START] == (y + 1) % 3).float().mean() > 0.95


def test_of_several_starts_the_likeliest_counts(monkeypatch):
    x, y = recordings()
    random = np.random.default_rng(0)
    one = np.zeros(300, dtype=np.int64)
    tried = [one, y.numpy(), random.integers(3, size=300)]

    class Stub:
        def __init__(self, n_clusters, *, n_init, random_state):
            pass

        def fit_predict(self, points):
            return tried.pop()

    monkeypatch.setattr("probclust.starts.recordings.KMeans", Stub)
    run = run_of(x)
    sequence_start(LENGTHS, n_init=3).run(run)
    assert pc.metrics.accuracy(y, run.memory[START]) > 0.95
    assert run.memory[KMEANS].tolist() == y.tolist()


def test_each_recording_is_standardised_and_what_hardly_varies_in_it_is_not_stretched():
    x = np.array([[0.0, 5.0], [10.0, 5.0], [100.0, 5.001], [140.0, 5.0]])
    found = standardised(x, [2, 2])
    np.testing.assert_allclose(found[:, 0], [-1, 1, -1, 1], rtol=0.2)
    np.testing.assert_allclose(found[:2, 1], 0)
    np.testing.assert_allclose(standardised(np.ones((4, 2)), [1, 3]), 0)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ((), "positive numbers of rows"),
        ((3, 0), "positive numbers of rows"),
        ((2.5, 1.5), "positive numbers of rows"),
        (4, "positive numbers of rows"),
        ((1, 2), "of all 4 rows, got 2 recordings of 3 rows"),
    ],
)
def test_wrong_lengths_are_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        checked_lengths(lengths, 4)


def test_lengths_that_do_not_fit_the_rows_are_refused_by_a_fit():
    x, _ = recordings()
    story = pc.models.VaDE(6, 3, hidden=(8,), latent_dim=2)
    with pytest.raises(ValueError, match="of all 300 rows, got 2 recordings of 220 rows"):
        pc.fit(story, x, recipe={"lengths": (120, 100)})


@pytest.mark.parametrize(
    "story",
    [
        pc.models.VaDE,
        pc.models.MixtureOfVAEs,
        pc.models.DGG,
        pc.models.LTVAE,
        pc.models.GMVAE,
        pc.models.DMAE,
        pc.models.DAMIC,
        pc.models.DCN,
        pc.models.DEC,
        pc.models.IDEC,
    ],
)
def test_stories_told_of_recordings_start_from_it(story):
    one = story(6, 3)
    told = [step.name for step in one.recipe(lengths=LENGTHS)]
    assert told == [step.name for step in one.recipe(pretraining="sequence", lengths=LENGTHS)]
    assert "start" in told
    assert told != [step.name for step in one.recipe()]
    with pytest.raises(ValueError, match="'sequence' needs lengths"):
        one.recipe(pretraining="sequence")


def test_a_story_follows_the_start():
    x, y = recordings(people=0.5, quickly=0.5)
    story = pc.models.MixtureOfVAEs(6, 3, hidden=(32,), latent_dim=2)
    record = pc.fit(story, x, recipe={"lengths": list(LENGTHS), "fit_epochs": 10, "epochs": 2})
    assert pc.metrics.accuracy(y, record.memory[START]) > 0.95
    assert pc.metrics.accuracy(y, pc.predict(story, x)) > 0.9
    assert json.loads(record.to_json())["settings"]["recipe"]["lengths"] == list(LENGTHS)


def test_the_command_tells_a_recipe_the_recordings_of_a_set(tmp_path, monkeypatch, capsys):
    from probclust.cli.main import main

    x, y = recordings()
    np.savez(tmp_path / "har_train.npz", x=x, y=y.numpy(), user=np.repeat([4, 7, 1], LENGTHS))
    monkeypatch.setenv("PROBCLUST_DATA", str(tmp_path))
    assert pc.data.load("har").lengths == LENGTHS
    short = [
        "--set",
        "hidden=[8]",
        "--set",
        "latent_dim=2",
        "--recipe",
        "pretrain_epochs=1",
        "--recipe",
        "fit_epochs=1",
    ]
    out = tmp_path / "out"
    arguments = ["fit", "vade", "--data", "har", "--out", str(out), "--clusters", "3", "--epochs", "1", *short]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code, capsys.readouterr()
    settings = json.loads((out / "record.json").read_text())["fit"]["settings"]
    assert settings["recipe"]["lengths"] == list(LENGTHS)
    assert "start" in [step["name"] for step in settings["steps"]]


def test_recordings_in_which_nothing_varies_are_refused_and_the_story_stays_as_it_was():
    x = np.repeat(np.random.default_rng(0).random((2, 6)), 30, 0)
    story = pc.models.VaDE(6, 3, hidden=(8,), latent_dim=2)
    before = {name: value.clone() for name, value in story.state_dict().items()}
    with pytest.raises(ValueError, match="no feature varies within any of the 2 recordings"):
        pc.fit(story, x, recipe={"lengths": (30, 30)})
    for name, value in story.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_lengths_may_be_an_array_and_documents_are_no_recordings():
    x, _ = recordings()
    recipe = {"lengths": np.array([120, 100, 80]), "fit_epochs": 1, "epochs": 1}
    record = pc.fit(pc.models.VaDE(6, 3, hidden=(8,), latent_dim=2), x, recipe=recipe)
    assert {START, "embedding"} <= set(record.memory)
    with pytest.raises(ValueError, match="either documents or recordings"):
        pc.models.VaDE(6, 3).recipe(lengths=(120, 180), documents=True)


def test_few_rows_have_a_model_of_few_components():
    """Of 90 rows in 200 features, 90 components would set any clusters apart: EM could not leave those of k-means."""
    random = np.random.default_rng(3)
    y = np.repeat([0, 1, 2, 0, 1, 2], 15)
    x = random.normal(size=(90, 200)) + 0.3 * random.normal(size=(3, 200))[y]
    run = Run(pc.models.GaussianMixture(200, 3), torch.as_tensor(x).float(), None, seed=0)
    sequence_start([90]).run(run)
    assert (run.memory[START] != run.memory[KMEANS]).any()
    assert pc.metrics.accuracy(y, run.memory[START].numpy()) > 0.95
