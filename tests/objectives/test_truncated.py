"""The truncated objective: a lower bound, row by row, that computes few experts, finds the right ones, and says what
it misses."""

from __future__ import annotations

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

import probclust as pc
from probclust.fitting.devices.group import Devices, fabric_for
from probclust.fitting.trainer import Trainer
from probclust.models import DAMIC, GMVAE, MixtureOfVAEs
from probclust.networks.experts import has_run, run_experts
from probclust.networks.stacked import StackedMLP
from probclust.objectives.bounds import Exact
from probclust.objectives.candidates import explore, narrows, refresh, start_candidates, with_known
from probclust.objectives.monitor import Monitor, warn_of_truncation
from probclust.objectives.truncated import Truncated
from probclust.progress import Progress
from probclust.story.joint import CLUSTER, Joint, Pass, trace_joint
from probclust.story.recipe import CANDIDATES, START, Run
from tests.support.stories import CASE_NAMES, CASES

K, S, D = 6, 3, 4
WITH_EXPERTS = {
    "mixture of VAEs": lambda: MixtureOfVAEs(D, K, latent_dim=2, hidden=(8,)),
    "DAMIC": lambda: DAMIC(D, K, latent_dim=2, hidden=(8,), gate_hidden=(8,)),
    "DAMIC without a gate": lambda: DAMIC(D, K, latent_dim=2, hidden=(8,), gate=False),
    "GMVAE": lambda: GMVAE(D, K, latent_dim=2, w_dim=2, hidden=(8,), w_hidden=(8,), prior_hidden=(8,)),
}
with_experts = pytest.mark.parametrize("build", WITH_EXPERTS.values(), ids=WITH_EXPERTS)


def some_candidates(n_rows, n_candidates=S):
    return torch.rand(K, n_rows).argsort(0)[:n_candidates]


def both_tables(story, x, candidates):
    """The table of all clusters and that of candidates, under the same draws of the latents."""
    guide = Pass().run(story.complete_guide, x)
    values = {name: site.value for name, site in guide.items() if name != CLUSTER}
    every = Joint(Pass("enumerate", values).run(story.model, x), guide, len(x), K).table
    rows = torch.arange(len(x))
    same = {name: v[candidates, rows] if v.dim() > 2 else v for name, v in values.items()}
    narrow_guide = Pass(candidates, same).run(story.complete_guide, x)
    narrow = Joint(Pass(candidates, same).run(story.model, x), narrow_guide, len(x), K, candidates)
    return every, narrow


class Stranger(pc.Story):
    """A mixture of experts as one might write it; `by_hand` computes every expert and ignores the site's value."""

    def __init__(self, n_features, n_clusters, by_hand=False, wrong=False):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.decoders = StackedMLP(n_clusters, [n_features, 3, n_features])
        self.by_hand, self.wrong = by_hand, wrong

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
            loc = (
                self.decoders(torch.ones_like(x)) if self.by_hand else run_experts(self.decoders, torch.ones_like(x), k)
            )
            if self.wrong and k.shape[-1] > 1:
                loc = loc + 0.1
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(self, x):
        pass


# A lower bound


@with_experts
def test_candidates_have_the_columns_of_all_clusters_and_bound_them_from_below(float64, build):
    story, x, candidates = build(), torch.rand(7, D), some_candidates(7)
    every, narrow = both_tables(story, x, candidates)
    assert has_run(candidates)
    torch.testing.assert_close(narrow.table, every.gather(1, candidates.T))
    bound, exact = Truncated(S).bound(narrow), every.logsumexp(1)
    assert (bound < exact).all()
    outside = every.scatter(1, candidates.T, -torch.inf).logsumexp(1)
    torch.testing.assert_close(torch.logaddexp(bound, outside), exact)


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_it_bounds_the_exact_objective_of_any_story_row_by_row(float64, case):
    story, x = case.build(), case.rows()
    joint = trace_joint(story.model, story.complete_guide, x)
    one, two, three = (Truncated(n, n_explored=0).bound(joint) for n in (1, 2, 3))
    exact = Exact().bound(joint)
    assert (one <= two).all()
    assert (two <= exact + 1e-12).all()
    assert one.mean() < exact.mean()
    torch.testing.assert_close(one, joint.table.max(1).values)
    torch.testing.assert_close(three, exact)


