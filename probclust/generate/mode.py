"""What each cluster looks like at its most typical: latents at their mode, the row at its mean given those."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from probclust.distributions.base import mode_of
from probclust.story.chunks import evaluating
from probclust.story.columns import columns, observed_mean, own_mean, placeholder
from probclust.story.joint import Pass
from probclust.story.rows import require_contract
from probclust.story.sites import CLUSTER, Site, global_values, is_local
from probclust.story.story import Story


def modes(story: Story) -> Tensor:
    """Each cluster's mode: the mean of x where the latents are at the mode of their prior given the cluster.

    VaDE decodes the centre of each component so, a mixture of VAEs each decoder's image of 0; where there are no
    local latents it is the mean of p(x | cluster). With curved decoders it is not the maximum of p(x | cluster),
    an integral over latents: it is where `pc.sample` goes as its temperature goes to 0, but for likelihoods whose
    mean is not their mode (Bernoulli: the probabilities; Poisson: the rate), where the mean shows more. Categorical
    columns, which have no mean, are at their most probable value.

    Args:
        story: any story that is not conditional, or has a `generative` of its own. Global latents are at the mean of
            their guide.

    Returns:
        (clusters, n_features) rows.

    Raises:
        ValueError: the story conditions on x, or observes a transformation of it.

    Examples:
        >>> import torch, probclust as pc
        >>> story = pc.models.GaussianMixture(2, n_clusters=3)
        >>> torch.equal(modes(story), story.loc.detach())
        True
    """
    require_contract(story)
    found = columns(story)
    with evaluating(story, 0):
        sites = sites_at_mode(story, torch.arange(story.n_clusters, device=story.device))
        return mean_rows(story, sites, found)


def sites_at_mode(story: Story, clusters: Tensor) -> dict[str, Site]:
    """The generative model's sites under (rows,) clusters, its latents at their mode; call it while evaluating."""
    x = placeholder(story, len(clusters))
    with AtMode():
        return Pass(clusters, mean_globals(story)).run(story.generative, x)


def mean_globals(story: Story) -> dict[str, Tensor]:
    """The global latents at the mean of their guide, by name."""
    sites = Pass("enumerate", latents="mean").run(story.complete_guide, placeholder(story, 2))
    return global_values(sites)


def mean_rows(story: Story, sites: dict[str, Site], columns: dict[str, Tensor], like: Tensor | None = None) -> Tensor:
    """(rows, n_features): the mean of each observed site in the columns it reads; 0 where none does.

    Counts given their total have the mean total, or those of (rows, n_features) `like`.
    """
    means = {}
    for name, where in columns.items():
        site = sites[name]
        if like is None:
            means[name] = observed_mean(site)
        else:
            means[name] = own_mean(replace(site, value=like[:, where].reshape(site.value.shape).to(site.value)))
    n_rows = len(sites[CLUSTER].value)
    out = torch.zeros(n_rows, story.n_features, dtype=story.dtype)
    for name, where in columns.items():
        out[:, where] = means[name].reshape(n_rows, -1).cpu().to(out.dtype)
    return out


class AtMode(Messenger):
    """Sets the local latents that are drawn inside to the mode of their distribution."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["done"] or msg["is_observed"] or not is_local(msg) or site_is_subsample(msg):
            return
        msg["value"], msg["done"] = mode_of(msg["fn"], msg["name"]), True
