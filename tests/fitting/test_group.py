"""Several devices: two processes come to what one does with batches twice as large, however they were started."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import probclust as pc
from probclust.fitting.devices import group as devices
from probclust.fitting.devices.group import Devices, fabric_for
from probclust.fitting.devices.shared_draws import Share, SharedDraws
from probclust.progress import Progress
from tests.support.two_processes import FITS, SMALL, START, blobs, run, story

pytestmark = pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what each of two processes, started by torchrun, came to."""
    folder = tmp_path_factory.mktemp("two")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    done = subprocess.run(
        [*command, str(root / "tests" / "support" / "two_processes.py"), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


@pytest.mark.xdist_group("two processes")
@pytest.mark.parametrize("name", FITS)
def test_two_processes_come_to_what_one_does_with_twice_the_batch(
    name: str, two_processes: Path, tmp_path: Path
) -> None:
    fitted, record = run(name, tmp_path, batch_size=40)
    for number in (0, 1):
        other = torch.load(two_processes / f"{name} {number}.pt", weights_only=False)
        assert len(other["history"]) == len(record.history)
        assert other["memory"].keys() == record.memory.keys()
        if "mark" in record.memory:
            assert other["memory"]["mark"].tolist() == [2, 2, 2]
        for key, value in fitted.state_dict().items():
            torch.testing.assert_close(other["state"][key], value, rtol=1e-4, atol=1e-5)
        for mine, theirs in zip(record.history, other["history"], strict=True):
            assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-4, abs=1e-5)
            if "occupancy" in mine:
                np.testing.assert_allclose(theirs["occupancy"], mine["occupancy"], rtol=1e-3, atol=1e-5)
                assert theirs["terms"].keys() == mine["terms"].keys()
        np.testing.assert_allclose(other["bounds"], record.bounds, rtol=1e-4)


@pytest.mark.xdist_group("two processes")
def test_fit_starts_processes_and_brings_the_story_back(tmp_path: Path) -> None:
    recipe = START | {"epochs": 3, "fit_epochs": 1}
    make = story(pc.models.VaDE, **SMALL)
    one, two = make(), make()
    record = pc.fit(one, blobs(), recipe=recipe, batch_size=40, device="cpu", engine="eager")
    settings: dict[str, Any] = {"recipe": recipe, "batch_size": 20, "device": "cpu", "devices": 2}
    other = pc.fit(two, blobs(), checkpoint=tmp_path / "fit", **settings)
    assert other.bound == pytest.approx(record.bound, rel=1e-5)
    assert other.settings["devices"] == 2
    for key, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[key], value, rtol=1e-4, atol=1e-5)
    assert not two.training
    assert pc.predict(two, blobs()).tolist() == pc.predict(one, blobs()).tolist()
    assert (tmp_path / "fit").exists()


class Breaking(pc.models.GaussianMixture):
    """A story whose start fails."""

    def recipe(self) -> list[Any]:  # type: ignore[override]
        """A step that raises, where only the first process runs it."""
        return [pc.Compute(name="break", run=self.fail), pc.SVI(epochs=1)]

    def fail(self, run: Any) -> None:
        """Raise."""
        raise KeyError("the start failed")


@pytest.mark.xdist_group("two processes")
def test_an_error_of_a_process_is_raised_where_fit_was_called() -> None:
    with pytest.raises(KeyError, match="the start failed"):
        pc.fit(Breaking(6, 3), blobs(), devices=2, device="cpu")


def test_a_process_started_for_a_fit_leaves_no_group_to_pythons_end(monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    monkeypatch.setattr(devices, "_launched", None)
    devices.enter(fabric_for("cpu"))
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        for function in at_exit:
            function()
        assert not torch.distributed.is_initialized()
    finally:
        devices.leave()
    devices.leave()  # without a group there is nothing to end


def drawn_by(share: Share, fn: Any, local: bool = True) -> torch.Tensor:
    """A device's draw at a sample statement, in the plate of the rows or outside."""
    with SharedDraws(share), pyro.plate("data", fn.batch_shape[-1], dim=-1) if local else nullcontext():
        value: torch.Tensor = pyro.sample("z", fn)
    return value


@pytest.mark.parametrize("n_total", [10, 11])
@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("n_clusters", [None, 4])
def test_the_devices_draws_are_parts_of_the_whole_batchs(n_total: int, particles: int, n_clusters: int | None) -> None:
    lead = () if n_clusters is None else (n_clusters,)
    loc = torch.randn(*lead, particles * n_total, 2)
    torch.manual_seed(1)
    whole = dist.Normal(loc, 0.5).to_event(1).rsample().unflatten(-2, (particles, n_total))
    at = 0
    for n_rows in (n_total // 2 + n_total % 2, n_total // 2):
        share = Share(at, n_rows, n_total, {"cpu": torch.Generator().manual_seed(1)})
        own = loc.unflatten(-2, (particles, n_total))[..., at : at + n_rows, :].flatten(-3, -2)
        drawn = drawn_by(share, dist.Normal(own, 0.5).to_event(1))
        torch.testing.assert_close(drawn, whole[..., at : at + n_rows, :].flatten(-3, -2))
        at += n_rows


def test_uniform_numbers_are_shared_too_and_global_latents_are_drawn_alike() -> None:
    for fn, size in ((dist.Uniform, 0.0), (dist.Laplace, 0.0), (dist.Exponential, 1.0)):
        arguments = (torch.full((6,), size), torch.full((6,), 2.0))[: 1 if fn is dist.Exponential else 2]
        torch.manual_seed(0)
        whole = fn(*arguments).rsample()
        share = Share(4, 2, 6, {"cpu": torch.Generator().manual_seed(0)})
        drawn = drawn_by(share, fn(*(value[:2] for value in arguments)))
        torch.testing.assert_close(drawn, whole[4:])
    alone = Share(0, 1, 2, {"cpu": torch.Generator().manual_seed(0)})
    first = drawn_by(alone, dist.Normal(torch.zeros(3), 1.0).to_event(1), local=False)
    torch.manual_seed(0)
    torch.testing.assert_close(first, torch.randn(3))


def test_one_device_agrees_with_itself() -> None:
    devices = Devices(fabric_for("cpu"))
    memory: dict[str, torch.Tensor] = {}
    assert (devices.n, devices.is_first, devices.agree(3), devices.first_of(None)) == (1, True, 3, None)
    assert devices.once(lambda: memory.setdefault("a", torch.ones(1)), memory) is memory["a"]
    [total] = devices.sums([torch.ones(2)])
    assert total.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": 0}, "devices must be"),
        ({"device": "cpu:1"}, "devices=2 needs device="),
        ({"recipe": [pc.SVI()]}, "recipe is an object of this process"),
        ({"progress": Progress()}, "progress is an object of this process"),
        ({"epochs": -1}, "epochs must be"),
    ],
)
def test_what_cannot_run_on_two_devices_is_refused_before_any_process_starts(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pc.fit(pc.models.GaussianMixture(6, 3), blobs(), **{"devices": 2, "device": "cpu", **settings})


def test_a_story_that_cannot_be_sent_says_what_to_do() -> None:
    class Local(pc.models.GaussianMixture):
        pass

    with pytest.raises(ValueError, match="whose class stands in a file"):
        pc.fit(Local(6, 3), blobs(), devices=2, device="cpu")
