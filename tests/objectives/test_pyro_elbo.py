"""Pyro's own ELBOs as objectives of a fit: right, or refused as `fit` is called."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pyro.infer
import pytest
import torch
from pyro.infer import TraceEnum_ELBO

import probclust as pc
from probclust.models import GaussianMixture, MixtureOfVAEs, VaDE
from probclust.story.recipe import SVI
from tests.support.stories import Amortised, FactorAnalysers


class Mean(pc.Story):
    """mu ~ N(0, 0.1), x ~ N(mu, 1): the posterior's mode is sum(x) / (n + 100)."""

    def __init__(self, enumerated=True):
        super().__init__(n_features=1, n_clusters=2)
        self.infer = {"enumerate": "parallel"} if enumerated else {}

    def model(self, x):
        mu = pyro.sample("mu", dist.Normal(torch.zeros(()), 0.1))
        with pyro.plate("data", len(x)):
            pyro.sample("cluster", dist.Categorical(torch.ones(2)), infer=self.infer)
            pyro.sample("x", dist.Normal(mu, 1.0).expand([1]).to_event(1), obs=x)

    def guide(self, x):
        pass


@pytest.mark.parametrize("batch_size", [300, 60, 7])
@pytest.mark.filterwarnings("ignore:all clusters merged")
def test_the_prior_of_global_latents_counts_once_whatever_the_batches(batch_size):
    x = torch.randn(300, 1) + 1
    story = Mean()
    steps = max(1, 300 // batch_size)
    recipe = [SVI(epochs=max(6, 200 // steps), learning_rate=0.05, objective=TraceEnum_ELBO(max_plate_nesting=1))]
    pc.fit(story, x, recipe=recipe, batch_size=batch_size)
    assert float(story.globals.locs["mu"].detach()) == pytest.approx(float(x.sum() / 400), abs=0.02)


@pytest.mark.parametrize("enumerated", [True, False])
@pytest.mark.filterwarnings("ignore:all clusters merged")
def test_the_loss_of_a_fit_is_that_of_the_exact_objective(enumerated):
    x = torch.cat([torch.randn(30, 1), torch.randn(30, 1) + 6])
    losses = []
    for objective in (TraceEnum_ELBO(max_plate_nesting=1), TraceEnum_ELBO(num_particles=2), "exact"):
        story = Mean(enumerated)
        story.globals.locs["mu"].data.fill_(0.3)
        record = pc.fit(story, x, recipe=[SVI(epochs=3, objective=objective, batch_size=20)])
        losses.append([entry["loss"] for entry in record.history])
    assert losses[0] == pytest.approx(losses[2], rel=1e-5)
    assert losses[1] == pytest.approx(losses[2], rel=1e-5)


def test_our_stories_have_their_cluster_summed_out():
    x = torch.cat([torch.randn(60, 2), torch.randn(60, 2) + 6])
    bounds = []
    for objective in ("exact", TraceEnum_ELBO(max_plate_nesting=1)):
        torch.manual_seed(1)
        story = GaussianMixture(2, 2)
        story.loc.data.copy_(torch.tensor([[0.0, 1.0], [5.0, 6.0]]))
        recipe = [SVI(epochs=100, learning_rate=0.02, objective=objective)]
        bounds.append(pc.fit(story, x, recipe=recipe).bound)
    assert bounds[1] == pytest.approx(bounds[0], abs=1e-4)


def test_stories_under_plain_pyro_have_it_summed_out_too():
    torch.manual_seed(0)
    story, x = VaDE(4, 3, latent_dim=2, hidden=(6,)), torch.randn(7, 4)
    pyro.set_rng_seed(7)
    ours = pc.objectives.Exact().loss(story.model, story.guide, x)
    pyro.set_rng_seed(7)
    assert TraceEnum_ELBO(max_plate_nesting=1).loss(story.model, story.guide, x) == pytest.approx(ours, rel=1e-5)


def test_amortised_averages_over_the_guides_own_cluster():
    x = torch.randn(40, 4)
    losses = []
    for objective in ("amortised", TraceEnum_ELBO(max_plate_nesting=1)):
        torch.manual_seed(0)
        record = pc.fit(Amortised(4, 3), x, recipe=[SVI(epochs=2, objective=objective)])
        losses.append([entry["loss"] for entry in record.history])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def nothing(story, x):
    raise AssertionError("the step ran")


@pytest.mark.parametrize(
    "objective",
    [
        pyro.infer.Trace_ELBO(),
        pyro.infer.TraceGraph_ELBO(),
        pyro.infer.TraceMeanField_ELBO(),
        pyro.infer.RenyiELBO(alpha=0.5, num_particles=2),
        pyro.infer.JitTraceEnum_ELBO(max_plate_nesting=1),
        pyro.infer.TraceTMC_ELBO(max_plate_nesting=1),
        TraceEnum_ELBO(max_plate_nesting=1, num_particles=2, vectorize_particles=True),
        TraceEnum_ELBO(max_plate_nesting=0),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_others_are_refused_before_any_work(objective):
    story, x = FactorAnalysers(4, 3), torch.randn(30, 4)
    steps = [pc.Compute(name="start", run=lambda run: nothing(story, x)), SVI(epochs=1, objective=objective)]
    with pytest.raises(ValueError, match=r"step 'svi': objective \w+ (draws|has|fails)"):
        pc.fit(story, x, recipe=steps)


def test_a_guide_without_the_cluster_that_its_latents_need_is_refused():
    story = MixtureOfVAEs(4, 3, latent_dim=2, hidden=(6,))
    with pytest.raises(ValueError, match=r"needs a q\(cluster \| x\) in the guide of MixtureOfVAEs, whose 'z'"):
        pc.fit(story, torch.randn(30, 4), objective=TraceEnum_ELBO(max_plate_nesting=1))


def test_the_mixture_of_vaes_believes_no_stand_in():
    """Its guide has no q(cluster | x), so that the amortised bound is the exact one."""
    story, x = MixtureOfVAEs(4, 3, latent_dim=2, hidden=(6,)), torch.randn(30, 4)
    values = []
    for objective in (pc.objectives.Exact(), pc.objectives.Amortised()):
        pyro.set_rng_seed(0)
        values.append(objective.loss(story.model, story.guide, x))
    assert values[0] == values[1]
    trace = pyro.poutine.trace(story.guide).get_trace(x)
    assert "cluster" not in trace.nodes


@pytest.mark.filterwarnings("ignore:all clusters merged")
def test_a_fit_is_not_resumed_with_other_settings_of_the_elbo(tmp_path):
    x = torch.randn(40, 1)
    path = tmp_path / "fit.ckpt"
    pc.fit(Mean(), x, epochs=2, objective=TraceEnum_ELBO(max_plate_nesting=1), checkpoint=path)
    other = TraceEnum_ELBO(max_plate_nesting=1, num_particles=3)
    with pytest.raises(ValueError, match=r"another fit \(steps\[0\]\.objective"):
        pc.fit(Mean(), x, epochs=2, objective=other, checkpoint=path, resume=True)
