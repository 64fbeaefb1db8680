"""Checks of what scores rows: log joint, responsibilities, bounds, objectives, comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from scipy.special import logsumexp, softmax

import probclust as pc
from random_stories.outcome import Refusal, Wrong, require_close
from random_stories.plan import scales
from random_stories.truth import Expectation, Points
from random_stories.walk import GLOBAL_PASSES, Array, Check, Walk

HEAVY = 20.0
"""Relative variance of importance weights beyond which their average says nothing."""


def log_joint(w: Walk) -> None:
    w.close("log_joint", pc.log_joint(w.story, w.tensor), w.right.table)


def one_row(w: Walk) -> None:
    w.close("log_joint of one row", pc.log_joint(w.story, w.tensor[:1]), w.right.table[:1])


def responsibilities(w: Walk) -> None:
    w.close("responsibilities", pc.responsibilities(w.story, w.tensor), softmax(w.right.table, -1))


def predict(w: Walk) -> None:
    labels = pc.predict(w.story, w.tensor).numpy()
    found = np.take_along_axis(w.right.table, labels[:, None], 1)[:, 0]
    w.close("the log joint of predict's clusters", found, w.right.table.max(1))


def averaged(run: Callable[..., Any], w: Walk) -> Callable[[int], Any]:
    """A score of all copies, averaged over the passes."""
    return lambda seed: run(w.story, w.copies, particles=w.passes, seed=seed)


def log_joint_of_draws(w: Walk) -> None:
    w.likely("log_joint(particles)", averaged(pc.log_joint, w), w.right.expectation(lambda p: p.joint))


def bound(p: Points) -> Array:
    """(P, N) logsumexp over the clusters."""
    return logsumexp(p.joint, -1)


def lowest(w: Walk) -> Array:
    """(N,) what no bound of draws of each cluster's own latents lies below: the logsumexp is convex."""
    return logsumexp(w.right.expectation(lambda p: p.joint).mean, -1)


def elbo(w: Walk) -> None:
    if w.by_cluster:
        w.between("elbo", averaged(pc.elbo, w), lowest(w), w.right.evidence)
    else:
        w.likely("elbo", averaged(pc.elbo, w), w.right.expectation(bound))


def relative_weights(w: Walk) -> Expectation:
    """Of the importance weight over p(x); its variance is a bound, whatever clusters have in common."""
    log_p = w.right.evidence[:, None]
    each = w.right.expectation(lambda p: np.exp(p.joint - log_p))
    within, between = (np.sqrt(v).sum(-1) ** 2 for v in (each.within, each.between))
    return Expectation(each.mean.sum(-1), within, between)


def log_likelihood(w: Walk) -> None:
    if any(latent["scale"] != 1 for latent in w.plan["latents"]) or scales(w.plan)[0] != 1:
        pc.log_likelihood(w.story, w.tensor, particles=2)
        return  # powers of q in the weights, which may have no expectation
    expected = relative_weights(w)
    if (expected.within + expected.between).max() > HEAVY:
        return

    def weights(seed: int) -> Array:
        found = averaged(pc.log_likelihood, w)(seed).double().numpy()
        return np.exp(found.reshape(w.repeats, -1) - w.right.evidence)

    w.likely("exp(log_likelihood - log p(x))", weights, expected)


@contextmanager
def evaluated(story: Any) -> Iterator[None]:
    """In evaluation mode: an objective takes a story as it is."""
    story.eval()
    try:
        yield
    finally:
        story.train()


def of_objective(w: Walk, loss: Callable[[], Any]) -> Callable[[int], Array]:
    """Minus the loss, in evaluation mode, for each of the passes."""

    def draws(seed: int) -> Array:
        with torch.random.fork_rng(), evaluated(w.story):
            torch.manual_seed(seed)
            found = np.array([[-loss()] for _ in range(GLOBAL_PASSES if w.is_spread else 1)])
        return found.mean(0, keepdims=True)

    return draws


def summed(w: Walk, each: Expectation) -> Expectation:
    """Of the sum over all copies of all rows, under the common scale, with the global latents' share."""
    scale, n = scales(w.plan, len(w.copies))[1], w.repeats
    within = scale**2 * n * each.within.sum(keepdims=True)
    mean, between = scale * n * each.mean.sum(keepdims=True), np.zeros(1)
    if w.is_spread:
        between = scale**2 * n**2 * (np.sqrt(each.between).sum(keepdims=True) ** 2) + w.right.log_globals.var()
    return Expectation(mean + w.right.log_globals.mean(), within, between)


def objectives(w: Walk) -> None:
    passes = GLOBAL_PASSES if w.is_spread else 1
    run = lambda objective: of_objective(w, lambda: objective.loss(w.story.model, w.story.guide, w.copies))  # noqa: E731
    if not w.by_cluster:
        exact = summed(w, w.right.expectation(bound))
        w.likely("Exact", run(pc.objectives.Exact()), exact, passes)
        hard = summed(w, w.right.expectation(lambda p: p.joint.max(-1)))
        w.likely("Hard", run(pc.objectives.Hard()), hard, passes)
    w.likely("Amortised", run(pc.objectives.Amortised()), summed(w, amortised(w)), passes)


