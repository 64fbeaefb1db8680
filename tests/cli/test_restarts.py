from __future__ import annotations

import numpy as np
import pytest
import torch

import probclust as pc
from probclust.cli.restarts import Job, fit_side_by_side, merge

SMALL = {"hidden": [6], "latent_dim": 2}
FEW = {"recipe": {"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 2}}


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
def test_each_restart_is_the_fit_of_its_seed_and_tells_of_its_progress(tmp_path):
    data = pc.data.blobs(n_rows=60, n_features=4, n_clusters=3, seed=1)
    np.savez(tmp_path / "data.npz", x=data.x, y=data.y)
    told = []
    jobs = [Job("vade", "vade", 3, seed, SMALL, FEW) for seed in (0, 4)]
    runs = fit_side_by_side(jobs, tmp_path / "data.npz", "2x2", tmp_path, 1, lambda *news: told.append(news))
    assert list(runs) == ["vade"]
    assert [run.record()["fit"]["settings"]["seed"] for run in runs["vade"]] == [0, 4]
    assert runs["vade"][0].record()["data"]["image_shape"] == [2, 2]
    torch.manual_seed(4)
    story = pc.models.VaDE(4, 3, **SMALL)
    pc.fit(story, data.x, seed=4, recipe={**FEW["recipe"], "image_shape": (2, 2)})
    for name, value in runs["vade"][1].story().state_dict().items():
        assert torch.equal(value, story.state_dict()[name]), name
    assert {(job.seed, step) for job, step, *_ in told} >= {(0, "svi"), (4, "svi"), (0, "done"), (4, "done")}


def test_an_error_of_a_worker_is_raised_here(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.ones((5, 2)))
    with pytest.raises(ValueError, match="at most the number of rows"):
        fit_side_by_side([Job("gmm", "gmm", 9, 0)], tmp_path / "data.npz", None, tmp_path, 1, lambda *_: None)


def test_a_job_that_fails_leaves_its_run_to_the_others(tmp_path):
    np.savez(tmp_path / "data.npz", x=pc.data.blobs(n_rows=30, n_features=2, n_clusters=2, seed=0).x)
    jobs = [Job("gmm", "gmm", 2, seed, {}, {"epochs": epochs}) for seed, epochs in ((0, 0), (1, 1))]
    with pytest.warns(pc.FitWarning, match="gmm, seed 0 failed, and the others count: epochs must be"):
        runs = fit_side_by_side(jobs, tmp_path / "data.npz", None, tmp_path, 1, lambda *_: None)
    assert [run.record()["fit"]["settings"]["seed"] for run in runs["gmm"]] == [1]


def fit_of(seed, bound, losses):
    history = [{"restart": 0, "step": "svi", "epoch": i, "loss": loss} for i, loss in enumerate(losses)]
    settings = {"seed": seed, "n_init": 1}
    return {"settings": settings, "history": history, "bounds": [bound], "restart": 0, "seconds": 2.0}


def test_merging_keeps_the_largest_bound_and_all_losses():
    merged = merge([fit_of(0, -3.0, [1.0]), fit_of(1, -1.0, [2.0, 3.0]), fit_of(2, -2.0, [4.0])])
    assert merged["restart"] == 1
    assert merged["bounds"] == [-3.0, -1.0, -2.0]
    assert merged["seconds"] == 6.0
    assert merged["settings"]["seed"] == 1
    assert merged["settings"]["seeds"] == [0, 1, 2]
    assert [(entry["restart"], entry["loss"]) for entry in merged["history"]] == [(0, 1), (1, 2), (1, 3), (2, 4)]
