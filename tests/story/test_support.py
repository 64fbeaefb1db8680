"""Values outside a site's support are refused by row and value, in fits and in every score."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import probclust as pc
from probclust.data.stored import RESIDENT_BYTES
from probclust.models import VaDE


class Observes(pc.Story):
    """Each cluster has a vector of parameters; subclasses say what is observed."""

    def __init__(self, n_features=3, n_clusters=2):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))
        self.passes = 0

    def model(self, x):
        self.passes += 1
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            self.observe(x, self.loc[k])

    def guide(self, x):
        pass


class Kinds(Observes):
    def observe(self, x, loc):
        pyro.sample("kind", dist.Categorical(logits=loc), obs=x[:, 0].long())


class Counts(Observes):
    def observe(self, x, loc):
        pyro.sample("x", dist.Poisson(loc.exp()).to_event(1), obs=x)


class Shares(Observes):
    def observe(self, x, loc):
        pyro.sample("x", dist.Dirichlet(loc.exp()), obs=x)


class Successes(Observes):
    """The bound of the support is a tensor."""

    def observe(self, x, loc):
        pyro.sample("x", dist.Binomial(torch.tensor([5.0, 6.0, 7.0]), logits=loc).to_event(1), obs=x)


class Logs(Observes):
    """Observes what is computed from x."""

    def observe(self, x, loc):
        pyro.sample("x", dist.Exponential(loc.exp()).to_event(1), obs=x - 1)


class TwoSites(Observes):
    def observe(self, x, loc):
        pyro.sample("real", dist.Normal(loc[..., 0], 1.0), obs=x[:, 2])
        pyro.sample("flag", dist.Bernoulli(logits=loc[..., 1:]).to_event(1), obs=x[:, :2])


CASES = {  # story, a value that is inside, the row that is not, words
    "category": (
        Kinds,
        [1.0, 0.5, 0.5],
        [7.0, 0.5, 0.5],
        r"site 'kind'.* value 7 lies.*Categorical.*in row 17, column 0",
    ),
    "negative category": (Kinds, [1.0, 0.5, 0.5], [-1.0, 0.0, 0.0], r"value -1 lies.*in row 17"),
    "fraction of a count": (Counts, [1.0, 2.0, 3.0], [1.0, 2.5, 3.0], r"value 2\.5 lies.*Poisson.*in row 17, column 1"),
    "negative count": (Counts, [1.0, 2.0, 3.0], [1.0, 2.0, -3.0], r"value -3\.0 lies.*in row 17, column 2"),
    "whole row": (Shares, [0.2, 0.3, 0.5], [0.5, 0.5, 0.5], r"value \[0\.5, 0\.5, 0\.5\] lies.*Dirichlet.*in row 17;"),
    "bound of a tensor": (
        Successes,
        [5.0, 6.0, 7.0],
        [5.0, 7.0, 7.0],
        r"value 7\.0 lies.*Binomial.*in row 17, column 1",
    ),
    "computed": (Logs, [2.0, 3.0, 4.0], [2.0, 0.5, 4.0], r"value -0\.5 lies.*Exponential.*in row 17, column 1"),
    "one of two sites": (TwoSites, [0.0, 1.0, 5.0], [0.0, 0.3, 5.0], r"site 'flag'.*value 0\.3.*in row 17, column 1"),
}
FUNCTIONS = {
    "fit": lambda story, x: pc.fit(story, x, epochs=1, batch_size=8),
    "predict": pc.predict,
    "log_likelihood": pc.log_likelihood,
    "elbo": pc.elbo,
    "embed": pc.embed,
    "sample_posterior": lambda story, x: pc.sample_posterior(story, x, seed=0),
    "compare": lambda story, x: pc.compare({"one": story}, x),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(("build", "inside", "outside", "words"), CASES.values(), ids=CASES)
def test_a_value_outside_the_support_is_refused_by_row(build, inside, outside, words, function):
    story, x = build(), torch.tensor(inside).repeat(20, 1)
    assert torch.isfinite(pc.log_joint(story, x)).all()  # the contract is known to hold
    x[17] = torch.tensor(outside)
    with pytest.raises(pc.ContractError, match=words):
        function(story, x)


def test_a_row_of_many_is_named_and_no_pass_is_needed_to_find_it(monkeypatch):
    monkeypatch.setattr("probclust.story.support.BLOCK_ELEMENTS", 30)
    story, x = Counts(), torch.ones(100, 3)
    pc.predict(story, x)
    passes = story.passes
    pc.predict(story, x)
    assert story.passes == passes + 1, "the scores alone"
    x[73, 1] = -1
    with pytest.raises(pc.ContractError, match="in row 73, column 1"):
        pc.predict(story, x)


def test_rows_in_a_file_are_checked_as_they_are_read(tmp_path):
    n_features = 1024
    n_rows = RESIDENT_BYTES // (4 * n_features) + 2000
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (n_rows, n_features))
    story = VaDE(n_features, 2, latent_dim=1, hidden=(2,), likelihood="bernoulli")
    x[n_rows - 7, 5] = 2
    with pytest.raises(pc.ContractError, match=f"value 2.0 lies.*Bernoulli.*in row {n_rows - 7}, column 5"):
        pc.predict(story, x)


@pytest.mark.parametrize("how", ["law", "elements", "rows", "whole row"])
def test_what_a_mask_hides_may_be_anything(how):
    class Masked(Observes):
        def observe(self, x, loc):
            if how == "whole row":
                pyro.sample("x", dist.Dirichlet(loc.exp()).mask(x[:, 0] >= 0), obs=x)
            elif how == "rows":
                with pyro.poutine.mask(mask=x[:, 0] >= 0):
                    pyro.sample("x", dist.Poisson(loc.exp()).to_event(1), obs=x)
            elif how == "law":
                pyro.sample("x", dist.Poisson(loc.exp()).to_event(1).mask(x[:, 0] >= 0), obs=x)
            else:
                pyro.sample("x", dist.Poisson(loc.exp()).mask(x >= 0).to_event(1), obs=x)

    Masked.conditional = True  # its mask is read off x
    story, x = Masked(), torch.tensor([[0.2, 0.3, 0.5] if how == "whole row" else [0.0, 2.0, 1.0]]).repeat(20, 1)
    whole = pc.log_joint(story, x)
    x[17] = -1.0
    assert torch.equal(pc.log_joint(story, x)[:17], whole[:17])
    x[16, 1] = 1.5
    with pytest.raises(pc.ContractError, match="in row 16"):
        pc.log_joint(story, x)


def test_a_mask_of_one_number_hides_all_or_nothing():
    class Switched(pc.Story):
        def __init__(self, counts):
            super().__init__(n_features=1, n_clusters=2)
            self.counts, self.log_rate = counts, torch.nn.Parameter(torch.zeros(2))

        def model(self, x):
            with pyro.plate("data", len(x)):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(2)))
                with pyro.poutine.mask(mask=self.counts):
                    pyro.sample("x", dist.Poisson(self.log_rate[k].exp()), obs=x[:, 0])

        def guide(self, x):
            pass

    x = torch.full((6, 1), 0.5)
    assert pc.log_joint(Switched(False), x).allclose(torch.tensor(0.5).log())
    with pytest.raises(pc.ContractError, match="in row 0"):
        pc.log_joint(Switched(True), x)


def test_what_the_user_lets_through_passes():
    class Grey(Observes):
        def observe(self, x, loc):
            pyro.sample("x", dist.Bernoulli(logits=loc, validate_args=False).to_event(1), obs=x)

    assert pc.log_joint(Grey(), torch.rand(20, 3)).shape == (20, 2)
