"""Checkpoints of a version whose story had other names, and its parameters in another order, go on to the same end."""

from __future__ import annotations

from typing import ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import probclust as pc
from probclust.fitting import loop
from probclust.story.archive import read_archive, write_archive
from tests.support.stopping import stopped_after

RECIPE = [pc.SVI(epochs=4, learning_rate=0.05)]


class Codec(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.zeros(shape))


class Then(pc.Story):
    """loc and log_scale are of one shape, so that no shape tells them apart."""

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))
        self.log_scale = nn.Parameter(torch.zeros(n_clusters, n_features))
        self.logits = nn.Parameter(torch.zeros(n_clusters))

    def parts(self):
        return self.loc, self.log_scale

    def model(self, x):
        loc, log_scale = self.parts()
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(logits=self.logits))
            pyro.sample("x", dist.Normal(loc[k], log_scale[k].exp()).to_event(1), obs=x)

    def guide(self, x):
        pass


class Now(Then):
    """The same, with the two in a codec, which has them the other way round."""

    renamed_state: ClassVar = {"loc": "codec.loc", "log_scale": "codec.log_scale", "logits": "logits"}

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features, n_clusters)
        del self.loc, self.log_scale
        self.codec = Codec((n_clusters, n_features))
        self.codec._parameters = dict(reversed(self.codec._parameters.items()))

    def parts(self):
        return self.codec.loc, self.codec.log_scale


Now.__qualname__ = Then.__qualname__  # checkpoints keep the story's name


def by_number(path):
    """Write a checkpoint as earlier versions did, which numbered the parameters."""
    tensors, facts = read_archive(path, "checkpoint")
    order = ["0.loc", "0.log_scale", "0.logits"]
    assert {name.rpartition(".")[0] for name in tensors if name.startswith("optimizer.")} == {
        f"optimizer.{name}" for name in order
    }
    for number, name in enumerate(order):
        for key in ("exp_avg", "exp_avg_sq", "step"):
            tensors[f"optimizer.{number}.{key}"] = tensors.pop(f"optimizer.{name}.{key}")
    write_archive(path, "checkpoint", tensors, facts)


@pytest.mark.parametrize("numbered", [False, True])
def test_names_and_order_may_change_while_a_fit_is_stopped(numbered, tmp_path, monkeypatch):
    x, path = 2 * torch.randn(60, 3), tmp_path / "checkpoint"
    torch.manual_seed(0)
    unbroken, stopped = Then(3, 2), Then(3, 2)
    stopped.load_state_dict(unbroken.state_dict())
    pc.fit(unbroken, x, recipe=RECIPE, batch_size=20)
    monkeypatch.setattr(loop, "SNAPSHOT_SECONDS", 0.0)
    with stopped_after(3, monkeypatch):
        pc.fit(stopped, x, recipe=RECIPE, batch_size=20, checkpoint=path)
    if numbered:
        by_number(path)
    resumed = Now(3, 2)
    pc.fit(resumed, x, recipe=RECIPE, batch_size=20, checkpoint=path, resume=True)
    for found, then in zip(resumed.parts(), unbroken.parts(), strict=True):
        assert torch.equal(found, then)
    assert torch.equal(resumed.logits, unbroken.logits)


def test_an_optimizer_of_other_parameters_is_refused(tmp_path, monkeypatch):
    x, path = torch.randn(60, 3), tmp_path / "checkpoint"
    monkeypatch.setattr(loop, "SNAPSHOT_SECONDS", 0.0)
    with stopped_after(2, monkeypatch):
        pc.fit(Then(3, 2), x, recipe=RECIPE, checkpoint=path)
    tensors, facts = read_archive(path, "checkpoint")
    tensors["optimizer.0.gone.exp_avg"] = torch.zeros(2)
    write_archive(path, "checkpoint", tensors, facts)
    with pytest.raises(ValueError, match=r"state of parameters that the step does not train: 0\.gone; go on with"):
        pc.fit(Then(3, 2), x, recipe=RECIPE, checkpoint=path, resume=True)
