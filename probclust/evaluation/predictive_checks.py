"""Posterior predictive checks by cluster: are the rows that a story generates like the real ones?"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist
from torch import Tensor

from probclust.arguments import checked_seed, positive
from probclust.data.stored import resident
from probclust.generate.sampling import sample
from probclust.locking import alone
from probclust.story.columns import rows_of
from probclust.story.rows import admit, in_order
from probclust.story.scoring import draws_latents, log_joint
from probclust.story.story import Story

Array = NDArray[np.float64]

WHOLE = "all"
"""Stands for all clusters in the index of the table, and for all features."""
MIN_ROWS = 5
"""A cluster with fewer real rows is left out."""
MAX_ENERGY_ROWS = 500
"""Rows of either side whose distances are compared; more are drawn from."""
MAX_GENERATED = 10_000


def predictive_check(
    story: Story, x: Any, *, particles: int = 20, permutations: int = 199, seed: int = 0
) -> pd.DataFrame:
    """Compare real rows with generated ones, cluster by cluster and feature by feature, by two-sample tests.

    Each real row goes to a cluster drawn from p(cluster | x), and is compared with rows that the story draws from that
    cluster. (Rows given to their most probable cluster would lack the tails that cross over to the neighbours, which
    generated rows have.) If x comes from the story, the rows of each cluster are draws of it, and every p-value is
    uniform; a small one names the cluster and the feature that the story gets wrong.

    Single features are compared by the Kolmogorov-Smirnov test, its ties (counts, binary columns) broken at random;
    all features together by the energy distance of the columns scaled to unit variance, under permutations: it sees
    wrong correlations too.

    Parameters fitted to the same rows make p-values too large; pass rows that were kept out of the fit. Some hundred
    p-values hold small ones by chance: `p_adjusted` bounds the share of false alarms below it.

    Args:
        story: any story that can be sampled.
        x: (rows, n_features); columns of a pandas frame name the features. NaN where a story takes it: such entries
            are left out of the tests.
        particles: draws of local latents behind p(cluster | x); with a poor guide, more of them come closer.
        permutations: of the test by energy distance; its p-values are multiples of 1 / (permutations + 1).
        seed: of everything random; the caller's random state is left alone.

    Returns:
        pandas.DataFrame indexed by cluster (0..K-1, then "all" for the whole story) and feature (then "all" together),
        with columns

        - test: "ks" or "energy";
        - statistic: the KS statistic, between 0 and 1, or the energy distance, at least 0;
        - p_value: of the hypothesis that real and generated rows have one distribution;
        - p_adjusted: over the whole table, by Benjamini and Hochberg;
        - real_mean, generated_mean, real_std, generated_std: of the feature;
        - n_real, n_generated: rows.

        Clusters with fewer than 5 real rows are left out.

    Raises:
        ValueError: the story conditions on x and cannot be sampled, or `x` has fewer than 5 rows.

    References:
        A. Gelman, X.-L. Meng, H. Stern, "Posterior predictive assessment of model fitness via realized discrepancies",
        1996; G. Székely, M. Rizzo, "Testing for equal distributions in high dimension", 2004; Y. Benjamini,
        Y. Hochberg, "Controlling the false discovery rate", 1995.

    Examples:
        >>> import torch, probclust as pc
        >>> story = pc.models.GaussianMixture(2, n_clusters=1)
        >>> table = predictive_check(story, torch.randn(30, 2) + 9, seed=0)
        >>> table.loc[0, "test"].to_dict()
        {0: 'ks', 1: 'ks', 'all': 'energy'}
        >>> bool((table["p_adjusted"] < 0.05).all())
        True
    """
    given = in_order(story, x)
    rows = resident(admit(story, given))
    positive("particles", particles)
    positive("permutations", permutations)
    features = list(given.names or range(story.n_features))
    rng = np.random.default_rng(checked_seed(seed))
    if len(rows) < MIN_ROWS:
        raise ValueError(f"x must have at least {MIN_ROWS} rows to be tested, got {len(rows)}")
    labels = _drawn_clusters(story, rows, particles, rng)
    real = rows.double().numpy()
    entries: dict[tuple[Any, Any], dict[str, Any]] = {}
    for cluster in [*range(story.n_clusters), WHOLE]:
        mine = real if cluster == WHOLE else real[labels == cluster]
        if len(mine) < MIN_ROWS:
            continue
        drawn = sample(
            story,
            min(5 * len(mine) + 1, MAX_GENERATED),  # unequal sizes make KS p-values finer
            cluster=None if isinstance(cluster, str) else cluster,
            seed=int(rng.integers(2**31)),
        )
        generated = rows_of(story, drawn).double().numpy()
        for column, feature in enumerate(features):
            entries[cluster, feature] = _feature(mine[:, column], generated[:, column], rng)
        entries[cluster, WHOLE] = _together(mine, generated, permutations, rng)
    table = pd.DataFrame.from_dict(entries, orient="index")
    table.index = pd.MultiIndex.from_tuples(entries, names=["cluster", "feature"])
    tested = table["p_value"].notna()
    table.insert(3, "p_adjusted", np.nan)
    table.loc[tested, "p_adjusted"] = stats.false_discovery_control(table.loc[tested, "p_value"])
    return table


def _drawn_clusters(story: Story, rows: Tensor, particles: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(rows,) draws from p(cluster | x), local latents summed out by importance sampling from the guide."""
    table = torch.full((len(rows), story.n_clusters), -torch.inf, dtype=story.dtype)
    for _ in range(particles if draws_latents(story) else 1):
        table = table.logaddexp(log_joint(story, rows, particles=1, seed=int(rng.integers(2**31))))
    shares = table.double().softmax(1).cumsum(1).numpy()
    labels = (rng.random((len(rows), 1)) * shares[:, -1:] >= shares).sum(1)
    return labels.astype(np.int64)