def test_only_candidates_have_a_gradient(float64):
    story, x = WITH_EXPERTS["mixture of VAEs"](), torch.rand(5, D)
    candidates = torch.tensor([[1], [4]]).expand(2, 5).contiguous()
    bound, _ = Truncated(2, n_explored=0).per_row(story.model, story.guide, x, clusters=candidates)
    bound.backward()
    for name, parameter in story.named_parameters():
        if name.startswith(("encoders", "decoders")):
            touched = parameter.grad.flatten(1).abs().sum(1) > 0
            assert touched.tolist() == [k in (1, 4) for k in range(K)]


def test_a_known_row_counts_its_own_column(float64):
    story, x, candidates = WITH_EXPERTS["DAMIC"](), torch.rand(4, D), some_candidates(4)
    y = torch.stack([candidates[2, 0], torch.tensor(-1), candidates[0, 2], candidates[1, 3]])
    every = trace_joint(story.model, story.complete_guide, x).table  # no draws: DAMIC has no latents
    expected = every.gather(1, y.clamp(min=0)[:, None]).squeeze(1)
    expected[1] = every[1, candidates[:, 1]].logsumexp(0)
    bound, _ = Truncated(S).per_row(story.model, story.guide, x, y, candidates)
    torch.testing.assert_close(bound, expected.mean())


def test_the_monitor_counts_the_clusters_of_candidates(float64):
    story, x, candidates = WITH_EXPERTS["DAMIC"](), torch.rand(4, D), some_candidates(4)
    every, narrow = both_tables(story, x, candidates)
    monitor = Monitor()
    monitor.add(narrow)
    outside = torch.ones(4, K, dtype=torch.bool).scatter(1, candidates.T, False)
    expected = every.masked_fill(outside, -torch.inf).softmax(1).mean(0)
    torch.testing.assert_close(torch.tensor(monitor.summary()["occupancy"]), expected)


# Which stories spare work


@with_experts
def test_stories_with_experts_are_narrowed(build):
    assert narrows(build(), torch.rand(20, D), S)


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_stories_without_experts_are_left_whole(case):
    assert not narrows(case.build(), case.rows(), 2)


def test_strangers_are_narrowed_where_they_run_experts_and_right_where_not(caplog):
    x = torch.rand(20, D)
    assert narrows(Stranger(D, K), x, S)
    assert not narrows(Stranger(D, K, by_hand=True), x, S)
    assert not narrows(Stranger(D, K, by_hand=True), x, K - 1)
    assert not caplog.records
    assert not narrows(Stranger(D, K, wrong=True), x, S)
    assert "does not agree" in caplog.text


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_strangers_fit_computes_no_more_than_it_must(by_hand, monkeypatch):
    rows = []
    inner = torch.nn.functional.grouped_mm
    monkeypatch.setattr(
        torch.nn.functional, "grouped_mm", lambda x, *a, **k: (rows.append(len(x)), inner(x, *a, **k))[1]
    )
    record = pc.fit(Stranger(D, K, by_hand), torch.rand(64, D), objective=Truncated(S, refresh=0), epochs=2)
    assert (CANDIDATES in record.memory) == (not by_hand)
    assert (64 * S in rows) == (not by_hand)


# Candidates


def test_exploring_keeps_the_best_and_finds_others_and_none_twice():
    torch.manual_seed(0)
    candidates = torch.rand(2000, 20).argsort(1)[:, :5]
    explored = explore(candidates, 2, 20)
    assert torch.equal(explored[:, :3], candidates[:, :3])
    assert (explored.sort(1).values.diff(dim=1) > 0).all()
    counts = explored[:, 3:].flatten().bincount(minlength=20)
    assert (counts - 200).abs().max() < 5 * math.sqrt(200)  # 4,000 draws, all clusters alike; fails once in 1e5


