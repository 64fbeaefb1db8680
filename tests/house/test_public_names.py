"""Every public function takes every story: the strangers' ones with no further code, and ours."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

import probclust as pc
from probclust.models import (
    DAMIC,
    DCN,
    DEC,
    DGG,
    DMAE,
    GMVAE,
    IDEC,
    LTVAE,
    DissimilarityMixture,
    GaussianMixture,
    MixtureOfVAEs,
    VaDE,
)
from tests.support.stories import CASES, Case

OURS = [
    Case("gmm", lambda: GaussianMixture(4, 3), lambda n: 2 * torch.randn(n, 4)),
    Case("vade", lambda: VaDE(4, 3, latent_dim=2, hidden=(8,)), lambda n: torch.rand(n, 4)),
    Case("vade-manhattan", lambda: VaDE(4, 3, 2, hidden=(8,), prior="manhattan"), lambda n: torch.rand(n, 4)),
    Case("vade-cosine", lambda: VaDE(4, 3, 2, hidden=(8,), prior="cosine"), lambda n: torch.rand(n, 4)),
    Case("gmm-dirichlet", lambda: GaussianMixture(4, 3, weights="dirichlet"), lambda n: 2 * torch.randn(n, 4)),
    Case(
        "vade-student-sticks",
        lambda: VaDE(4, 3, 2, hidden=(8,), prior="student_t", weights="stick-breaking"),
        lambda n: torch.rand(n, 4),
    ),
    Case("mixture-of-vaes-flow", lambda: MixtureOfVAEs(4, 3, 2, hidden=(8,), prior="flow"), lambda n: torch.rand(n, 4)),
    Case("dissimilarity-mixture", lambda: DissimilarityMixture(4, 3), lambda n: 2 * torch.randn(n, 4)),
    Case(
        "cosine-mixture",
        lambda: DissimilarityMixture(4, 3, "cosine"),
        lambda n: torch.nn.functional.normalize(torch.randn(n, 4), dim=1),
    ),
    Case("damic", lambda: DAMIC(4, 3, 2, hidden=(8,), gate_hidden=(8,)), lambda n: torch.rand(n, 4)),
    Case("damic-ungated", lambda: DAMIC(4, 3, 2, hidden=(8,), gate=False), lambda n: torch.rand(n, 4)),
    Case("dcn", lambda: DCN(4, 3, latent_dim=2, hidden=(8,)), lambda n: torch.rand(n, 4)),
    Case("dec", lambda: DEC(4, 3, latent_dim=2, hidden=(8,)), lambda n: torch.rand(n, 4)),
    Case("idec", lambda: IDEC(4, 3, latent_dim=2, hidden=(8,)), lambda n: torch.rand(n, 4)),
    Case(
        "gmvae",
        lambda: GMVAE(4, 3, 2, w_dim=2, hidden=(8,), w_hidden=(8,), prior_hidden=(8,)),
        lambda n: torch.rand(n, 4),
    ),
    Case("ltvae", lambda: LTVAE(4, 3, latent_dim=2, hidden=(8,)), lambda n: torch.rand(n, 4)),
    Case("dgg", lambda: DGG(4, 3, latent_dim=2, hidden=(8,)), lambda n: torch.rand(n, 4)),
    Case("dmae", lambda: DMAE(4, 3, latent_dim=2, hidden=(8,)), lambda n: torch.rand(n, 4)),
    Case("mixture-of-vaes", lambda: MixtureOfVAEs(4, 3, latent_dim=2, hidden=(8,)), lambda n: torch.rand(n, 4)),
]
ALL = [*CASES, *OURS]
SVI = [pc.SVI(epochs=3, learning_rate=1e-3)]


@pytest.fixture(scope="module", params=ALL, ids=lambda case: case.name)
def fitted(request):
    """A case, its fitted story, the rows, and the record."""
    case = request.param
    torch.manual_seed(0)
    story, x = case.build(), case.rows(40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pc.FitWarning)  # three epochs may leave a cluster empty
        record = pc.fit(story, x, recipe=SVI, objective=case.objective, batch_size=16)
    return case, story, x, record


def test_fit(fitted):
    case, story, _, record = fitted
    assert len(record.losses()) == 3
    assert all(math.isfinite(loss) for loss in record.losses())
    assert math.isfinite(record.bound)
    assert record.story == type(story).__qualname__
    terms = {f"log p({name})" for name in ("cluster", *case.observed)}
    assert terms <= set(record.history[-1]["terms"])
    assert len(record.history[-1]["occupancy"]) == 3


def test_fit_is_semi_supervised(fitted):
    case, _, x, _ = fitted
    if case.objective == "amortised":
        return
    story, y = case.build(), torch.full((40,), -1)
    y[:3] = torch.arange(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pc.FitWarning)
        pc.fit(story, x, y, recipe=[pc.SVI(epochs=1)])
    assert pc.predict(story, x).shape == (40,)


def test_fit_restarts(fitted):
    case, _, x, _ = fitted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pc.FitWarning)
        record = pc.fit(case.build(), x, recipe=[pc.SVI(epochs=1)], n_init=2)
    assert len(record.bounds) == 2
    assert record.bound == max(record.bounds)
    assert record.bounds[0] != record.bounds[1]


def test_scores(fitted):
    _, story, x, _ = fitted
    assert pc.log_joint(story, x).shape == (40, 3)
    torch.testing.assert_close(pc.responsibilities(story, x).sum(1), torch.ones(40))
    assert pc.predict(story, x).shape == (40,)
    assert torch.isfinite(pc.elbo(story, x)).all()
    assert torch.isfinite(pc.log_likelihood(story, x, particles=3)).all()


def test_samples(fitted):
    case, story, x, _ = fitted
    if hasattr(story, "fit_codes"):
        story.fit_codes(x)  # its recipe would have
    if isinstance(story, DEC):
        with pytest.raises(ValueError, match=r"conditions on x .* use pc\.reconstruct"):
            pc.sample(story, 6)
    else:
        draws = pc.sample(story, 6, cluster=1, seed=0)
        assert draws["cluster"].tolist() == [1] * 6
        assert sum(draws[name].shape[1] for name in case.observed) == story.n_features
        assert pc.sample(story, 3, seed=0, min_posterior=0.2)["cluster"].shape == (3,)
    rebuilt = pc.reconstruct(story, x)
    assert rebuilt.shape == x.shape
    assert torch.isfinite(rebuilt).all()
    assert len(pc.embed(story, x)) == 40
    assert pc.sample_posterior(story, x, draws=2, seed=0)["cluster"].shape == (2, 40)


def test_generation(fitted):
    _, story, x, _ = fitted
    assert len(pc.prototypes(story, x, n=2)) <= 2 * 2 * 3
    if hasattr(story, "fit_codes"):
        story.fit_codes(x)  # its recipe would have
    if not can_be_sampled(story):
        for refused in (lambda: pc.modes(story), lambda: pc.predictive_check(story, x)):
            with pytest.raises(ValueError, match="conditions on x"):
                refused()
        return
    modes = pc.modes(story)
    torch.testing.assert_close(pc.interpolate(story, 0, 1, n=3)[0], modes[0], atol=1e-5, rtol=1e-4)
    assert pc.to_frame(story, modes).shape == (3, story.n_features)
    cold = pc.sample(story, 4, cluster=2, seed=0, temperature=0.5)
    assert cold["cluster"].tolist() == [2] * 4
    table = pc.predictive_check(story, x, particles=2, permutations=9)
    assert table["p_value"].between(0, 1).all()
    if story.conditional or "cosine-mixture" in fitted[0].name:  # neither has a distribution of a part of a row
        with pytest.raises(ValueError, match=r"conditions on x|does not allow missing"):
            pc.impute(story, x[:2].masked_fill(torch.arange(story.n_features) == 0, torch.nan))
        return
    found = pc.impute(story, x[:5].masked_fill(torch.arange(story.n_features) == 0, torch.nan), draws=3, particles=4)
    assert torch.equal(found.x[0, :, 1:], x[:5, 1:])
    assert torch.isfinite(found.x).all()


def can_be_sampled(story):
    try:
        pc.sample(story, 1, seed=0)
    except ValueError:
        return False
    return True


def test_save_and_load(fitted, tmp_path):
    _, story, x, _ = fitted
    pc.save(story, tmp_path / "story")
    loaded = pc.load(tmp_path / "story", type(story))
    assert torch.equal(pc.log_joint(loaded, x), pc.log_joint(story, x))


@pytest.mark.filterwarnings("ignore::probclust.errors.ComparisonWarning")  # two particles are too few, and that is said
def test_compare(fitted):
    _, story, x, _ = fitted
    if story.conditional or not story.is_density:
        with pytest.warns(pc.ComparisonWarning, match="has no likelihood"):
            assert pc.compare({"one": story}, x)["log_likelihood"].isna().all()
        return
    table = pc.compare({"one": story, "same": story}, x, y=torch.arange(40) % 3, particles=2)
    assert table.index.tolist() == ["one", "same"]
    assert (table["difference"] == 0).all()
    assert table["accuracy"].between(0, 1).all()
    assert table["log_likelihood"].iloc[0] == pytest.approx(
        pc.log_likelihood(story, x, particles=2).double().mean().item(), rel=1e-5
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # ArviZ's own
def test_inference_data(fitted):
    case, story, x, _ = fitted
    data = pc.to_inference_data(story, x[:6], draws=3)
    assert data.posterior["cluster"].shape == (1, 3, 6)
    for name in case.observed:
        assert name in data.observed_data
        assert name in data.posterior_predictive


def test_estimator(fitted):
    case, story, x, _ = fitted
    arguments = {k: v for k, v in story.arguments.items() if k not in ("n_features", "n_clusters")}
    if case.name == "mixed":
        pytest.skip("the estimator builds a story from n_features, and this one takes n_binary and n_real")
    estimator = pc.DeepMixture(
        type(story), n_clusters=3, story_arguments=arguments, recipe=SVI, particles=2, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pc.FitWarning)
        labels = estimator.fit_predict(x.numpy())
    assert labels.shape == (40,)
    assert estimator.predict_proba(x.numpy()).shape == (40, 3)


def test_every_public_name_can_be_imported():
    for name in pc.__all__:
        assert getattr(pc, name) is not None, name
