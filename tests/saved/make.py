"""Stories and checkpoints as commit 061441d saved them, and the numbers that they gave then.

It was run once, in another folder, with the code of that commit:

    PYTHONPATH=<a checkout of 061441d>:<this one> OMP_NUM_THREADS=1 python -m tests.saved.make

and must not be run with later code: what it wrote is what users have on their disks.
"""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

import probclust as pc
from probclust import dissimilarities, likelihoods, priors, weights
from probclust.models import (
    DAMIC,
    DCN,
    DEC,
    DGG,
    DMAE,
    GMVAE,
    IDEC,
    LTVAE,
    DissimilarityMixture,
    GaussianMixture,
    MixtureOfVAEs,
    VaDE,
)
from tests.saved.lines import write_lines
from tests.saved.numbers import draws, numbers
from tests.saved.recipes import taken
from tests.saved.rows import rows

try:
    from probclust.networks import MLP, Convolutional
except ImportError:  # 061441d, which this was run with
    from probclust.architectures import MLP, Convolutional

HERE = Path(__file__).parent
D, K, L = 6, 3, 2
N_ROWS = 60
N_SHOWN = 6
"""Rows that the numbers are of."""
SMALL: dict[str, Any] = {"latent_dim": L, "hidden": (8,)}
GATED = {**SMALL, "gate_hidden": (8,)}


def mixed() -> likelihoods.Mixed:
    """A likelihood of each kind of column."""
    gaussian, categorical, poisson = likelihoods.Gaussian(2), likelihoods.Categorical(2, 3), likelihoods.Poisson(2)
    return likelihoods.Mixed([([0, 1], gaussian), ([2, 3], categorical), ([4, 5], poisson)])


STORIES: dict[str, tuple[str, Callable[[], pc.Story]]] = {
    # one of each story, as it comes
    "gmm": ("real", lambda: GaussianMixture(D, K)),
    "dissimilarity-mixture": ("real", lambda: DissimilarityMixture(D, K)),
    "vade": ("real", lambda: VaDE(D, K, **SMALL)),
    "mixture-of-vaes": ("real", lambda: MixtureOfVAEs(D, K, **SMALL)),
    "damic": ("real", lambda: DAMIC(D, K, **GATED)),
    "dcn": ("real", lambda: DCN(D, K, **SMALL)),
    "dec": ("real", lambda: DEC(D, K, **SMALL)),
    "idec": ("real", lambda: IDEC(D, K, **SMALL)),
    "dmae": ("real", lambda: DMAE(D, K, **SMALL)),
    "gmvae": ("real", lambda: GMVAE(D, K, w_dim=2, w_hidden=(8,), prior_hidden=(8,), **SMALL)),
    "ltvae": ("real", lambda: LTVAE(D, K, **SMALL)),
    "dgg": ("real", lambda: DGG(D, K, **SMALL)),
    # every part that can be an argument
    "gmm-dirichlet": ("real", lambda: GaussianMixture(D, K, "diag", weights=weights.Dirichlet(K, [1.0, 2.0, 3.0]))),
    "gmm-sticks-gaps": (
        "gaps",
        lambda: GaussianMixture(D, K, missing=True, weights=weights.StickBreaking(K, 2.0), global_guide="normal"),
    ),
    "gmm-fixed": ("real", lambda: GaussianMixture(D, K, "spherical", weights=weights.Fixed(K, [0.5, 0.3, 0.2]))),
    "euclidean": ("real", lambda: DissimilarityMixture(D, K, dissimilarities.Euclidean(D, K), weights="dirichlet")),
    "manhattan": ("real", lambda: DissimilarityMixture(D, K, dissimilarities.Manhattan(D, K, learn_alpha="cluster"))),
    "chebyshev": ("real", lambda: DissimilarityMixture(D, K, dissimilarities.Chebyshev(D, K, 2.0, learn_alpha=False))),
    "minkowski": ("real", lambda: DissimilarityMixture(D, K, dissimilarities.Minkowski(D, K, 3.0))),
    "mahalanobis": ("real", lambda: DissimilarityMixture(D, K, dissimilarities.Mahalanobis(D, K))),
    "cosine": ("directions", lambda: DissimilarityMixture(D, K, dissimilarities.Cosine(D, K))),
    "squared-euclidean": ("real", lambda: DMAE(D, K, None, dissimilarity=dissimilarities.SquaredEuclidean(D, K))),
    "vade-flow-gaps": (
        "gaps",
        lambda: VaDE(D, K, missing=True, prior=priors.Flow(L, K, 2, (8,)), weights="dirichlet", **SMALL),
    ),
    "vade-tree": ("real", lambda: VaDE(D, K, prior=priors.LatentTreePrior(L, K, 2), **SMALL)),
    "vade-low-rank": (
        "real",
        lambda: VaDE(D, K, likelihood=likelihoods.Laplace(D, "row"), prior=priors.LowRankGaussian(L, K), **SMALL),
    ),
    "vade-student": (
        "real",
        lambda: VaDE(
            D,
            K,
            likelihood=likelihoods.StudentT(D, "feature", degrees="learned"),
            prior=priors.StudentT(L, K),
            weights=weights.Learned(K),
            **SMALL,
        ),
    ),
    "vade-cosine": (
        "unit",
        lambda: VaDE(D, K, 3, (8,), likelihoods.ContinuousBernoulli(D), dissimilarities.Cosine(3, K)),
    ),
    "vade-convolutions": (
        "digits",
        lambda: VaDE(64, K, L, likelihood=likelihoods.Bernoulli(64), network=Convolutional(8, 8, (2, 3), 4)),
    ),
    "vade-mixed": ("mixed", lambda: VaDE(D, K, likelihood=mixed(), **SMALL)),
    "vade-mixed-gaps": ("mixed", lambda: VaDE(D, K, likelihood=mixed(), missing=True, **SMALL)),
    "vade-counts": (
        "counts",
        lambda: VaDE(D, K, likelihood=likelihoods.NegativeBinomial(D, "total", "shared"), **SMALL),
    ),
    "dgg-counts": ("counts", lambda: DGG(D, K, likelihood=likelihoods.ZeroInflatedNegativeBinomial(D), **SMALL)),
    "dcn-counts": ("counts", lambda: DCN(D, K, likelihood=likelihoods.Poisson(D), **SMALL)),
    "mixture-of-vaes-words": ("counts", lambda: MixtureOfVAEs(D, K, likelihood=likelihoods.Multinomial(D), **SMALL)),
    "mixture-of-vaes-batch-norm": (
        "positive",
        lambda: MixtureOfVAEs(
            D, K, L, likelihood=likelihoods.LogNormal(D), prior=priors.StandardNormal(L, K), network=MLP((8,), "batch")
        ),
    ),
    "mixture-of-vaes-diagonal": (
        "real",
        lambda: MixtureOfVAEs(
            D,
            K,
            prior=priors.DiagonalGaussian(L, K),
            weights=weights.StickBreaking(K),
            global_guide="conjugate",
            **SMALL,
        ),
    ),
    "damic-without-gate": ("real", lambda: DAMIC(D, K, gate=False, **SMALL)),
}

