"""Takes a random story through every public function and says what became of each call."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

import probclust as pc
from random_stories.composed import RandomStory
from random_stories.outcome import Outcome, Wrong, outcome, require_close, rounding
from random_stories.plan import Plan
from random_stories.truth import Truth, rows, truth

Array = NDArray[np.float64]

REPEATS = 1000
"""Draws for each row behind what is compared with an expectation: copies of the row, each with draws of its own."""
DEVIATIONS = 6.0
"""Standard errors that an average of draws may lie from its expectation: 2e-9 of false alarms where it is normal, and
less than the square of what it is otherwise, as a value counts as wrong only where a second seed says so too."""
HEAVY = 20.0
"""Relative variance of importance weights beyond which their average says nothing."""


class Walk:
    """A story, its rows and the truth of both.

    Args:
        plan: the story's.
        n_rows: rows to score.
    """

    def __init__(self, plan: Plan, n_rows: int = 4) -> None:
        self.plan, self.dtype = plan, plan["dtype"]
        self.story = RandomStory(plan)
        self.rng = np.random.default_rng(plan["seed"] + 1)
        self.x = self.drawn(n_rows)
        self.tensor = torch.as_tensor(self.x, dtype=self.story.dtype)
        self.right = self.truth(self.story)

    def drawn(self, n: int) -> Array:
        """(n, features) rows of the story."""
        v = self.story.arrays()
        clusters = self.rng.choice(self.plan["n_clusters"], n, p=softmax(v["logits"]))
        x, _ = rows(self.plan, v, clusters, self.rng)
        return x.astype(self.dtype).astype(np.float64)

    def truth(self, story: RandomStory) -> Truth:
        """Of the rows."""
        return truth(self.plan, story.arrays(), self.x)

    def close(self, what: str, got: Any, right: Any, slack: Any = 0.0) -> None:
        """Equal but for rounding and `slack`."""
        require_close(what, got, right, rounding(np.asarray(right), self.dtype) + slack)

    def expected(self, what: str, draws: Callable[[int], Any], mean: Array, variance: Array, slack: float) -> None:
        """The average of draws, one for each copy of a row, lies about its expectation, by one seed or another."""
        for seed in (1, 2):
            values = np.asarray(draws(seed), dtype=np.float64).reshape(-1, *mean.shape)
            error = DEVIATIONS * np.sqrt(variance / len(values)) + slack
            try:
                self.close(what, values.mean(0), mean, error)
            except Wrong:
                if seed == 2:
                    raise
            else:
                return

    def copies(self) -> torch.Tensor:
        """(REPEATS * rows, features)."""
        return self.tensor.repeat(REPEATS, 1)


def log_joint(w: Walk) -> None:
    w.close("log_joint", pc.log_joint(w.story, w.tensor), w.right.table)


def one_row(w: Walk) -> None:
    w.close("log_joint of one row", pc.log_joint(w.story, w.tensor[:1]), w.right.table[:1])


def responsibilities(w: Walk) -> None:
    w.close("responsibilities", pc.responsibilities(w.story, w.tensor), softmax(w.right.table, -1))
    labels = pc.predict(w.story, w.tensor).numpy()
    found = np.take_along_axis(w.right.table, labels[:, None], 1)[:, 0]
    w.close("the log joint of predict's clusters", found, w.right.table.max(1))


def bounds(w: Walk) -> None:
    points = w.right.points
    variance = (points.weights * (points.joint - w.right.bounds) ** 2).sum(0)
    w.expected(
        "log_joint(particles=1)",
        lambda seed: pc.log_joint(w.story, w.copies(), particles=1, seed=seed),
        w.right.bounds, variance, 1e-3,
    )  # fmt: skip


def elbo(w: Walk) -> None:
    mean, variance = w.right.elbo
    w.expected("elbo", lambda seed: pc.elbo(w.story, w.copies(), particles=2, seed=seed), mean, variance / 2, 1e-3)


def log_likelihood(w: Walk) -> None:
    total, variance = w.right.evidence
    if variance.max() > HEAVY:
        return

    def weights(seed: int) -> Array:
        bound = pc.log_likelihood(w.story, w.copies(), particles=2, seed=seed).double().numpy()
        return np.exp(bound.reshape(REPEATS, -1) - total)

    w.expected("exp(log_likelihood - log p(x))", weights, np.ones_like(total), variance / 2, 2e-3)


def objectives(w: Walk) -> None:
    n = len(w.x)
    guide, model, x = w.story.guide, w.story.model, w.copies()
    w.story.eval()
    mean, variance = w.right.elbo
    exact = lambda seed: [-seeded(seed, pc.objectives.Exact().loss, model, guide, x) / REPEATS]  # noqa: E731
    w.expected("Exact", exact, mean.sum(keepdims=True), variance.sum(keepdims=True) / REPEATS, 1e-3 * n)
    q = w.right.log_q
    if q is not None:
        each = (np.exp(q) * (w.right.points.joint - q)).sum(-1)
        mean, variance = w.right.moments(each)
        amortised = lambda seed: [-seeded(seed, pc.objectives.Amortised().loss, model, guide, x) / REPEATS]  # noqa: E731
        w.expected("Amortised", amortised, mean.sum(keepdims=True), variance.sum(keepdims=True) / REPEATS, 1e-3 * n)


def seeded(seed: int, run: Callable[..., Any], *args: Any) -> Any:
    """`run` under its own random state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return run(*args)


