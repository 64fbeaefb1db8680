"""Zuko's flows as a prior: densities, gradients and draws by other means, and what a story asks of a part."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from scipy import stats

import probclust as pc
from probclust.models import VaDE
from probclust.priors import DiagonalGaussian, ZukoFlow
from probclust.priors.zuko_flow import FLOWS

pytestmark = pytest.mark.usefixtures("float64")

CLUSTERS = torch.arange(2)[:, None]
MIN_P = 1e-4


@torch.no_grad()
def part(flow, d=3, **settings):
    """Two clusters under a flow that bends them."""
    torch.manual_seed(1)
    made = ZukoFlow(d, 2, flow, transforms=2, hidden_features=[6], **settings)
    for parameter in made.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("flow", FLOWS)
def test_the_density_has_the_jacobian_of_its_map(flow):
    """log p(z) = log p(u) + log |det du/dz|, the determinant from autograd's whole Jacobian."""
    made, z = part(flow), torch.randn(3)
    jacobian = torch.autograd.functional.jacobian(made.flow(), z)
    assert (jacobian - jacobian.diagonal().diag()).abs().max() > 0.01
    base = torch.distributions.Normal(made.loc[1], made.scale[1]).log_prob(made.flow()(z)).sum()
    log_prob = made.density(CLUSTERS).log_prob(z)
    assert log_prob.shape == (2, 1)
    torch.testing.assert_close(log_prob[1, 0], base + torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize("flow", FLOWS)
def test_it_integrates_to_one_in_2d(flow):
    made = part(flow, 2)
    grid = 60 * torch.linspace(-1, 1, 301) ** 3
    steps = torch.gradient(grid)[0]
    x = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    with torch.no_grad():
        density = made.density(CLUSTERS).log_prob(x).exp().reshape(2, len(grid), len(grid))
    torch.testing.assert_close(torch.einsum("kij,i,j->k", density, steps, steps), torch.ones(2), atol=0.01, rtol=0)


@pytest.mark.parametrize("flow", FLOWS)
def test_gradients_are_those_of_finite_differences(flow):
    made, z = part(flow, 2), torch.randn(3, 2, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda z, *_: made.density(CLUSTERS).log_prob(z), [z, *made.parameters()], fast_mode=True
    )


@pytest.mark.parametrize("flow", FLOWS)
def test_draws_are_images_of_the_base_however_far(flow):
    made = part(flow)
    with torch.no_grad():
        u = made.flow()(made.density(torch.ones(4000, dtype=torch.long)).sample())
        for column in range(3):
            normal = stats.norm(made.loc[1, column].item(), made.scale[1, column].item())
            assert stats.kstest(u[:, column].numpy(), normal.cdf).pvalue > MIN_P
        z = torch.linspace(-100, 100, 300).reshape(-1, 3)
        torch.testing.assert_close(made.flow().inv(made.flow()(z)), z, atol=1e-4, rtol=1e-5)


def test_the_start_is_the_moments_of_what_codes_are_images_of():
    made, codes, labels = part("NSF"), torch.randn(100, 3), torch.arange(100) % 2
    made.start(codes, labels)
    u = made.flow()(codes)[labels == 1]
    torch.testing.assert_close(made.loc[1], u.mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(made.scale[1], u.std(0, correction=0), atol=1e-4, rtol=0)


def test_clusters_may_bend():
    """Two arcs: a spline makes good more than half of what a Gaussian loses to the truth on held-out rows."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    labels, u = torch.arange(2000) % 2, torch.randn(2, 2000, 2)
    bend = torch.where(labels == 0, 0.5, -0.5) * u[..., 0].square()
    rows = torch.stack([u[..., 0] + torch.where(labels == 0, -2.0, 2.0), 0.3 * u[..., 1] + bend], -1)

    def held_out(prior):
        prior.start(rows[0], labels)
        optimizer = torch.optim.Adam(prior.parameters(), 0.01)
        for batch in torch.arange(2000).repeat(30).split(250):
            optimizer.zero_grad()
            (-prior.density(labels[batch]).log_prob(rows[0][batch]).mean()).backward()
            optimizer.step()
        with torch.no_grad():
            return prior.density(labels).log_prob(rows[1]).mean().item()

    truth = torch.distributions.Normal(0, 1).log_prob(u[1]).sum(-1).mean().item() - math.log(0.3)
    lost = truth - held_out(DiagonalGaussian(2, 2))
    assert lost > 0.5
    assert -0.05 < truth - held_out(ZukoFlow(2, 2, hidden_features=[32])) < 0.5 * lost


@pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")  # so short a fit may leave a cluster empty
@pytest.mark.parametrize(
    ("flow", "settings", "engine"),
    [
        ("NSF", {"bins": 4}, "staged"),
        ("MAF", {"randperm": True, "passes": 2}, "eager"),
        ("BPF", {}, "eager"),
        ("RealNVP", {"randmask": True}, "staged"),  # its shapes depend on values, so that it runs eagerly
    ],
)
def test_a_story_with_it_is_fitted_sampled_saved_and_drawn_anew(flow, settings, engine, tmp_path):
    torch.set_default_dtype(torch.float32)
    prior = ZukoFlow(3, 3, flow, hidden_features=[8], **settings)
    story, x = VaDE(4, 3, latent_dim=3, hidden=(8,), prior=prior), torch.rand(40, 4)
    pc.fit(story, x, recipe={"pretrain_epochs": 1, "fit_epochs": 1, "epochs": 1}, n_init=2, engine=engine)
    assert pc.sample(story, 5, cluster=1, seed=0)["z"].shape == (5, 3)
    assert pc.modes(story).shape == (3, 4)
    pc.save(story, tmp_path / "story")
    loaded = pc.load(tmp_path / "story")
    assert torch.equal(pc.log_joint(loaded, x), pc.log_joint(story, x))


def test_wrong_settings(monkeypatch):
    with pytest.raises(ValueError, match="flow must be 'BPF' or 'MAF' or 'NICE' or 'NSF' or 'RealNVP', got 'NCSF'"):
        ZukoFlow(3, 2, "NCSF")
    with pytest.raises(TypeError, match="context"):
        ZukoFlow(3, 2, context=1)
    with pytest.raises(TypeError, match="n_bins"):
        ZukoFlow(3, 2, n_bins=3)
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError, match=r"pip install 'probclust\[flow\]'"):
        ZukoFlow(3, 2)


def test_the_import_of_zuko_leaves_the_checks_of_distributions_on():
    code = (
        "import sys, probclust as pc, torch; pc.priors.ZukoFlow(2, 2); assert 'zuko' in sys.modules;"
        "assert torch.distributions.Distribution._validate_args"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