def test_rows_that_share_their_best_cluster_tell_each_other_what_is_near():
    torch.manual_seed(0)
    n_clusters = 1000
    candidates = torch.randint(100, n_clusters, (400, 4))
    candidates[:, 0], candidates[200:, 1] = 7, 50  # half the rows know that 50 is near 7
    explored = explore(candidates, 1, n_clusters)[:200, -1]
    assert 3 < (explored == 50).sum() < 36  # 1 row in 12: half the draws, half the partners, one of three places


def test_with_as_many_clusters_as_candidates_but_one_the_missing_one_is_found():
    candidates = torch.rand(50, 4).argsort(1)[:, :3]
    kept = candidates[:, :2]
    explored = explore(candidates, 1, 3 + 1)[:, 2]
    assert not (kept == explored[:, None]).any()
    assert set(explore(torch.tensor([[0, 1, 2]] * 50), 1, 3)[:, 2].tolist()) == {2}


def test_known_clusters_stand_first():
    candidates = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]])
    y = torch.tensor([-1, 0, 2, 5])
    assert with_known(candidates, y).tolist() == [[0, 1, 2], [0, 1, 2], [2, 1, 0], [5, 1, 2]]
    assert with_known(candidates, None) is candidates


def test_labels_start_candidates_with_the_own_and_the_nearest_clusters():
    story, x = WITH_EXPERTS["mixture of VAEs"](), torch.rand(40, D)
    labels = torch.arange(40) % (K - 1)  # no row in the last cluster
    found = start_candidates(Run(story, x, None, 0, {START: labels}), S)
    means = torch.stack([x[labels == k].mean(0) for k in range(K - 1)])
    for row, own, mine in zip(x, labels.tolist(), found.tolist(), strict=True):
        distance = (row - means).norm(dim=1)
        distance[own] = -1
        assert mine == distance.argsort()[:S].tolist()


def test_without_labels_a_pass_over_all_clusters_finds_them():
    story, x = WITH_EXPERTS["DAMIC"](), torch.rand(40, D)
    table = pc.log_joint(story, x)
    found = start_candidates(Run(story, x, None, 0), S)
    assert torch.equal(found, table.topk(S, 1).indices)


def test_what_is_missed_is_what_a_full_pass_says():
    story, x = WITH_EXPERTS["DAMIC"](), torch.rand(40, D)
    table = pc.log_joint(story, x)
    candidates = some_candidates(40).T.contiguous()
    old, index = candidates.clone(), torch.tensor([3, 30, 7, 21, 22])
    facts = refresh(Run(story, x, None, 0), candidates, index)
    best = table[index].argmax(1)
    assert facts["missed"] == pytest.approx(sum(b not in old[i].tolist() for b, i in zip(best, index, strict=True)) / 5)
    assert facts["captured"] == pytest.approx(float(table.softmax(1).gather(1, old)[index].sum(1).mean()), rel=1e-5)
    assert facts["rows"] == 5
    assert torch.equal(candidates[index], table[index].topk(S, 1).indices)
    rest = torch.ones(40, dtype=torch.bool).index_fill(0, index, False)
    assert torch.equal(candidates[rest], old[rest])


