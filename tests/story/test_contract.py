"""Each way to break the story contract is refused by name, with a remedy, and leaves nothing behind."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.poutine.runtime import _PYRO_STACK
from torch import nn

import probclust as pc
from probclust.models import DCN, GMVAE, GaussianMixture, MixtureOfVAEs, VaDE
from probclust.story.contract import check_contract
from tests.support.stories import CASE_NAMES, CASES


class Sound(pc.Story):
    """Keeps the contract; every broken story below differs from it in one thing."""

    def __init__(self, n_features=4, n_clusters=3):
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))
        self.encoder = nn.Linear(n_features, 2)

    def cluster(self):
        return pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))

    def latent(self):
        return pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    def observe(self, x, k):
        pyro.sample("x", dist.Normal(self.loc[k], 1.0).to_event(1), obs=x)

    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = self.cluster()
            self.latent()
            self.observe(x, k)

    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))


class NoCluster(Sound):
    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            self.latent()
            pyro.sample("x", dist.Normal(self.loc[0], 1.0).to_event(1), obs=x)


class TwoClusters(Sound):
    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            self.cluster()
            self.latent()
            self.observe(x, self.cluster())


class ClusterOutside(Sound):
    def model(self, x):
        k = self.cluster()
        with pyro.plate("data", x.shape[0]):
            self.latent()
            self.observe(x, k)


class ClusterObserved(Sound):
    def cluster(self):
        known = torch.zeros((), dtype=torch.long)
        return pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)), obs=known)


class LatentOutside(Sound):
    def model(self, x):
        pyro.sample("z", dist.Normal(x.new_zeros(x.shape[0], 2), 1.0).to_event(1))
        with pyro.plate("data", x.shape[0]):
            self.observe(x, self.cluster())


class GuideLatentOutside(Sound):
    def guide(self, x):
        pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))


class ObservedOutside(Sound):
    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = self.cluster()
            self.latent()
        self.observe(x, k)


class ObservesNothing(Sound):
    def observe(self, x, k):
        pass


class OtherPlate(Sound):
    def model(self, x):
        with pyro.plate("rows", x.shape[0]):
            k = self.cluster()
            self.latent()
            self.observe(x, k)


class OtherDim(Sound):
    def model(self, x):
        with pyro.plate("data", x.shape[0], dim=-2):
            self.cluster()
            self.latent()
            pyro.sample("x", dist.Normal(self.loc[:1], 1.0).to_event(1), obs=x[:, None])


class FeaturesAsPlate(Sound):
    def observe(self, x, k):
        with pyro.plate("features", x.shape[1], dim=-2):
            pyro.sample("x", dist.Normal(self.loc[k].movedim(-1, -2), 1.0), obs=x.T)


class OneMoreCluster(Sound):
    def cluster(self):
        return pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters + 1))).clamp(max=self.n_clusters - 1)


class GuideOneMoreCluster(Sound):
    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters + 1)))
            pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))


class BernoulliCluster(Sound):
    def cluster(self):
        return pyro.sample("cluster", dist.Bernoulli(0.5)).long()


class NormalCluster(Sound):
    def cluster(self):
        return pyro.sample("cluster", dist.Normal(0.0, 1.0)).long()


class OneHotCluster(Sound):
    def cluster(self):
        return pyro.sample("cluster", dist.OneHotCategorical(torch.ones(self.n_clusters))).argmax(-1)


class GuideLacksLatent(Sound):
    def guide(self, x):
        pass


class GuideSamplesMore(Sound):
    def guide(self, x):
        super().guide(x)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("w", dist.Normal(0.0, 1.0))


class GuideObserves(Sound):
    def guide(self, x):
        super().guide(x)
        with pyro.plate("data", x.shape[0]):
            self.observe(x, torch.tensor(0))


class NoEvent(Sound):
    def observe(self, x, k):
        pyro.sample("x", dist.Normal(self.loc[k], 1.0), obs=x)


class NoEventOfOneCluster(Sound):
    """The batch shape (features,) would pass for (rows,), were the rows as many as the features."""

    def observe(self, x, k):
        pyro.sample("x", dist.Normal(self.loc[0], 1.0), obs=x)


class NoEventOfLatent(Sound):
    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(self.encoder(x), 1.0))


class ScalarLogProb(Sound):
    def observe(self, x, k):
        pyro.sample("x", dist.Normal(self.loc[k].sum(-1), 1.0), obs=x)


class SecondDiscrete(Sound):
    def latent(self):
        return pyro.sample("coin", dist.Bernoulli(0.5))

    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("coin", dist.Bernoulli(0.5))


class NaNLoc(Sound):
    def observe(self, x, k):
        pyro.sample("x", dist.Normal(self.loc[k] * torch.nan, 1.0).to_event(1), obs=x)


class NaNWithAnEmptyCluster(NaNLoc):
    """A weight of zero is meant: the NaN is to blame."""

    def cluster(self):
        return pyro.sample("cluster", dist.Categorical(torch.tensor([0.0, 0.5, 0.5])))


class NegativeScale(Sound):
    def observe(self, x, k):
        pyro.sample("x", dist.Normal(self.loc[k], -1.0).to_event(1), obs=x)


class NaNGuide(Sound):
    def guide(self, x):
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(self.encoder(x).log() * torch.nan, 1.0).to_event(1))


class CountsOfReals(Sound):
    def observe(self, x, k):
        pyro.sample("x", dist.Poisson(self.loc[k].exp()).to_event(1), obs=x)


class SharesOfReals(Sound):
    """Its log density outside the support is NaN: the support is to blame."""

    def observe(self, x, k):
        pyro.sample("x", dist.Beta(self.loc[k].exp(), 1.0).to_event(1), obs=x)


class ReadsX(Sound):
    """Each row has its own mean: its density would be as high as one likes."""

    def observe(self, x, k):
        pyro.sample("x", dist.Normal(x + 0 * self.loc[k], 1.0).to_event(1), obs=x)


class ReadsMean(Sound):
    def observe(self, x, k):
        pyro.sample("x", dist.Normal(self.loc[k] + 0.01 * x.mean(), 1.0).to_event(1), obs=x)


class ReadsXForTheLatent(Sound):
    def model(self, x):
        with pyro.plate("data", x.shape[0]):
            k = self.cluster()
            pyro.sample("z", dist.Normal(x[:, :2], 1.0).to_event(1))
            self.observe(x, k)


class StoresParameter(Sound):
    def observe(self, x, k):
        loc = pyro.param("stored", torch.zeros(3, x.shape[1]))
        pyro.sample("x", dist.Normal(loc[k], 1.0).to_event(1), obs=x)


class StoresScale(Sound):
    def guide(self, x):
        scale = pyro.param("stored scale", torch.ones(2), constraint=dist.constraints.positive)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(self.encoder(x), scale).to_event(1))


class ForgotObs(Sound):
    def observe(self, x, k):
        pyro.sample("x", dist.Normal(self.loc[k], 1.0).to_event(1))


class GlobalOfAFailingModel(Sound):
    """Its error is not about the global latent, whose guide it keeps from being made."""

    def model(self, x):
        pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("data", x.shape[0]):
            k = self.cluster()
            self.latent()
            pyro.sample("x", dist.Normal(self.loc[k], -1.0).to_event(1), obs=x)


class OneMoreClusterThanItIndexes(Sound):
    def cluster(self):
        return pyro.sample("cluster", dist.Categorical(torch.ones(4)))


# (story, the site or other name that the message must have, words of the remedy)
class SaysNoSupport(Sound):
    class Law(dist.TorchDistribution):
        arg_constraints = {}  # noqa: RUF012 (torch's interface)

        def __init__(self, loc):
            self.loc = loc
            super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

        def log_prob(self, value):
            return -0.5 * (value - self.loc).square().sum(-1)

        def expand(self, batch_shape, _instance=None):
            return type(self)(self.loc.expand(*batch_shape, -1))

    def observe(self, x, k):
        pyro.sample("x", self.Law(self.loc[k]), obs=x)


class DiscreteGlobal(Sound):
    def model(self, x):
        pyro.sample("switch", dist.Bernoulli(0.5))
        super().model(x)

    def guide(self, x):
        pyro.sample("switch", dist.Bernoulli(0.5))
        super().guide(x)


class ReadsXWithGaps(ReadsX):
    missing = True


class ObservesTheFirstRow(Sound):
    def observe(self, x, k):
        super().observe(x[:1], k)


class ObservesTheRowBefore(Sound):
    def observe(self, x, k):
        super().observe(x.roll(1, 0), k)


class ObservesTheMean(Sound):
    conditional = True

    def observe(self, x, k):
        super().observe(x.mean(0), k)


class RowsInTheEvent(Sound):
    def observe(self, x, k):
        pyro.sample("x", dist.Normal(self.loc[0].expand(x.shape), 1.0).to_event(2), obs=x)


class GuideSeesAllRows(Sound):
    def guide(self, x):
        super().guide(x - x.mean(0))


BROKEN = [
    (ReadsXWithGaps, "distribution of site 'x'", "only to observe it"),
    (ObservesTheFirstRow, "'x' observes of a row changes with the other rows", "the rows first"),
    (ObservesTheRowBefore, "'x' observes of a row changes with the other rows", "the rows first"),
    (ObservesTheMean, "'x' observes of a row changes with the other rows", "the rows first"),
    (RowsInTheEvent, "'x' observes of a row changes with the other rows", "in the event"),
    (SaysNoSupport, "'x' of the model: Law does not say which values", "give its class a `support`"),
    (DiscreteGlobal, "'switch'", "fold 'switch' into it"),
    (ReadsX, "distribution of site 'x'", "only to observe it"),
    (ReadsMean, "distribution of site 'x'", "only to observe it"),
    (ReadsXForTheLatent, "distribution of site 'z'", "conditional = True"),
    (StoresParameter, "'stored'", "torch.nn.Parameter of StoresParameter"),
    (StoresScale, "'stored scale'", "torch.nn.Parameter of StoresScale"),
    (ForgotObs, "'x'", "give it obs="),
    (GlobalOfAFailingModel, "'weights'", "fails on two rows of zeros"),
    (OneMoreClusterThanItIndexes, "'cluster'", "n_clusters=3 entries"),
    (NoCluster, "'cluster'", "draw it inside the plate"),
    (TwoClusters, "two sites are named 'cluster'", "its own name"),
    (ClusterOutside, "'cluster'", "move it inside"),
    (ClusterObserved, "'cluster' is observed", "leave it latent"),
    (LatentOutside, "'z'", "move it inside the plate"),
    (GuideLatentOutside, "'z' of the guide", "move it inside the plate"),
    (ObservedOutside, "'x'", "move it inside"),
    (ObservesNothing, "observes nothing", "obs=x"),
    (OtherPlate, "'cluster'", "pyro.plate('data'"),
    (OtherDim, "'data'", "dim -1"),
    (FeaturesAsPlate, "'x'", ".to_event("),
    (OneMoreCluster, "'cluster'", "n_clusters=3 entries"),
    (GuideOneMoreCluster, "'cluster' of the guide", "n_clusters=3 entries"),
    (BernoulliCluster, "'cluster'", "dist.Categorical"),
    (NormalCluster, "'cluster'", "dist.Categorical"),
    (OneHotCluster, "'cluster'", "dist.Categorical"),
    (GuideLacksLatent, "'z'", "sample 'z' in guide"),
    (GuideSamplesMore, "'w'", "remove it, or name it as in the model"),
    (GuideObserves, "'x' of the guide is observed", "drop its obs="),
    (NoEvent, "site x", ".to_event(1)"),
    (NoEventOfOneCluster, "site x", ".to_event(1)"),
    (NoEventOfLatent, "site z", ".to_event(1)"),
    (ScalarLogProb, "'x'", ".to_event(1)"),
    (SecondDiscrete, "'coin'", "continuous relaxation"),
    (CountsOfReals, "'x'", "choose a likelihood that fits the data"),
    (SharesOfReals, "'x'", "choose a likelihood that fits the data"),
]
NOT_FINITE = [
    (NaNLoc, "'x' of the model"),
    (NaNWithAnEmptyCluster, "'x' of the model"),
    (NegativeScale, "'x' of the model"),
    (NaNGuide, "'z' of the guide"),
]


def _state(story):
    return {
        "random": torch.get_rng_state().tolist(),
        "training": [module.training for module in story.modules()],
        "weights": [(name, value.tolist()) for name, value in story.state_dict().items()],
        "handlers": len(_PYRO_STACK),
        "validation": torch.distributions.Distribution._validate_args,
        "gradient": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize(("n_rows", "n_features"), [(8, 4), (1, 4), (4, 4), (5, 5), (6, 6)])
@pytest.mark.parametrize(("broken", "site", "remedy"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_story_is_refused_by_name(broken, site, remedy, n_rows, n_features):
    story, x = broken(n_features), torch.randn(n_rows, n_features)
    before = _state(story)
    for _ in range(2):  # the second call is not let in because the first one looked
        with pytest.raises(pc.ContractError, match=site) as caught:
            pc.predict(story, x)
        assert remedy in str(caught.value)
        assert _state(story) == before


def test_the_row_before_is_seen_through_its_gap():
    class WithGaps(ObservesTheRowBefore):
        missing = True

        def observe(self, x, k):
            before = x.roll(1, 0)
            law = dist.Normal(self.loc[k], 1.0).mask(~before.isnan())
            pyro.sample("x", law.to_event(1), obs=before.nan_to_num())

        def guide(self, x):
            super().guide(x.nan_to_num())

    x = torch.randn(6, 4)
    x[::2] = torch.nan
    with pytest.raises(pc.ContractError, match="'x' observes of a row changes with the other rows"):
        pc.predict(WithGaps(), x)
    x[:] = torch.nan
    x[0] = 1.0
    with pytest.raises(pc.ContractError, match="'x' observes of a row changes with the other rows"):
        pc.predict(WithGaps(), x)


def test_a_guide_that_looks_at_other_rows_is_refused():
    with pytest.raises(pc.ContractError, match=r"distribution of site 'z' changes with the other rows.*row alone"):
        pc.elbo(GuideSeesAllRows(), torch.randn(6, 4))


@pytest.mark.parametrize(("broken", "site"), NOT_FINITE, ids=lambda value: getattr(value, "__name__", ""))
def test_nan_is_refused_with_the_name_of_its_site(broken, site):
    story, x = broken(), torch.randn(6, 4)
    before = _state(story)
    for _ in range(2):
        with pytest.raises(pc.NonFiniteError, match=site):
            pc.log_joint(story, x)
        assert _state(story) == before


@pytest.mark.parametrize("broken", [NoCluster, NoEvent, NaNLoc], ids=lambda c: c.__name__)
@pytest.mark.parametrize(
    "use",
    [pc.fit, pc.log_joint, pc.predict, pc.elbo, pc.log_likelihood, pc.reconstruct, pc.embed, pc.sample_posterior],
    ids=lambda f: f.__name__,
)
def test_every_door_checks(broken, use):
    with pytest.raises((pc.ContractError, pc.NonFiniteError)):
        use(broken(), torch.randn(6, 4))


def test_a_nan_that_comes_with_later_rows_is_named_too():
    class LogOfRows(Sound):
        def guide(self, x):
            with pyro.plate("data", x.shape[0]):
                pyro.sample("z", dist.Normal(x[:, :2].log(), 1.0).to_event(1))

    story, x = LogOfRows(), torch.rand(20, 4) + 0.1
    pc.log_joint(story, x)
    x[13, 1] = -1
    with pytest.raises(pc.NonFiniteError, match="'z' of the guide"):
        pc.log_joint(story, x)


def test_a_likelihood_may_ask_for_values_outside_its_support():
    class Grey(Sound):  # pixels between 0 and 1 as probabilities
        def observe(self, x, k):
            pyro.sample("x", dist.Bernoulli(logits=self.loc[k], validate_args=False).to_event(1), obs=x)

    assert pc.log_joint(Grey(), torch.rand(6, 4)).shape == (6, 3)


def test_what_is_no_story_is_refused():
    for wrong in (Sound, nn.Linear(4, 3), None):
        with pytest.raises(TypeError, match=r"expected a probclust\.Story"):
            pc.predict(wrong, torch.randn(6, 4))
        with pytest.raises(TypeError, match=r"expected a probclust\.Story"):
            check_contract(wrong, torch.randn(6, 4))


@pytest.mark.parametrize("n_rows", [1, 3, 4, 7])
@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_sound_stories_pass(case, n_rows):
    story = case.build()
    before = _state(story)
    check_contract(story, case.rows(n_rows))
    assert _state(story) == before


@pytest.mark.parametrize("n_clusters", [1, 2, 5])
@pytest.mark.parametrize(
    "build",
    [
        lambda k: GaussianMixture(3, k),
        lambda k: VaDE(3, k, latent_dim=2, hidden=(4,)),
        lambda k: MixtureOfVAEs(3, k, latent_dim=2, hidden=(4,)),
        lambda k: GMVAE(3, k, latent_dim=2, w_dim=2, hidden=(4,), w_hidden=(4,), prior_hidden=(4,)),
        lambda k: DCN(3, k, latent_dim=2, hidden=(4,)),
        lambda k: Sound(3, k),
    ],
)
def test_any_number_of_clusters_passes(build, n_clusters):
    for n_rows in (1, n_clusters, 5):
        assert pc.responsibilities(build(n_clusters), torch.randn(n_rows, 3)).shape == (n_rows, n_clusters)


class Shares(Sound):
    """Whole rows are in the support of a Dirichlet distribution, or are not."""

    def observe(self, x, k):
        pyro.sample("x", dist.Dirichlet(self.loc[k].exp()), obs=x)


def test_of_supports_of_whole_rows_the_row_outside_is_named():
    story = Shares()
    x = torch.softmax(torch.randn(6, story.n_features), 1)
    x[2] = torch.arange(story.n_features)
    with pytest.raises(pc.ContractError, match=r"observed value \[0.0, 1.0"):
        check_contract(story, x)


def test_a_story_that_draws_at_random_or_conditions_on_x_passes():
    class Dropping(Sound):
        def __init__(self, n_features=4, n_clusters=3):
            super().__init__(n_features, n_clusters)
            self.dropout = nn.Dropout(0.5)

        def observe(self, x, k):
            pyro.sample("x", dist.Normal(self.dropout(self.loc)[k], 1.0).to_event(1), obs=x)

    class Conditioning(ReadsX):
        conditional = True

    class GuideDraws(Sound):
        def guide(self, x):
            with pyro.plate("data", x.shape[0]):
                pyro.sample("z", dist.Delta(self.encoder(x) + torch.randn(len(x), 2), event_dim=1))

    for story in (Dropping(), Conditioning(), GuideDraws()):
        check_contract(story, torch.randn(6, 4))


def test_parameters_of_pyros_own_modules_are_the_storys():
    class WithModule(Sound):
        def __init__(self, n_features=4, n_clusters=3):
            super().__init__(n_features, n_clusters)
            self.scale = pyro.nn.PyroModule[nn.Module]()
            self.scale.value = pyro.nn.PyroParam(torch.ones(4), dist.constraints.positive)

        def observe(self, x, k):
            with self.scale._pyro_context:
                scale = self.scale.value
            pyro.sample("x", dist.Normal(self.loc[k], scale).to_event(1), obs=x)

    check_contract(WithModule(), torch.randn(6, 4))


def test_the_class_in_place_of_a_story_is_told_so():
    with pytest.raises(TypeError, match="got the class Sound; call it"):
        pc.predict(Sound, torch.randn(6, 4))
