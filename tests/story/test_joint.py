"""The log joint, against Pyro's own handlers one cluster at a time and against formulas written out by hand."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

import probclust as pc
from probclust.models import GaussianMixture, MixtureOfVAEs, VaDE
from probclust.story.joint import Joint, Pass, trace_joint
from tests.support.stories import CASE_NAMES, CASES, GUIDED, LATENT, FactorAnalysers, Poissons, VonMises

OURS = [
    lambda: GaussianMixture(4, 3),
    lambda: VaDE(4, 3, latent_dim=2, hidden=(6,)),
    lambda: MixtureOfVAEs(4, 3, latent_dim=2, hidden=(6,)),
]
pytestmark = pytest.mark.usefixtures("float64")


class Asked(Messenger):
    """Tells a guide without a cluster of its own which one it is asked for."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster = cluster

    def _pyro_clusters(self, msg):
        msg["value"], msg["done"] = self.cluster, True


def one_cluster_at_a_time(story, x, joint):
    """(rows, K) by Pyro's condition and trace handlers, given the latents of a pass."""
    columns = []
    for k in range(story.n_clusters):
        given = {"cluster": torch.full((len(x),), k)}
        for name, site in joint.guide.items():
            if name != "cluster":
                enumerated = site.local and site.value.dim() > 2
                given[name] = site.value[k] if enumerated else site.value
        column = torch.zeros(len(x))
        for program, sign in ((story.model, 1.0), (story.complete_guide, -1.0)):
            with Asked(given["cluster"]):
                trace = poutine.trace(poutine.condition(program, given)).get_trace(x)
            trace.compute_log_prob()
            for name, site in trace.nodes.items():
                in_plate = any(frame.name == "data" for frame in site.get("cond_indep_stack", ()))
                if site["type"] != "sample" or name == "data" or not in_plate:
                    continue
                if sign > 0 or name != "cluster":
                    column = column + sign * site["log_prob"]
        columns.append(column)
    return torch.stack(columns, 1)


@pytest.mark.parametrize("latents", ["draw", "mean"])
@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_log_joint_is_brute_force_one_cluster_at_a_time(case, latents):
    story, x = case.build(), case.rows()
    joint = trace_joint(story.model, story.complete_guide, x, latents=latents)
    assert joint.table.shape == (len(x), story.n_clusters)
    torch.testing.assert_close(joint.table, one_cluster_at_a_time(story, x, joint))


@pytest.mark.parametrize("build", OURS)
@pytest.mark.parametrize("n_rows", [1, 3, 7])
def test_log_joint_of_our_stories_is_brute_force_one_cluster_at_a_time(build, n_rows):
    story, x = build(), torch.randn(n_rows, 4)
    joint = trace_joint(story.model, story.complete_guide, x)
    torch.testing.assert_close(joint.table, one_cluster_at_a_time(story, x, joint))


def _lost_weight(self):
    return ((name, term) for name, term in honest_terms(self) if name != "log p(cluster)")


def _wrong_sign(self):
    return ((name, -term if name == "-log q(z)" else term) for name, term in honest_terms(self))


def _lost_prior(self):
    return ((name, term) for name, term in honest_terms(self) if name != "log p(z)")


def _half(self):
    return ((name, term / 2 if name == "log p(z)" else term) for name, term in honest_terms(self))


honest_terms = Joint.terms


@pytest.mark.parametrize("planted", [_lost_weight, _wrong_sign, _lost_prior, _half], ids=lambda f: f.__name__)
def test_brute_force_finds_planted_errors(planted, monkeypatch):
    story, x = FactorAnalysers(4, 3), torch.randn(5, 4)
    joint = trace_joint(story.model, story.complete_guide, x)
    monkeypatch.setattr(Joint, "terms", planted)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(joint.table, one_cluster_at_a_time(story, x, joint))


def test_poissons_by_hand():
    story, x = Poissons(4, 3), torch.poisson(torch.full((6, 4), 2.0))
    rate = story.log_rate.exp()
    log_pmf = x[:, None] * story.log_rate - rate - (x[:, None] + 1).lgamma()
    expected = story.logits.log_softmax(0) + log_pmf.sum(-1)
    torch.testing.assert_close(pc.log_joint(story, x), expected.detach())


def test_von_mises_by_hand():
    story, x = VonMises(2, 3), 3 * torch.rand(6, 2)
    kappa = torch.nn.functional.softplus(story.raw_concentration)
    log_pdf = kappa * (x[:, None] - story.loc).cos() - (2 * torch.pi * torch.special.i0(kappa)).log()
    expected = story.logits.log_softmax(0) + log_pdf.sum(-1)
    torch.testing.assert_close(pc.log_joint(story, x), expected.detach(), rtol=1e-6, atol=1e-6)