def _feature(real: Array, generated: Array, rng: np.random.Generator) -> dict[str, Any]:
    """The entry of one feature of one cluster."""
    real = real[~np.isnan(real)]
    n, m = len(real), len(generated)
    if n < MIN_ROWS:
        statistic = p_value = np.nan
    else:
        order = np.lexsort((rng.random(n + m), np.concatenate([real, generated])))  # equal values in random order
        rank = np.empty(n + m)
        rank[order] = np.arange(n + m)
        with alone, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it falls back to the asymptotic distribution
            statistic, p_value = stats.ks_2samp(rank[:n], rank[n:])
    return {"test": "ks", "statistic": float(statistic), "p_value": float(p_value)} | {
        "real_mean": real.mean() if n else np.nan,
        "generated_mean": generated.mean(),
        "real_std": real.std() if n else np.nan,
        "generated_std": generated.std(),
        "n_real": n,
        "n_generated": m,
    }


def _together(real: Array, generated: Array, permutations: int, rng: np.random.Generator) -> dict[str, Any]:
    """The entry of all features of one cluster."""
    real = real[~np.isnan(real).any(1)]
    sizes = {"n_real": len(real), "n_generated": len(generated)}
    if len(real) < MIN_ROWS:
        return {"test": "energy", "statistic": np.nan, "p_value": np.nan} | sizes
    real, generated = (rng.permutation(rows)[:MAX_ENERGY_ROWS] for rows in (real, generated))
    statistic, p_value = energy_test(real, generated, permutations, rng)
    return {"test": "energy", "statistic": statistic, "p_value": p_value} | sizes


def energy_test(one: Array, two: Array, permutations: int, rng: np.random.Generator) -> tuple[float, float]:
    """The energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| of two samples, and its p-value under permutations.

    Columns are scaled to unit variance in the two together; constant ones say nothing.

    Args:
        one: (n, features).
        two: (m, features).
        permutations: of the rows.
        rng: of the permutations.
    """
    n, m = len(one), len(two)
    pooled = np.concatenate([one, two])
    scale = pooled.std(0)
    pooled = pooled / np.where(scale > 0, scale, 1)
    distances = cdist(pooled, pooled)
    weights = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])
    all_weights = np.stack([weights, *(rng.permutation(weights) for _ in range(permutations))])
    energies = -((all_weights @ distances) * all_weights).sum(1)
    at_least = (energies[1:] >= energies[0] - 1e-12).sum()
    return float(max(energies[0], 0.0)), float((1 + at_least) / (1 + permutations))
