"""Checks of what is drawn or decoded: samples, reconstructions, codes, modes, paths, imputations."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import entr, logsumexp, softmax

import probclust as pc
from random_stories.ancestral import drawn_rows
from random_stories.families import FAMILIES
from random_stories.latents import KINDS
from random_stories.outcome import Wrong, require_between, require_close
from random_stories.plan import scales
from random_stories.truth import location
from random_stories.walk import DEVIATIONS, Array, Check, Walk, twice

N = 2000


def squashed(values: Array) -> Array:
    """Bounded, so that averages of heavy tails have small errors."""
    return np.tanh(values / 3)


def by_site(w: Walk, drawn: dict[str, torch.Tensor]) -> Array:
    """(n, K + features + latents) what was drawn, the cluster one-hot, as numbers side by side."""
    n = len(drawn["cluster"])
    for site in w.plan["sites"] + w.plan["latents"]:
        if site["name"] not in drawn:
            raise Wrong(f"sample lacks site '{site['name']}', has {sorted(drawn)}")
    parts = [drawn[s["name"]].double().numpy().reshape(n, -1) for s in w.plan["sites"] + w.plan["latents"]]
    return np.concatenate([np.eye(w.plan["n_clusters"])[drawn["cluster"].numpy()], *parts], 1)


def sample(w: Walk) -> None:
    if w.is_spread:  # one draw of the globals for all rows
        by_site(w, pc.sample(w.story, 20, seed=1))
        return
    for cluster in (None, w.plan["n_clusters"] - 1, "each"):

        def check(seed: int, cluster: int | str | None = cluster) -> None:
            labels = w.clusters(N) if cluster in (None, "each") else np.full(N, cluster)
            wanted = labels if cluster == "each" else cluster
            drawn = pc.sample(w.story, N, cluster=wanted, seed=seed)
            if cluster is not None and not np.array_equal(drawn["cluster"].numpy(), labels):
                raise Wrong(f"sample(cluster={cluster}) drew from other clusters")
            theirs = squashed(by_site(w, drawn))
            x, latents = drawn_rows(w.plan, w.numbers, labels, w.rng)
            mine = squashed(np.concatenate([np.eye(w.plan["n_clusters"])[labels], x, *latents], 1))
            error = DEVIATIONS * np.sqrt((theirs.var(0) + mine.var(0)) / N) + 1e-3
            require_close(f"mean of sample(cluster={cluster})", theirs.mean(0), mine.mean(0), error)

        twice(check)


def same_seed(w: Walk) -> None:
    one, other = (by_site(w, pc.sample(w.story, 5, seed=3)) for _ in range(2))
    require_close("sample under one seed", one, other, 0.0)
    state = torch.get_rng_state()
    pc.sample(w.story, 5, seed=3)
    if not torch.equal(state, torch.get_rng_state()):
        raise Wrong("sample(seed=3) moved the caller's random state")


def temperature(w: Walk) -> None:
    """Near zero, draws of features that have a density bounded and smooth come near the modes."""
    families = {site["family"] for site in w.plan["sites"]}
    drawn = pc.sample(w.story, 200, cluster=0, seed=0, temperature=1e-8)
    if families <= {"normal", "laplace", "library gaussian", "multivariate normal"} and not w.is_spread:
        modes = at_modes(w)[0]
        x = np.concatenate([drawn[s["name"]].double().numpy().reshape(200, -1) for s in w.plan["sites"]], 1)
        kinds = {latent["kind"] for latent in w.plan["latents"]}
        if kinds <= {"normal", "delta", "flow", "log-normal"}:
            require_close("sample(temperature=1e-8)", x, np.broadcast_to(modes, x.shape), 2e-2)


def best(w: Walk) -> tuple[np.ndarray, np.ndarray]:
    """Index of each row's most probable cluster."""
    labels = w.right.table.argmax(1)
    return np.arange(len(labels)), labels


def is_tied(w: Walk) -> bool:
    """Whether two clusters are about as probable for a row, so that rounding decides."""
    table = np.sort(w.right.table, 1)
    return table.shape[1] > 1 and bool((table[:, -1] - table[:, -2] < 1e-3).any())


def reconstruct(w: Walk) -> None:
    if not is_tied(w):
        w.close("reconstruct", pc.reconstruct(w.story, w.tensor), w.right.at_mean.means[0][best(w)])


def embed(w: Walk) -> None:
    found = [z[0][best(w)] for z in w.right.at_mean.latents]
    right = np.concatenate(found, 1) if found else w.right.table - w.right.table.mean(1, keepdims=True)
    got = pc.embed(w.story, w.tensor)
    if np.isnan(got.numpy()).any():
        raise Wrong("embed gives NaN")
    if not is_tied(w) and np.isfinite(right).all():
        w.close("embed", got, right)


def at_modes(w: Walk) -> Array:
    """(K, features) the mean of x, latents at the mode of their prior."""
    v, k = w.numbers, w.plan["n_clusters"]
    latents: list[Array] = []
    for i, latent in enumerate(w.plan["latents"]):
        kind = KINDS[latent["kind"]]
        loc = v[f"latent{i}_loc"]
        if latent["parent"]:
            before = KINDS[w.plan["latents"][i - 1]["kind"]]
            loc = loc + 0.5 * before.feature(latents[-1]).mean(-1)[:, None]
        latents.append(kind.mode(loc, np.broadcast_to(v[f"latent{i}_scale"], loc.shape)))
    parts = []
    for i, site in enumerate(w.plan["sites"]):
        eta, scale = location(w.plan, v, i, [z[None, None] for z in latents], 1)
        parts.append(FAMILIES[site["family"]].centre(eta[0, 0], scale[0, 0]))
    return np.concatenate(parts, 1).reshape(k, -1)