def test_much_missed_mass_is_warned_of():
    little = [{"truncation": {"missed": 0.02, "captured": 0.99, "rows": 400}}]
    much = [{"truncation": {"missed": 0.3, "captured": 0.6, "rows": 300}}]
    with pytest.warns(pc.FitWarning, match=r"lack the best cluster of 30% of the rows .*capture 60%"):
        warn_of_truncation(little + much * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for history in ([], [{"loss": 0.0}], much * 2 + little * 2):
            warn_of_truncation(history)


# Within a fit


def blobs(n=240, n_clusters=K, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(n_clusters, D, generator=generator)
    labels = torch.arange(n) % n_clusters
    return centres[labels] + 0.3 * torch.randn(n, D, generator=generator), labels


def fitted(objective, epochs=30, y=None, start=None, **arguments):
    torch.manual_seed(0)
    story, (x, labels) = MixtureOfVAEs(D, K, latent_dim=2, hidden=(8,)), blobs()
    labels = labels if start is None else start
    known = pc.Compute(name="start", run=lambda run: run.memory.update({START: labels}))
    experts = pc.SVI(name="experts", epochs=20, learning_rate=1e-2, to_start=True)
    svi = pc.SVI(epochs=epochs, learning_rate=5e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pc.FitWarning)
        return story, pc.fit(story, x, y, recipe=[known, experts, svi], objective=objective, batch_size=60, **arguments)


def test_it_converges_to_the_bound_of_exact_enumeration():
    (_, exact), (_, few) = fitted("exact", epochs=20), fitted(Truncated(3), epochs=20)
    assert exact.losses()[0] - exact.losses()[-1] > 2
    assert few.bound == pytest.approx(exact.bound, abs=0.15)
    facts = few.history[-1]["truncation"]
    assert facts["rows"] == 18  # 240 * 3 * 3 / 6 / 20
    assert facts["missed"] < 0.1
    assert facts["captured"] > 0.9
    found = few.memory[CANDIDATES]
    assert found.shape == (240, 3)
    assert (found.sort(1).values.diff(dim=1) > 0).all()


def test_wrong_candidates_are_left_behind():
    """From labels that know nothing; only exploration, without passes over all clusters."""
    torch.manual_seed(0)
    x, labels = blobs()
    story, _ = fitted("exact", epochs=1)
    run = Run(story, x, None, 0, {START: (labels + 3) % K})
    trainer = Trainer(
        story,
        steps := [pc.SVI(epochs=30, learning_rate=1e-8, objective=Truncated(3, refresh=0.0))],
        devices=Devices(fabric_for("cpu")),
        batch_size=60,
    )
    trainer.start(steps[0], run)
    best = pc.predict(story, x)
    missed = []
    for epoch in range(20):
        trainer.epoch(epoch, epoch)
        missed.append(float((run.memory[CANDIDATES] != best[:, None]).all(1).float().mean()))
    assert missed[0] > 0.1
    assert missed[-1] < 0.02


def test_known_rows_keep_their_cluster_whatever_its_log_joint():
    y = torch.full((240,), -1)
    y[:20] = (blobs()[1][:20] + 1) % K
    _, record = fitted(Truncated(2), epochs=3, y=y)
    assert torch.equal(record.memory[CANDIDATES][:20, 0], y[:20])


def test_batches_of_one_row_work():
    story = WITH_EXPERTS["mixture of VAEs"]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pc.FitWarning)
        record = pc.fit(story, torch.rand(8, D), recipe=[pc.SVI(epochs=2)], objective=Truncated(2), batch_size=1)
    assert record.memory[CANDIDATES].shape == (8, 2)


def test_a_stopped_fit_goes_on_with_its_candidates(tmp_path):
    class Stopping(Progress):
        left = 24

        def advance(self, loss):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    path = tmp_path / "fit"
    unbroken, record = fitted(Truncated(3), epochs=8)
    with pytest.raises(KeyboardInterrupt):
        fitted(Truncated(3), epochs=8, checkpoint=path, progress=Stopping())
    with pytest.raises(ValueError, match="checkpoint of another fit"):
        fitted(Truncated(2), epochs=8, checkpoint=path, resume=True)
    resumed, again = fitted(Truncated(3), epochs=8, checkpoint=path, resume=True)
    assert torch.equal(record.memory[CANDIDATES], again.memory[CANDIDATES])
    for one, other in zip(unbroken.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_candidates": 0}, "n_candidates must be an integer of at least 1, got 0"),
        ({"n_candidates": 2.5}, "n_candidates must be an integer"),
        ({"n_explored": -1}, "n_explored must be an integer of at least 0"),
        ({"n_candidates": 2, "n_explored": 2}, "n_explored must be less than n_candidates=2"),
        ({"refresh": 2.0}, r"refresh must be a share of the rows in \[0, 1\]"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Truncated(**arguments)
