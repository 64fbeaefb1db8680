"""A cluster's mode is what a closed form says."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import probclust as pc
from probclust.distributions.base import mode_of
from probclust.models import DAMIC, DEC, DissimilarityMixture, GaussianMixture, MixtureOfVAEs, VaDE
from tests.support.stories import CASE_NAMES, CASES, Bayesian, FactorAnalysers, Mixed, Poissons, SharedFactors


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_every_story_has_modes(case):
    story = case.build()
    before = torch.get_rng_state()
    found = pc.modes(story)
    assert found.shape == (3, story.n_features)
    assert torch.isfinite(found).all()
    assert torch.equal(found, pc.modes(story))
    assert torch.equal(before, torch.get_rng_state())


def test_without_latents_it_is_the_mean_of_the_cluster():
    story = Poissons(4, 3)
    torch.testing.assert_close(pc.modes(story), story.log_rate.exp().detach())
    for kind in ("manhattan", "cosine"):
        story = DissimilarityMixture(4, 3, kind)
        expected = story.dissimilarity.density(torch.arange(3)).mean
        torch.testing.assert_close(pc.modes(story), expected.detach())


def test_with_latents_they_are_at_their_priors_mode():
    for kind in (FactorAnalysers, SharedFactors):
        story = kind(4, 3)
        torch.testing.assert_close(pc.modes(story), story.loc.detach())
    vade = VaDE(6, 3, latent_dim=2, hidden=(5,), likelihood="bernoulli")
    torch.testing.assert_close(pc.modes(vade), vade.codec.decode(vade.prior.loc).mean.detach())
    sphere = VaDE(6, 3, latent_dim=2, hidden=(5,), prior="cosine")
    torch.testing.assert_close(pc.modes(sphere), sphere.codec.decode(sphere.prior.loc).mean.detach())
    vaes = MixtureOfVAEs(6, 3, latent_dim=2, hidden=(5,))
    expected = vaes.experts.likelihood(vaes.experts.decoders(torch.zeros(3, 2))).mean[torch.arange(3), torch.arange(3)]
    torch.testing.assert_close(pc.modes(vaes), expected.detach())


def test_columns_stand_in_their_places_and_globals_at_their_mean():
    story = Mixed(3, 2, 3)
    expected = torch.cat([story.binary_logits.sigmoid(), story.loc], 1)
    torch.testing.assert_close(pc.modes(story), expected.detach())
    story = Bayesian(4, 3, global_guide="normal")
    torch.testing.assert_close(pc.modes(story), story.globals.locs["loc"].detach())


def test_a_mode_that_is_no_mean_is_taken_where_the_latent_has_one():
    class Skewed(pc.Story):
        def model(self, x):
            with pyro.plate("data", x.shape[0]):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(2)))
                z = pyro.sample("z", dist.Gamma(3.0 + k, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

        def guide(self, x):
            with pyro.plate("data", x.shape[0]):
                pyro.sample("z", dist.LogNormal(x[:, 0], 1.0))

    assert pc.modes(Skewed(n_features=1, n_clusters=2)).flatten().tolist() == [2.0, 3.0]


def test_transformed_distributions_carry_their_bases_mode():
    law = dist.TransformedDistribution(dist.Normal(torch.ones(2), 1.0), [dist.transforms.ExpTransform()]).to_event(1)
    torch.testing.assert_close(mode_of(law, "z"), torch.ones(2).exp())


def test_conditional_stories_have_them_where_they_can_be_sampled():
    story = DAMIC(4, 3, 2, hidden=(8,), gate_hidden=(8,))
    story.fit_codes(torch.rand(30, 4))
    assert pc.modes(story).shape == (3, 4)
    with pytest.raises(ValueError, match="conditions on x"):
        pc.modes(DEC(4, 3, latent_dim=2, hidden=(8,)))
    with pytest.raises(TypeError, match=r"expected a probclust\.Story"):
        pc.modes(GaussianMixture)
