"""Simulation-based calibration: posteriors of the mixture weights cover the truth at their stated rate.

Weights are drawn from their prior and rows from the weights, 200 times; each time the story is fitted to the rows and
the rank of each true weight among draws of its posterior is noted. Where the posterior is right the ranks are uniform
(S. Talts and others, "Validating Bayesian inference algorithms with simulation-based calibration", 2018).
"""

from __future__ import annotations

import numpy as np
import pyro
import pytest
import torch
from scipy import stats

from probclust.models import GaussianMixture
from probclust.objectives.bounds import Exact
from probclust.priors.weights import Dirichlet, StickBreaking
from probclust.story.joint import Pass

N_SETS, N_ROWS, N_DRAWS = 200, 150, 999
CENTRES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


def known_components(weights, kind, separation):
    """A mixture of three Gaussians of unit variance whose weights alone are unknown."""
    story = GaussianMixture(2, 3, "spherical", weights=weights, global_guide=kind)
    with torch.no_grad():
        story.loc.copy_(separation * CENTRES)
        story.raw_scale.fill_(float(np.log(np.expm1(1.0))))
    for parameter in (story.loc, story.raw_scale):
        parameter.requires_grad_(False)
    return story


def fit_globals(story, x, n_steps=100):
    """EM's weights for a start, as recipes have it, and plain steps on all rows, without what `pc.fit` does around
    them: there are 1,600 fits here.
    """
    component = story.component(torch.arange(3)[:, None]).log_prob(x)
    shares = torch.full((3,), 1 / 3)
    for _ in range(50):
        shares = (shares.log()[:, None] + component).softmax(0).mean(1).clamp(min=0.1 / len(x))
    story.start_weights(shares / shares.sum(), len(x))
    adam = torch.optim.Adam([p for p in story.parameters() if p.requires_grad], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_steps)
    objective = Exact()
    with pyro.validation_enabled(False):
        for _ in range(n_steps):
            adam.zero_grad()
            (objective.differentiable_loss(story.model, story.guide, x) / len(x)).backward()
            adam.step()
            schedule.step()


def ranks(build, kind, separation, n_sets=N_SETS):
    """(sets, weights) share of the posterior's draws below the truth."""
    torch.manual_seed(1)
    found = []
    for _ in range(n_sets):
        story = known_components(build(), kind, separation)
        empty = torch.zeros(N_ROWS, 2)
        sites = Pass("draw", uncondition=True).run(story.model, empty)
        name = next(site.name for site in sites.values() if not site.local)
        truth, x = sites[name].value, sites["x"].value.detach()
        fit_globals(story, x)
        draws = story.globals._distribution(name).sample((N_DRAWS,))
        found.append((draws < truth).float().mean(0).numpy())
    return np.stack(found)


def coverage(share, level):
    """Share of the truths within the central interval of that level."""
    return (np.abs(share - 0.5) < level / 2).mean()


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("separation", [10.0, 2.5], ids=["separated", "overlapping"])
@pytest.mark.parametrize("kind", ["conjugate", "normal"])
@pytest.mark.parametrize("weights", ["dirichlet", "stick-breaking"])
def test_posteriors_cover_the_truth_at_the_stated_rate(weights, kind, separation):
    """Coverage within 4 binomial standard errors at three levels, ranks of each weight uniform (p above 1e-4).

    Of Dirichlet weights at 50, 80 and 95%, measured: separated clusters 0.49, 0.80, 0.96 (conjugate) and 0.48, 0.80,
    0.94 (normal); overlapping ones 0.45, 0.74, 0.90 (conjugate: a Dirichlet is too narrow there) and 0.48, 0.78, 0.94.
    """
    share = ranks(lambda: Dirichlet(3, 2.0) if weights == "dirichlet" else StickBreaking(3, 1.5), kind, separation)
    report = {level: round(float(coverage(share, level)), 3) for level in (0.5, 0.8, 0.95)}
    uniform = [float(stats.kstest(column, "uniform").pvalue) for column in share.T]
    print(weights, kind, separation, report, [round(p, 3) for p in uniform])
    for level, rate in report.items():
        assert rate == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / N_SETS))
    assert min(uniform) > 1e-4


def test_the_ranks_find_a_posterior_that_is_too_narrow():
    """Planted: draws of a Beta with four times the concentration of the posterior."""
    rng = np.random.default_rng(0)
    truth = rng.beta(2, 4, 400)
    counts = rng.binomial(150, truth)
    right, narrow = (
        np.array(
            [(rng.beta(f * (2 + c), f * (4 + 150 - c), N_DRAWS) < t).mean() for c, t in zip(counts, truth, strict=True)]
        )
        for f in (1, 4)
    )
    assert coverage(right, 0.8) == pytest.approx(0.8, abs=0.08)
    assert coverage(narrow, 0.8) < 0.65