def reconstruct(w: Walk) -> None:
    best = w.right.table.argmax(1)
    right = w.right.at_mean.means[0][np.arange(len(best)), best]
    w.close("reconstruct", pc.reconstruct(w.story, w.tensor), right)


def embed(w: Walk) -> None:
    best = w.right.table.argmax(1)
    found = [z[0][np.arange(len(best)), best] for z in w.right.at_mean.latents]
    right = np.concatenate(found, 1) if found else w.right.table - w.right.table.mean(1, keepdims=True)
    w.close("embed", pc.embed(w.story, w.tensor), right)


def sample(w: Walk) -> None:
    """Means of features, bounded by tanh, and how often each cluster comes."""
    n, v = 4000, w.story.arrays()
    for cluster in (None, w.plan["n_clusters"] - 1):
        for seed in (1, 2):
            drawn = pc.sample(w.story, n, cluster=cluster, seed=seed)
            weights = softmax(v["logits"])
            labels = w.rng.choice(len(weights), n, p=weights) if cluster is None else np.full(n, cluster)
            x, latents = rows(w.plan, v, labels, w.rng)
            mine = np.concatenate([np.eye(len(weights))[labels], x, *latents], 1)
            theirs = [np.eye(len(weights))[drawn["cluster"].numpy()]]
            theirs += [drawn[s["name"]].double().numpy().reshape(n, -1) for s in w.plan["sites"] + w.plan["latents"]]
            pair = [np.tanh(values / 3) for values in (np.concatenate(theirs, 1), mine)]
            error = DEVIATIONS * np.sqrt((pair[0].var(0) + pair[1].var(0)) / n) + 1e-3
            try:
                require_close(f"mean of sample(cluster={cluster})", pair[0].mean(0), pair[1].mean(0), error)
                break
            except Wrong:
                if seed == 2:
                    raise


def same_after(what: str, make: Callable[[Walk, Path], Any]) -> Callable[[Walk], None]:
    def check(w: Walk) -> None:
        with tempfile.TemporaryDirectory() as folder:
            again = make(w, Path(folder))
        w.close(f"log_joint {what}", pc.log_joint(again, w.tensor), w.right.table)

    return check


def stored(w: Walk, folder: Path) -> Any:
    pc.save(w.story, folder / "story.safetensors")
    return pc.load(folder / "story.safetensors", RandomStory)


def fit(w: Walk) -> None:
    """One epoch; then the log joint is that of the new numbers, and the bound has not got worse by much."""
    story = copy.deepcopy(w.story)
    x = torch.as_tensor(w.drawn(24), dtype=story.dtype)
    pc.fit(story, x, epochs=1, batch_size=12, progress=False, engine="eager")
    w.close("log_joint after fit", pc.log_joint(story, w.tensor), w.truth(story).table)


def compare(w: Walk) -> None:
    table = pc.compare({"a": w.story}, w.tensor.repeat(50, 1), particles=4)
    value, error = table.loc["a", ["log_likelihood", "se"]]
    low, (high, variance) = w.right.elbo[0].mean(), w.right.evidence
    if variance.max() > HEAVY or np.isnan(value):
        return
    slack = 0.2 + 0 * error
    if not low - slack <= value <= high.mean() + slack:
        raise Wrong(f"compare gives {value:.4g} nats per row, between {low:.4g} and {high.mean():.4g} is right")


def inference_data(w: Walk) -> None:
    data = pc.to_inference_data(w.story, w.tensor, draws=3)
    entropy = data.sample_stats["entropy"].values[0]
    p = softmax(w.right.table, -1)
    right = -(p * log_softmax(w.right.table, -1)).sum(-1)
    w.close("entropy", entropy, np.broadcast_to(right, entropy.shape))
    for site in w.plan["sites"]:
        if site["name"] not in data.posterior_predictive or site["name"] not in data.observed_data:
            raise Wrong(f"to_inference_data lacks site '{site['name']}'")


CALLS: dict[str, Callable[[Walk], None]] = {
    "log_joint": log_joint,
    "one row": one_row,
    "responsibilities": responsibilities,
    "log_joint(particles)": bounds,
    "elbo": elbo,
    "log_likelihood": log_likelihood,
    "objectives": objectives,
    "reconstruct": reconstruct,
    "embed": embed,
    "sample": sample,
    "save and load": same_after("of the loaded story", stored),
    "deepcopy": same_after("of the copy", lambda w, _: copy.deepcopy(w.story)),
    "fit": fit,
    "compare": compare,
}
RARE: dict[str, Callable[[Walk], None]] = {"to_inference_data": inference_data}
"""Calls that take long: one story in ten takes them."""


def walk(plan: Plan) -> Iterator[Outcome]:
    """What became of each call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[Walk] = []
        made = outcome("constructor", lambda: found.append(Walk(plan)))
        yield made
        if made.status != "right":
            return
        calls = CALLS | (RARE if plan["seed"] % 10 == 0 else {})
        for name, check in calls.items():
            yield outcome(name, lambda check=check: check(found[0]))