def modes(w: Walk) -> None:
    w.close("modes", pc.modes(w.story), at_modes(w))


def interpolate(w: Walk) -> None:
    right = at_modes(w)[[0, -1]]
    w.close("ends of interpolate", pc.interpolate(w.story, 0, w.plan["n_clusters"] - 1, n=3)[[0, -1]], right)
    if not w.plan["missing"]:
        path = pc.interpolate(w.story, w.tensor[0], 0, n=3)
        if not is_tied(w):
            w.close("the start of interpolate", path[0], w.right.at_mean.means[0][best(w)][0])


def impute(w: Walk) -> None:
    """Known entries stay; what is known is as probable as it is, and so are the clusters given it."""
    x = w.tensor.clone()
    if not w.plan["missing"]:  # all is known but for an entry
        x[0, 0] = torch.nan
    found = pc.impute(w.story, x, draws=20, particles=20)
    known = ~x.isnan().numpy()
    if np.isnan(found.x.numpy()).any():
        raise Wrong("impute leaves NaN")
    if not np.array_equal(np.where(known, found.x.numpy(), 0), np.broadcast_to(x.nan_to_num().numpy(), found.x.shape)):
        raise Wrong("impute changes known entries")
    parts = any(site["mask"] == "rows" for site in w.plan["sites"])  # the story drops what it sees of a row in part
    if w.is_spread or (w.plan["missing"] and parts):
        return
    if all(p.weights.shape[0] == 1 for p in w.right.draws):
        right = w.right.table[0 if w.plan["missing"] else 1 :]
        own = len(w.x) - len(right)
        w.close("responsibilities of impute", found.responsibilities[own:], softmax(right, -1))
        w.close("log_likelihood of impute", found.log_likelihood[own:], logsumexp(right, -1))
    elif all(latent["scale"] == 1 for latent in w.plan["latents"]) and scales(w.plan)[0] == 1:
        imputed_likelihood(w)


def imputed_likelihood(w: Walk) -> None:
    """The weights of impute's particles are those of log p(x), on average."""
    copies = w.tensor.repeat(50, 1)

    def weights(seed: int) -> Array:
        bound = pc.impute(w.story, copies, draws=1, particles=8, seed=seed).log_likelihood.double().numpy()
        return np.exp(bound.reshape(50, -1) - w.right.evidence)

    def check(seed: int) -> None:
        values = weights(seed)
        error = DEVIATIONS * values.std(0) / np.sqrt(len(values)) + 2e-2
        heavy = error > 0.5  # a few draws have all the weight
        require_between("weight of impute's particles", np.where(heavy, 1, values.mean(0)), 1 - error, 1 + error)

    twice(check)


def sample_posterior(w: Walk) -> None:
    """How often each cluster comes: on average as the softmax of the draws' log joint has it."""
    expected = None if w.by_cluster else w.right.expectation(lambda p: softmax(p.joint, -1)[..., 0])
    k = w.plan["n_clusters"]

    def check(seed: int) -> None:
        drawn = pc.sample_posterior(w.story, w.copies, draws=1, seed=seed)
        labels = drawn["cluster"].numpy().reshape(w.repeats, -1)
        for latent in w.plan["latents"]:
            shape = (1, len(w.copies)) + (() if latent["bare"] else (latent["width"],))
            if tuple(drawn[latent["name"]].shape) != shape:
                raise Wrong(f"'{latent['name']}' of sample_posterior has shape {tuple(drawn[latent['name']].shape)}")
        if expected is not None and not w.is_spread and k > 1:
            p = expected.mean.clip(0, 1)
            error = DEVIATIONS * np.sqrt(p * (1 - p) / w.repeats) + 2e-2
            require_between("share of cluster 0 in sample_posterior", (labels == 0).mean(0), p - error, p + error)

    twice(check)


def predictive_check(w: Walk) -> None:
    x = torch.as_tensor(w.rows(40), dtype=w.story.dtype)
    table = pc.predictive_check(w.story, x, particles=3, permutations=19)
    if not w.is_spread and not w.plan["factors"] and (table.loc["all", "p_value"] < 1e-9).any():
        raise Wrong(f"predictive_check finds rows of the story unlike the story: {table['p_value'].min()}")


def inference_data(w: Walk) -> None:
    data = pc.to_inference_data(w.story, w.tensor, draws=3)
    if not w.is_spread:
        right = entr(softmax(w.right.table, -1)).sum(-1)
        entropy = data.sample_stats["entropy"].values[0]
        w.close("entropy", entropy, np.broadcast_to(right, entropy.shape))
    for latent in w.plan["latents"] + w.plan["globals"]:
        if latent["name"] not in data.posterior:
            raise Wrong(f"the posterior of to_inference_data lacks '{latent['name']}'")
    for site in w.plan["sites"]:
        if site["name"] not in data.posterior_predictive or site["name"] not in data.observed_data:
            raise Wrong(f"to_inference_data lacks site '{site['name']}'")


CALLS: dict[str, Check] = {
    "sample": sample,
    "sample(seed)": same_seed,
    "sample(temperature)": temperature,
    "reconstruct": reconstruct,
    "embed": embed,
    "modes": modes,
    "interpolate": interpolate,
    "impute": impute,
    "sample_posterior": sample_posterior,
    "predictive_check": predictive_check,
    "to_inference_data": inference_data,
}