CHECKPOINTS: dict[str, tuple[int, Any]] = {
    "vade": (6, None),
    "mixture-of-vaes": (3, [pc.SVI(epochs=4, learning_rate=1e-3)]),  # its own start has networks of 10 MB
    "vade-flow-gaps": (4, None),
    "ltvae": (4, None),
    "damic": (8, None),
    "dcn": (6, None),
    "idec": (6, None),
    "gmm": (2, None),
    "dmae": (4, None),
}
"""Stories by name whose fits were stopped after so many epochs of their steps, and steps if not their own."""


def fit(story: pc.Story, x: Any, steps: Any = None, **settings: Any) -> pc.FitRecord:
    """Two epochs of every step of the story's recipe, or `steps`, from seed 0."""
    recipe = steps or dict.fromkeys(taken(story.recipe, ("pretrain_epochs", "fit_epochs", "epochs")), 2)
    if isinstance(story, DAMIC):
        recipe |= {"start_hidden": (8,), "start_dim": 2}
    if not (steps or isinstance(story, DEC)):  # whose clustering is no SVI
        settings = {"epochs": 2} | settings
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", pc.FitWarning)  # two epochs may leave a cluster empty
        return pc.fit(
            story, x, recipe=recipe, seed=0, device="cpu", engine="eager", batch_size=16, progress=False, **settings
        )


def stop_after(epochs: int, inner: Callable[..., Any]) -> Callable[..., Any]:
    """A `Trainer.epoch` that is interrupted, as by Ctrl-C, at the end of this many."""
    done = 0

    def epoch(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal done
        facts = inner(self, *args, **kwargs)
        done += 1
        if done >= epochs:
            raise KeyboardInterrupt
        return facts

    return epoch


def main() -> None:
    """Write the stories, the checkpoints and the numbers."""
    from probclust import fit_loop
    from probclust.training import Trainer

    torch.set_num_threads(1)
    here = Path(pc.__file__).parent
    commit = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert commit.startswith("061441d"), commit
    found: dict[str, Any] = {"commit": commit, "torch": torch.__version__, "draws": draws(), "stories": {}}
    for name, (kind, build) in STORIES.items():
        torch.manual_seed(0)
        story, x = build(), rows(kind, N_ROWS)
        fit(story, x)
        pc.save(story, HERE / f"{name}.safetensors", {"bound": 1.5})
        found["stories"][name] = {"kind": kind} | numbers(story, x[:N_SHOWN])
    epoch, fit_loop.SNAPSHOT_SECONDS = Trainer.epoch, 0.0  # an interrupted epoch goes back to its own begin
    for name, (epochs, steps) in CHECKPOINTS.items():
        kind, build = STORIES[name]
        torch.manual_seed(0)
        story, path = build(), HERE / f"{name}.checkpoint"
        path.unlink(missing_ok=True)
        Trainer.epoch = stop_after(epochs, epoch)
        try:
            fit(story, rows(kind, N_ROWS), steps, checkpoint=path)
        except KeyboardInterrupt:
            continue
        finally:
            Trainer.epoch = epoch
        raise SystemExit(f"the fit of {name} was over before it was stopped")
    write_lines(HERE / "numbers.json", found)


if __name__ == "__main__":
    main()