def test_factor_analysers_at_the_guides_mean_by_hand():
    story, x = FactorAnalysers(4, 3), torch.randn(6, 4)
    expected = torch.empty(6, 3)
    for k in range(3):
        z = (x - story.loc[k]) @ story.encoder[k].T
        log_p_x = dist.Normal(story.loc[k] + z @ story.loading[k].T, story.log_noise.exp()).log_prob(x).sum(1)
        log_p_z_over_q = -z.square().sum(1) / 2 + story.log_scale[k].sum()  # the constants cancel
        expected[:, k] = (story.logits.log_softmax(0)[k] + log_p_x + log_p_z_over_q).detach()
    torch.testing.assert_close(pc.log_joint(story, x), expected)


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_rows_do_not_depend_on_each_other(case):
    story, x = case.build(), case.rows()
    alone = torch.cat([pc.log_joint(story, row[None]) for row in x])
    torch.testing.assert_close(pc.log_joint(story, x), alone)


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_known_clusters_give_their_own_column(case):
    story, x = case.build(), case.rows()
    labels = torch.arange(len(x)) % 3
    table = trace_joint(story.model, story.complete_guide, x, latents="mean").table
    known = trace_joint(story.model, story.complete_guide, x, cluster=labels, latents="mean").table
    torch.testing.assert_close(known, table.gather(1, labels[:, None]).expand(-1, 3))


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_sites_are_those_of_the_story(case):
    story, x = case.build(), case.rows()
    joint = trace_joint(story.model, story.complete_guide, x)
    assert {name for name, site in joint.model.items() if site.observed} == set(case.observed)
    assert ("z" in joint.guide) == (case.name in LATENT)
    assert (joint.log_q is not None) == (case.name in GUIDED)
    if joint.log_q is not None:
        torch.testing.assert_close(joint.log_q.logsumexp(1), torch.zeros(len(x)))
    terms = dict(joint.terms())
    assert all(term.shape in {(len(x),), (1, len(x)), (3, len(x))} for term in terms.values())


@pytest.mark.parametrize("kind", ["map", "normal"])
def test_global_latents_stay_out_of_the_table(kind):
    case = next(c for c in CASES if c.name == f"bayesian-{kind}")
    story, x = case.build(), case.rows()
    joint = trace_joint(story.model, story.complete_guide, x)
    assert not any("weights" in name or "loc" in name for name, _ in joint.terms())
    values = {name: joint.guide[name].value for name in ("weights", "loc", "precision")}
    prior = dist.Dirichlet(torch.full((3,), 2.0)).log_prob(values["weights"])
    prior = prior + dist.Normal(0.0, 3.0).log_prob(values["loc"]).sum()
    prior = prior + dist.Gamma(4.0, 2.0).log_prob(values["precision"]).sum()
    posterior = sum(joint.guide[name].log_prob.sum() for name in values)
    torch.testing.assert_close(joint.log_globals, prior - posterior)


def test_masked_and_scaled_sites_count_as_pyro_counts_them():
    class Missing(Poissons):
        def model(self, x):
            with pyro.plate("data", x.shape[0]), poutine.scale(scale=2.0):
                k = pyro.sample("cluster", dist.Categorical(logits=self.logits))
                with poutine.mask(mask=torch.arange(len(x)) % 2 == 0):
                    pyro.sample("x", dist.Poisson(self.log_rate[k].exp()).to_event(1), obs=x)

    story, x = Missing(4, 3), torch.poisson(torch.full((6, 4), 2.0))
    joint = trace_joint(story.model, story.complete_guide, x)
    torch.testing.assert_close(2 * joint.table, one_cluster_at_a_time(story, x, joint))
    torch.testing.assert_close(joint.table[1::2], story.logits.log_softmax(0).expand(3, 3))
    assert joint.scale == 2


def test_the_mean_of_a_transformed_normal_is_the_image_of_its_bases_mean():
    class LogNormalLatent(FactorAnalysers):
        def guide(self, x):
            with pyro.plate("data", x.shape[0]):
                base = dist.Normal(x[:, :2], 0.1).to_event(1)
                pyro.sample("z", dist.TransformedDistribution(base, [dist.transforms.SigmoidTransform()]))

    story, x = LogNormalLatent(4, 3), torch.randn(5, 4)
    torch.testing.assert_close(pc.embed(story, x), x[:, :2].sigmoid())


def test_a_guide_without_a_mean_is_told_so():
    class NoMean(dist.Normal):
        @property
        def mean(self):
            raise NotImplementedError

    class Guided(FactorAnalysers):
        def guide(self, x):
            with pyro.plate("data", x.shape[0]):
                pyro.sample("z", NoMean(x[:, :2], 1.0).to_event(1))

    story = Guided(4, 3)
    assert pc.log_joint(story, torch.randn(5, 4), particles=2).shape == (5, 3)
    with pytest.raises(pc.ContractError, match=r"site 'z', NoMean, has no mean.*particles"):
        pc.log_joint(story, torch.randn(5, 4))


def test_what_a_program_makes_anew_is_put_where_its_rows_are():
    """The device "meta" stands for a GPU: it is not the CPU, and is everywhere."""
    made = {}

    def program(x):
        made["ones"] = torch.ones(3).device
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(3), validate_args=False))
            made["of numbers"] = pyro.sample("z", dist.Normal(0.0, 1.0, validate_args=False).expand([3, len(x)])).device
            made["cluster"] = k.device

    Pass("enumerate").run(program, torch.zeros(2, 4, device="meta"))
    assert {device.type for device in made.values()} == {"meta"}
    assert torch.ones(1).device.type == "cpu"
