"""Paths begin and end where they should, and go straight where the story is linear."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import probclust as pc
from probclust.likelihoods import Categorical, Mixed
from probclust.models import DAMIC, DEC, GaussianMixture, MixtureOfVAEs, VaDE
from tests.support.stories import CASE_NAMES, CASES, FactorAnalysers, Poissons

OURS = {
    "gmm": lambda: GaussianMixture(4, 3),
    "vade": lambda: VaDE(4, 3, latent_dim=2, hidden=(8,)),
    "vade-cosine": lambda: VaDE(4, 3, latent_dim=3, hidden=(8,), prior="cosine"),
    "mixture-of-vaes": lambda: MixtureOfVAEs(4, 3, latent_dim=2, hidden=(8,), likelihood="bernoulli"),
}


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_every_story_has_paths_between_clusters_and_rows(case):
    check_ends(case.build(), case.rows())


@pytest.mark.parametrize("name", OURS)
def test_our_stories_have_them_too(name):
    check_ends(OURS[name](), torch.rand(5, 4))


def check_ends(story, x):
    modes, rebuilt = pc.modes(story), pc.reconstruct(story, x)
    between_clusters = pc.interpolate(story, 0, 2, n=4)
    assert between_clusters.shape == (4, story.n_features)
    torch.testing.assert_close(between_clusters[[0, -1]], modes[[0, 2]], atol=1e-5, rtol=1e-4)
    between_rows = pc.interpolate(story, x[0], x[1], n=2)
    torch.testing.assert_close(between_rows, rebuilt[:2], atol=1e-5, rtol=1e-4)
    mixed = pc.interpolate(story, 1, x[0].tolist(), n=3)
    torch.testing.assert_close(mixed[[0, -1]], torch.stack([modes[1], rebuilt[0]]), atol=1e-5, rtol=1e-4)


def test_linear_stories_go_straight():
    mixture = GaussianMixture(2, 3)
    t = torch.linspace(0, 1, 6)[:, None]
    expected = ((1 - t) * mixture.loc[0] + t * mixture.loc[1]).detach()
    torch.testing.assert_close(pc.interpolate(mixture, 0, 1, n=6), expected)
    factors, x = FactorAnalysers(4, 3), torch.randn(1, 4)
    z = pc.embed(factors, x)[0]
    k = int(pc.predict(factors, x))
    path = (1 - t) * factors.loc[0] + t * factors.loc[k] + t * (1 - t) * (factors.loading[0] @ z)
    path = path + t**2 * (factors.loading[k] @ z)  # z goes from 0 to the row's, the decoders fade
    torch.testing.assert_close(pc.interpolate(factors, 0, x[0], n=6), path.detach())


def test_one_decoder_is_run_along_the_latents():
    story = VaDE(4, 3, latent_dim=2, hidden=(8,))
    t = torch.linspace(0, 1, 7)[:, None]
    z = (1 - t) * story.prior.loc[0] + t * story.prior.loc[1]
    torch.testing.assert_close(pc.interpolate(story, 0, 1, n=7), story.codec.decode(z).mean.detach())
    straight = torch.lerp(*(pc.modes(story)[[k]] for k in (0, 1)), t)
    assert not torch.allclose(pc.interpolate(story, 0, 1, n=7), straight, atol=1e-4)


def test_directions_keep_to_the_sphere_at_even_angles():
    story = VaDE(4, 3, latent_dim=3, hidden=(8,), prior="cosine")
    passed = []
    story.codec.decoder.register_forward_hook(lambda module, inputs, output: passed.append(inputs[0]))
    pc.interpolate(story, 0, 1, n=5)
    z = passed[-1]
    torch.testing.assert_close(z.norm(dim=1), torch.ones(5))
    steps = (z[1:] * z[:-1]).sum(1).acos()
    torch.testing.assert_close(steps, steps[:1].expand(4), atol=1e-3, rtol=1e-3)


def test_categories_change_in_the_middle():
    class Kinds(pc.Story):
        def __init__(self):
            super().__init__(n_features=1, n_clusters=2)
            self.logits = nn.Parameter(torch.tensor([[5.0, 0, 0], [0, 0, 5.0]]))

        def model(self, x):
            with pyro.plate("data", x.shape[0]):
                k = pyro.sample("cluster", dist.Categorical(torch.ones(2)))
                pyro.sample("x", dist.Categorical(logits=self.logits[k]), obs=x[:, 0].long())

        def guide(self, x):
            pass

    assert pc.interpolate(Kinds(), 0, 1, n=6).flatten().tolist() == [0, 0, 0, 2, 2, 2]


@pytest.mark.parametrize("missing", [False, True])
def test_so_do_the_categories_of_a_table(missing):
    table = Mixed([([0], "gaussian"), ([1], Categorical(1, 3)), ([2], "poisson")])
    story = VaDE(3, 2, latent_dim=2, hidden=(8,), likelihood=table, missing=missing)
    path = pc.interpolate(story, 0, 1, n=8)
    assert torch.equal(path[:, 1], path[:, 1].round())
    assert (path[1:-1, [0, 2]] != path[[0], :][:, [0, 2]]).all()


@pytest.mark.parametrize("wrong", [3, -1, True, 0.5, [1.0, 2.0], "ab", None])
def test_wrong_ends_are_refused(wrong):
    with pytest.raises(ValueError, match=r"end must be a cluster"):
        pc.interpolate(Poissons(4, 3), 0, wrong)


def test_wrong_numbers_and_conditional_stories_are_refused():
    for n in (1, 0, 2.5):
        with pytest.raises(ValueError, match="n must be"):
            pc.interpolate(Poissons(4, 3), 0, 1, n=n)
    damic = DAMIC(4, 3, 2, hidden=(8,), gate_hidden=(8,))
    damic.fit_codes(torch.rand(30, 4))
    assert pc.interpolate(damic, 0, 1).shape == (9, 4)
    for story in (damic, DEC(4, 3, latent_dim=2, hidden=(8,))):
        with pytest.raises(ValueError, match="conditions on x"):
            pc.interpolate(story, torch.rand(4), torch.rand(4))
