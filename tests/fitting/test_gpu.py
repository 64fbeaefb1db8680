"""On a GPU every story fits, serves and is saved as on a CPU, by every engine and precision."""

from __future__ import annotations

import inspect
import pickle
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import probclust as pc
from probclust.fitting import loop as fit_loop
from probclust.story.registry import story_class, story_names
from probclust.story.scoring import draws_latents
from tests.support.stopping import stopped_after
from tests.support.stories import CASE_NAMES, CASES

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning"),
]

QUICK = {"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 2}
CLOSE = {"rtol": 1e-3, "atol": 1e-3}
"""Between devices: their sums are taken in another order."""


def digits(n: int = 200) -> np.ndarray:
    return pc.data.load("digits").x[:n]


def small(name: str) -> pc.Story:
    cls = story_class(name)
    sizes = {"hidden": (16,), "latent_dim": 5, "covariance_type": "diag", "reg_covar": 0.01}
    known = inspect.signature(cls.__init__).parameters
    torch.manual_seed(0)
    return cls(n_features=64, n_clusters=10, **{key: value for key, value in sizes.items() if key in known})


def quick(name: str, **more: object) -> dict[str, object]:
    known = inspect.signature(story_class(name).recipe).parameters
    return {key: value for key, value in (QUICK | more).items() if key in known}


def fitted(name: str, x: np.ndarray, recipe: dict[str, object] | None = None, **settings: object) -> pc.Story:
    story = small(name)
    pc.fit(story, x, recipe=recipe or quick(name) or None, batch_size=50, device="cuda", **settings)
    return story


def weights(story: pc.Story) -> torch.Tensor:
    return torch.cat([parameter.detach().cpu().flatten() for parameter in story.parameters()])


@pytest.mark.parametrize("name", story_names())
def test_every_story_fits_and_serves(name: str) -> None:
    x = digits()
    story = small(name)
    record = pc.fit(story, x, recipe=quick(name) or None, batch_size=50, device="cuda")
    assert {parameter.device.type for parameter in story.parameters()} == {"cuda"}
    assert {value.device.type for value in record.memory.values()} <= {"cpu"}
    table = pc.responsibilities(story, x)
    assert table.device.type == "cpu"
    torch.testing.assert_close(table.sum(1), torch.ones(len(x)), **CLOSE)
    assert pc.predict(story, x).tolist() == table.argmax(1).tolist()
    assert len(pc.embed(story, x)) == len(x)
    if not story.conditional:
        assert {value.device.type for value in pc.sample(story, 5, cluster=1).values()} == {"cpu"}
    if story.is_density:
        assert pc.log_likelihood(story, x, particles=2).isfinite().all()


@pytest.mark.parametrize("name", story_names())
def test_a_saved_story_gives_the_same_on_a_cpu(name: str, tmp_path: Path) -> None:
    x = digits()
    story = fitted(name, x)
    pc.save(story, tmp_path / "story.safetensors")
    loaded = pc.load(tmp_path / "story.safetensors")
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu"}
    here, there = pc.embed(loaded, x), pc.embed(story, x).cpu()
    torch.testing.assert_close(here, there, **CLOSE)
    if not draws_latents(story):  # else each device draws its own
        torch.testing.assert_close(pc.responsibilities(loaded, x), pc.responsibilities(story, x), **CLOSE)


PRETRAINED = "vade", "mixture-of-vaes", "damic", "dec", "dmae"
STARTS = [
    *product(PRETRAINED, ("neighbours", "embedding", "words", "sequence")),
    *((name, "vade" if name == "mixture-of-vaes" else "autoencoder") for name in PRETRAINED),
]


@pytest.mark.parametrize(("name", "start"), STARTS)
def test_every_start_works(name: str, start: str) -> None:
    more = {"lengths": [120, 80]} if start == "sequence" else {}
    story = fitted(name, digits(), quick(name, pretraining=start, **more))
    assert weights(story).isfinite().all()


@pytest.mark.parametrize("name", story_names())
def test_staged_agrees_with_eager(name: str) -> None:
    x = digits()
    eager, staged = (weights(fitted(name, x, engine=engine)) for engine in ("eager", "staged"))
    torch.testing.assert_close(staged, eager, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("precision", ["tf32", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", ["vade", "damic", "gmm"])
def test_precisions_fit(name: str, precision: str) -> None:
    assert weights(fitted(name, digits(), precision=precision)).isfinite().all()


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_stories_of_strangers_agree_with_a_cpu(case) -> None:
    """Their log joint on the same rows, where the guide draws nothing; else that it is finite."""
    torch.manual_seed(0)
    story, x = case.build().float(), case.rows(20).float()
    here = pc.log_joint(story, x)
    there = pc.log_joint(story.cuda(), x)
    assert there.device.type == "cpu"
    assert there.shape == here.shape
    if not draws_latents(story):
        torch.testing.assert_close(there, here, **CLOSE)
    pc.fit(story, x, recipe=[pc.SVI(epochs=2, objective=case.objective)], batch_size=10, device="cuda")
    assert weights(story).isfinite().all()


def test_a_fit_stopped_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fit.safetensors"
    monkeypatch.setattr(fit_loop, "SNAPSHOT_SECONDS", 0.0)
    with stopped_after(3, monkeypatch):
        fitted("vade", digits(), checkpoint=path)
    resumed = fitted("vade", digits(), checkpoint=path, resume=True)
    torch.testing.assert_close(weights(resumed), weights(fitted("vade", digits())), **CLOSE)


def test_known_clusters_pairs_and_missing_entries_fit() -> None:
    data = pc.data.load("digits")
    x, y = digits().copy(), np.where(np.arange(200) < 40, data.y[:200], -1)
    pairs = pc.Pairs(must=[(50, 60)], cannot=[(50, 70)])
    assert weights(fitted("vade", x, y=y, pairs=pairs)).isfinite().all()
    x[::7, ::5] = np.nan
    torch.manual_seed(0)
    story = pc.models.VaDE(64, 10, hidden=(16,), latent_dim=5, missing=True)
    pc.fit(story, x, recipe=QUICK, batch_size=50, device="cuda")
    assert pc.impute(story, x, draws=3, particles=5).mean.isfinite().all()


def test_rows_larger_than_memory_are_read_by_batch(tmp_path: Path) -> None:
    x = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(300_000, 64))
    x[:] = np.random.default_rng(0).normal(size=x.shape)
    x += 10 * np.arange(len(x))[:, None] % 100
    x.flush()
    story = small("gmm")
    pc.fit(story, np.load(tmp_path / "x.npy", mmap_mode="r"), epochs=1, device="cuda", batch_size=4096)
    assert weights(story).isfinite().all()


def test_the_estimator_serves_as_scikit_learns_do() -> None:
    x = digits()
    model = pc.DeepMixture("vade", n_clusters=10, device="cuda", recipe=QUICK)
    labels = model.fit_predict(x)
    assert labels.shape == (200,)
    assert model.predict_proba(x).shape == (200, 10)
    assert np.isfinite(model.score_samples(x)).all()
    again = pickle.loads(pickle.dumps(model))
    assert again.story_.device.type == "cpu"
    assert model.story_.device.type == "cuda"
    np.testing.assert_allclose(again.transform(x), model.transform(x), **CLOSE)


def test_a_mixture_fits_as_well_as_on_a_cpu() -> None:
    x = digits(1000)
    bounds = []
    for device in ("cpu", "cuda"):
        story = small("gmm")
        bounds.append(pc.fit(story, x, epochs=30, device=device).bound)
    assert bounds[1] == pytest.approx(bounds[0], abs=1.0)
