"""`check_story` catches what is planted, by name, and lets sound stories pass, in seconds and without pytest."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import probclust as pc
from probclust.testing import check_story


class Sound(pc.Story):
    """A mixture of Gaussians."""

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.logits = nn.Parameter(0.1 * torch.randn(n_clusters))
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))

    def law(self, cluster):
        return dist.Normal(self.loc[cluster], 1.0).to_event(1)

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", dist.Categorical(logits=self.logits))
            pyro.sample("x", self.law(cluster), obs=x)

    def guide(self, x):
        pass


class MixesClusters(Sound):
    """Takes the dim of the enumerated clusters for that of the rows."""

    def law(self, cluster):
        loc = self.loc[cluster]
        return dist.Normal(loc - loc.mean(0, keepdim=True), 1.0).to_event(1)


class CountsRows(Sound):
    """Weighs a term by the rows of the batch."""

    def model(self, x):
        super().model(x)
        with pyro.plate("data", x.shape[0]):
            pyro.factor("penalty", -self.loc.square().sum().expand(x.shape[0]) / x.shape[0])


class OneClusterIsDrawn(Sound):
    """Its samples ignore the cluster."""

    def generative(self, x):
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", dist.Categorical(logits=self.logits))
            pyro.sample("x", self.law(torch.zeros_like(cluster)), obs=x)


class WiderDraws(Sound):
    """Its samples have another scale than its scores."""

    def generative(self, x):
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", dist.Categorical(logits=self.logits))
            pyro.sample("x", dist.Normal(self.loc[cluster], 2.0).to_event(1), obs=x)


class SwappedDraws(Sound):
    """Its samples of a cluster are those of the next."""

    def generative(self, x):
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", dist.Categorical(logits=self.logits))
            pyro.sample("x", self.law((cluster + 1) % self.n_clusters), obs=x)


class Forgets(Sound):
    """Keeps what its model uses in a plain attribute."""

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features, n_clusters)
        self.shift = torch.randn(n_features)

    def law(self, cluster):
        return dist.Normal(self.loc[cluster] + self.shift, 1.0).to_event(1)


class SeedsTorch(Sound):
    def __init__(self, n_features, n_clusters):
        torch.manual_seed(0)
        super().__init__(n_features, n_clusters)


class SeedsNumpy(Sound):
    def model(self, x):
        np.random.seed(0)  # noqa: NPY002
        super().model(x)


class DrawsInPython(Sound):
    def guide(self, x):
        random.random()


class DrawsItsNoise(Sound):
    """Draws for itself, apart from torch's seed."""

    def __init__(self, n_features, n_clusters):
        super().__init__(n_features, n_clusters)
        self.generator = np.random.default_rng()

    def law(self, cluster):
        noise = float(self.generator.normal()) if self.training else 0.0
        return dist.Normal(self.loc[cluster] + noise, 1.0).to_event(1)

    def __deepcopy__(self, memo):
        raise AssertionError("found before")


class SharesWeights(Sound):
    """A copy has the very weights of the original."""

    def __deepcopy__(self, memo):
        return self


class InDoublePrecision(Sound):
    def model(self, x):
        torch.set_default_dtype(torch.float64)
        super().model(x)


class InPyrosStore(Sound):
    def law(self, cluster):
        return dist.Normal(self.loc[cluster] + pyro.param("shift", torch.zeros(())), 1.0).to_event(1)


class WithoutEvents(Sound):
    def law(self, cluster):
        return dist.Normal(self.loc[cluster], 1.0)


class NoMean(dist.TorchDistribution):
    """A distribution that cannot be reconstructed from."""

    support = dist.constraints.real_vector
    arg_constraints = {}  # noqa: RUF012

    def __init__(self, loc):
        self.normal = dist.Normal(loc, 1.0).to_event(1)
        super().__init__(self.normal.batch_shape, self.normal.event_shape, validate_args=False)

    def log_prob(self, value):
        return self.normal.log_prob(value)

    def sample(self, sample_shape=()):
        return self.normal.sample(sample_shape)

    def expand(self, batch_shape, _instance=None):
        return NoMean(self.normal.expand(batch_shape).base_dist.loc)


class Unreconstructable(Sound):
    def law(self, cluster):
        return NoMean(self.loc[cluster])


PLANTED = {
    MixesClusters: "scores otherwise when all clusters are enumerated",
    CountsRows: "scores otherwise among 40 rows than alone",
    OneClusterIsDrawn: r"pc\.sample draws the same whatever the cluster",
    WiderDraws: r"column \d of pc\.sample\(cluster=0\) is not distributed as the model has it",
    SwappedDraws: "is not distributed as the model has it",
    Forgets: "scores otherwise once saved and loaded",
    SeedsTorch: r"make\(\) sets torch's random state",
    SeedsNumpy: "leaves changed: numpy's random state",
    DrawsInPython: "leaves changed: Python's random state",
    DrawsItsNoise: "two fits under seed 0 differ",
    SharesWeights: "training a copy of the story moves",
    InDoublePrecision: "leaves changed: torch's default dtype",
    InPyrosStore: "parameter 'shift' is in Pyro's global store",
    WithoutEvents: r"\.to_event\(1\)",
    Unreconstructable: "site 'x', NoMean, has no mean",
}


def rows(n=40):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return torch.randn(n, 2)


def test_a_sound_story_passes_in_seconds():
    begun = time.process_time()
    assert check_story(lambda: Sound(2, 3), rows()) == {}
    assert time.process_time() - begun < 20


@pytest.mark.parametrize("story", PLANTED, ids=lambda story: story.__name__)
def test_a_planted_fault_is_caught(story):
    error = pc.ContractError if story in (InPyrosStore, Unreconstructable, WithoutEvents) else AssertionError
    state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with pytest.raises(error, match=PLANTED[story]):
        check_story(lambda: story(2, 3), rows())
    assert (str(np.random.get_state()), random.getstate()) == (str(state[0]), state[1])  # noqa: NPY002


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("law", ["cauchy", "counts", "one cluster", "one column", "equal clusters"])
def test_there_are_no_false_alarms(law, seed):
    """Heavy tails, ties, and the edges: tests of distributions reject a sound story once in ten million."""
    torch.manual_seed(seed)
    laws = {
        "cauchy": lambda loc: dist.Cauchy(loc, 1.0).to_event(1),
        "counts": lambda loc: dist.Poisson(loc.exp()).to_event(1),
    }

    class Told(Sound):
        def law(self, cluster):
            loc = 0 * self.loc[cluster] if law == "equal clusters" else self.loc[cluster]
            return laws.get(law, lambda loc: dist.Normal(loc, 1.0).to_event(1))(loc)

    x = torch.poisson(torch.full((30, 2), 2.0)) if law == "counts" else torch.randn(30, 2)
    if law == "one column":
        x = x[:, :1]
    skipped = check_story(lambda: Told(x.shape[1], 1 if law == "one cluster" else 3), x)
    assert skipped.keys() <= {"pc.modes", "pc.impute"}


def test_what_is_no_story_is_told():
    with pytest.raises(AssertionError, match=r"make\(\) gave a Linear, expected a story"):
        check_story(lambda: nn.Linear(2, 3), rows())


def test_pytest_is_not_needed():
    program = (
        "import sys; sys.modules['pytest'] = None; import torch, probclust as pc; from probclust.testing import *; "
        "print(check_story(lambda: pc.models.GaussianMixture(2, 2), torch.randn(20, 2)))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "{}"), done.stderr