def amortised(w: Walk) -> Expectation:
    """(N,) the bound under the guide's own q(cluster | x)."""
    log_q = w.right.log_q
    if log_q is None:
        return w.right.expectation(bound)

    def terms(p: Points) -> Array:
        with np.errstate(invalid="ignore"):
            return np.where(np.isneginf(log_q), 0.0, np.exp(log_q) * (p.joint - scales(w.plan)[0] * log_q))

    each = w.right.expectation(terms)
    within, between = (np.sqrt(v).sum(-1) ** 2 for v in (each.within, each.between))
    return Expectation(each.mean.sum(-1), within, between)


def pyro_elbo(w: Walk) -> None:
    """Pyro's own ELBO agrees with the truth, where Pyro allows scales: then the truth is right too."""
    if any(part["scale"] != 1 for part in w.plan["sites"] + w.plan["latents"]) or w.plan["zero"]:
        return  # Pyro refuses the first, and makes NaN of the second
    loss = TraceEnum_ELBO(max_plate_nesting=1)
    model, guide = config_enumerate(w.story.model), config_enumerate(w.story.complete_guide)

    def run() -> float:
        before = torch.get_default_dtype()
        torch.set_default_dtype(w.story.dtype)  # that of Pyro's own constants
        try:
            return loss.loss(model, guide, w.copies)
        finally:
            torch.set_default_dtype(before)

    draws = of_objective(w, run)
    w.likely("TraceEnum_ELBO", draws, summed(w, amortised(w)), GLOBAL_PASSES if w.is_spread else 1)


def importance(w: Walk) -> None:
    """Between the bound of one draw and log p(x)."""
    if w.is_spread or scales(w.plan, 1)[1] != 1:
        return
    objective = pc.objectives.ImportanceWeighted(particles=3)
    draws = of_objective(w, lambda: objective.loss(w.story.model, w.story.guide, w.copies) / w.repeats)
    low, high = (lowest(w).sum(keepdims=True), w.right.evidence.sum(keepdims=True))
    shared = w.right.log_globals.mean() / w.repeats
    error = np.sqrt(w.right.expectation(bound).within.sum() / w.repeats)
    w.between("ImportanceWeighted", draws, low + shared - 6 * error, high + shared + 6 * error)


def per_row(w: Walk) -> None:
    """Known clusters count by their own column."""
    if not all(p.weights.shape[0] == 1 for p in w.right.draws) or w.is_spread or scales(w.plan, 1)[1] != 1:
        return
    y = torch.arange(len(w.x)) % w.plan["n_clusters"]
    with torch.no_grad(), evaluated(w.story):
        value, _ = pc.objectives.Exact().per_row(w.story.model, w.story.guide, w.tensor, y)
    right = w.right.draws[0].joint[0][np.arange(len(y)), y.numpy()].sum() + w.right.log_globals[0]
    w.close("per_row with known clusters", value * len(y), right, 1e-4 * len(y))


def is_density(w: Walk) -> bool:
    """Whether the log joint is a normalised density of the rows."""
    plain = all(part["scale"] == 1 for part in w.plan["sites"] + w.plan["latents"])
    return plain and not {"rows", "cluster"} & set(w.plan["factors"])


def compare(w: Walk) -> None:
    x = w.copies[:200]
    table = pc.compare({"a": w.story}, x, y=np.arange(len(x)) % 2, particles=4)
    value = float(table.loc["a", "log_likelihood"])
    if not is_density(w):
        if not np.isnan(value):
            raise Wrong("compare ranks a story whose log joint is no density: it has a factor, or scaled sites")
        return
    if np.isnan(value) and any(site["mask"] in ("off", "rows", "entries") for site in w.plan["sites"]):
        raise Refusal("compare gives no likelihood of a story with masked sites")
    if np.isnan(value):
        raise Wrong("compare gives no likelihood of a story that has one")
    low, high = (np.resize(values, len(x)).mean() for values in (lowest(w), w.right.evidence))
    if not w.is_spread and relative_weights(w).within.max() < HEAVY:
        require_close("log_likelihood of compare", value, (low + high) / 2, (high - low) / 2 + 0.3)


def prototypes(w: Walk) -> None:
    table = pc.prototypes(w.story, w.tensor, n=2)
    rows = table["row"].to_numpy()
    clusters = table.index.get_level_values("cluster").to_numpy()
    w.close("log_joint of prototypes", table["log_joint"], w.right.table[rows, clusters])
    w.close("the best log joint of prototypes", table["log_joint"], w.right.table.max(1)[rows])


CALLS: dict[str, Check] = {
    "log_joint": log_joint,
    "log_joint of one row": one_row,
    "responsibilities": responsibilities,
    "predict": predict,
    "log_joint(particles)": log_joint_of_draws,
    "elbo": elbo,
    "log_likelihood": log_likelihood,
    "objectives": objectives,
    "TraceEnum_ELBO": pyro_elbo,
    "ImportanceWeighted": importance,
    "per_row": per_row,
    "compare": compare,
    "prototypes": prototypes,
}
