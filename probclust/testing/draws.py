"""What a story gives back: samples, as the model has them, reconstructions, modes, imputations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from scipy.stats import ks_2samp

import probclust as pc
from probclust.errors import ContractError
from probclust.story.columns import rows_of
from probclust.story.joint import Pass
from probclust.story.sites import CLUSTER
from probclust.story.story import Story
from probclust.story.untouched import untouched
from probclust.testing.case import Case, NotApplicable, close, require

FALSE_ALARM = 1e-7
"""Chance that draws of a sound story are taken for those of another distribution, for all its columns together."""

DRAWS = 1000
"""Of each cluster, to tell its distribution."""


def check_sample(case: Case) -> None:
    """Draws of the wanted cluster, the same under one seed, others in other clusters, distributed as the model's."""
    story = case.story
    try:
        draws = pc.sample(story, 6, cluster=story.n_clusters - 1, seed=0)
    except ValueError as error:
        if story.conditional and not isinstance(error, ContractError):
            case.can_sample = False
            raise NotApplicable(str(error)) from None
        raise
    require(draws[CLUSTER].tolist() == [story.n_clusters - 1] * 6, "pc.sample(cluster=k) draws other clusters")
    require(rows_of(story, draws).shape == (6, story.n_features), "pc.sample does not draw all columns of x")
    again = pc.sample(story, 6, cluster=story.n_clusters - 1, seed=0)
    require(all(torch.equal(draws[n], again[n]) for n in draws), "pc.sample draws others under the same seed")
    table = pc.log_joint(story, case.x)
    ratios = table - table[:, -1:]
    told_apart = bool((ratios - ratios[0]).abs().max() > 1e-3)
    if not (story.is_density and not story.conditional):  # clusters without rows have no draws of their own
        told_apart = len(table.argmax(1).unique()) > 1
    if told_apart:
        others = [pc.sample(story, 6, cluster=k, seed=0) for k in range(story.n_clusters - 1)]
        require(
            any(not torch.equal(draws[name], other[name]) for other in others for name in draws if name != CLUSTER),
            "pc.sample draws the same whatever the cluster, and scores tell them apart; "
            + ("model" if type(story).generative is Story.generative else "generative")
            + "(x) must use its cluster",
        )
    if story.is_density and not story.conditional:  # else what it draws from is a model of its own
        _draws_are_the_models(story)


def _draws_are_the_models(story: Story) -> None:
    """Kolmogorov and Smirnov's test of each column and cluster, against the model run by itself."""
    for cluster in range(story.n_clusters):
        with untouched(story):
            torch.manual_seed(2)
            x = torch.zeros(DRAWS, story.n_features, dtype=story.dtype, device=story.device)
            guide = Pass("draw").run(story.complete_guide, x[:2])
            shared = {name: site.value for name, site in guide.items() if site.latent and not site.local}
            known = torch.full((DRAWS,), cluster, device=x.device)
            sites = Pass(known, shared, uncondition=True).run(story.model, x)
        if any(site.is_random for site in guide.values() if not site.local):
            return  # each sample has a draw of the global latents of its own
        expected = rows_of(story, {name: site.value.cpu() for name, site in sites.items() if site.local})
        drawn = rows_of(story, pc.sample(story, DRAWS, cluster=cluster, seed=1))
        for column in range(story.n_features):
            chance = ks_2samp(drawn[:, column].numpy(), expected[:, column].numpy()).pvalue
            require(
                chance > FALSE_ALARM / (story.n_features * story.n_clusters),
                f"column {column} of pc.sample(cluster={cluster}) is not distributed as the model has it "
                f"(p = {chance:.1g}); generative(x) and model(x) must be one story",
            )


def _sampled(case: Case) -> Story:
    if not case.can_sample:
        raise NotApplicable("there is nothing to draw from")
    return case.story


@contextmanager
def _where_known() -> Iterator[None]:
    """Within, a ValueError says that a distribution has no such form, or that a story has none."""
    try:
        yield
    except ContractError:
        raise
    except ValueError as error:
        raise NotApplicable(str(error)) from None


def check_reconstruct(case: Case) -> None:
    """Rows rebuilt, their codes, draws of their latents."""
    story, x = case.story, case.x
    rebuilt = pc.reconstruct(story, x)
    require(rebuilt.shape == x.shape and bool(torch.isfinite(rebuilt).all()), "pc.reconstruct gives no finite rows")
    require(len(pc.embed(story, x)) == len(x), "pc.embed does not give a code for each row")
    draws = pc.sample_posterior(story, x, draws=2, seed=0)
    require(draws[CLUSTER].shape == (2, len(x)), "pc.sample_posterior(draws=2) has no cluster for each draw and row")


def check_modes(case: Case) -> None:
    """Modes, paths between them, draws at a temperature; where the distributions are known to have them."""
    story = _sampled(case)
    with _where_known():
        modes = pc.modes(story)
        path = pc.interpolate(story, 0, story.n_clusters - 1, n=3)
        cold = pc.sample(story, 4, cluster=0, seed=0, temperature=0.5)
    require(modes.shape == (story.n_clusters, story.n_features), f"pc.modes has shape {tuple(modes.shape)}")
    close(path[0], modes[0], "pc.interpolate does not begin at the mode: it", 1e-3)
    require(cold[CLUSTER].tolist() == [0] * 4, "pc.sample(temperature=0.5) draws other clusters")
    require(pc.to_frame(story, modes).shape == tuple(modes.shape), "pc.to_frame has another shape than its rows")


def check_impute(case: Case) -> None:
    """Draws of a column given the others."""
    story, x = case.story, case.x[:5]
    gaps = torch.arange(story.n_features) == 0
    with _where_known():
        found = pc.impute(story, x.masked_fill(gaps, torch.nan), draws=3, particles=4)
    known = ~gaps & ~x.isnan()
    require(torch.equal(found.x[0][known.cpu()], x[known].cpu()), "pc.impute changes entries that are known")
    require(bool(torch.isfinite(found.x).all()), "pc.impute gives entries that are not finite")


def check_pictures(case: Case) -> None:
    """Rows that stand for clusters, and whether draws are like the rows."""
    story = case.story
    require(len(pc.prototypes(story, case.x, n=2)) <= 4 * story.n_clusters, "pc.prototypes gives more rows than wanted")
    table = pc.predictive_check(_sampled(case), case.x, particles=2, permutations=9)
    require(bool(table["p_value"].between(0, 1).all()), "pc.predictive_check gives p-values outside 0..1")
