"""Weights after two epochs from seed 0, by digest: a change that should not change them is held to the record.

    python -m tests.saved.two_epochs --check            # all cases; says which differ
    python -m tests.saved.two_epochs --check VaDE flow  # those whose name holds both words

The record, two_epochs.json beside this file, is that of commit 061441d, written by `--write` in another folder with
PYTHONPATH=<its checkout>:<this one>; but for the cases that `SINCE` names, whose weights a later commit changed on
purpose: `--write --since` with the code of 743c1e9 wrote those. A case may be added with today's code where all others
are equal. Numbers depend on the processor and the libraries, so that the record holds the digest of plain trainings
without probclust too, as `fingerprint`: where that differs, nothing can be compared.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
import torch
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture as SklearnMixture
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

import probclust as pc
from probclust import models
from probclust.likelihoods import Categorical, Mixed, StudentT
from probclust.weights import Dirichlet
from tests.saved.lines import write_lines
from tests.saved.recipes import taken
from tests.saved.rows import LENGTHS, rows

try:
    from probclust.networks import MLP, Convolutional
    from probclust.starts import RotateAndShift
except ImportError:  # 061441d, whose record this is
    from probclust.architectures import MLP, Convolutional
    from probclust.augmentation import RotateAndShift

RECORD = Path(__file__).with_suffix(".json")
SMALL = {"latent_dim": 3, "hidden": (16, 8)}
EPOCHS = ("pretrain_epochs", "fit_epochs", "epochs")
COUNTS = "b1f043a learns the totals of counts from all rows at once, 32570a3 lets encoders see counts without depth"
EM = "f938033 runs EM in float64, ddbd8d3 keeps the better of an SVI step's start and end"
KEPT = "ddbd8d3 keeps the better of an SVI step's start and end"
SINCE = {
    **{f"{name} counts": COUNTS for name in ("VaDE", "MixtureOfVAEs", "DAMIC", "DCN", "GMVAE", "LTVAE", "DGG")},
    "VaDE mixed": "b1f043a and 6dead41 sum the log probabilities of counts in another order",
    **{
        f"GaussianMixture {name}": EM for name in ("full", "diag", "spherical", "staged", "gaps", "sticks", "dirichlet")
    },
    **{
        f"DissimilarityMixture {name}": KEPT
        for name in ("squared_euclidean", "manhattan", "mahalanobis", "k-medoids staged")
    },
}
"""Why the weights of a case are not those of 061441d: by the fault that was mended since. Its record is of 743c1e9."""
SLOW = ("embedding", "images")
"""Words of cases that take seconds; the tests run those of a few stories."""


@dataclass(frozen=True)
class Case:
    """A story of a class, and how it is fitted to rows of a kind."""

    story: type
    kind: str
    arguments: Callable[[int], Mapping[str, Any]]
    recipe: Mapping[str, Any]
    fit: Mapping[str, Any] = field(default_factory=dict)
    n: int = 300

    def run(self) -> pc.Story:
        """The story after the fit."""
        x = rows(self.kind, self.n)
        recipe = dict.fromkeys(taken(self.story.recipe, EPOCHS), 2) | dict(self.recipe)
        fit = {"seed": 0, "device": "cpu", "engine": "eager", "progress": False} | self.fit
        if self.story not in (models.DEC, models.IDEC):
            fit = {"epochs": 2} | fit
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with threadpool_limits(1), torch.random.fork_rng(), warnings.catch_warnings():
                warnings.simplefilter("ignore", pc.FitWarning)  # two epochs may leave a cluster empty
                torch.manual_seed(0)
                story = self.story(x.shape[1], 3, **self.arguments(x.shape[1]))
                pc.fit(story, x, recipe=recipe, **fit)
        finally:
            torch.set_num_threads(before)
        return story


def digests(story: pc.Story) -> dict[str, str]:
    """Digest of every tensor of a story's state, by name."""
    return {name: digest(value) for name, value in story.state_dict().items()}


def digest(tensor: Tensor) -> str:
    """Of dtype, shape and bytes."""
    found = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


CASES: dict[str, Case] = {}


def case(
    story: type,
    what: str,
    kind: str = "real",
    recipe: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | Callable[[int], Mapping[str, Any]] | None = None,
    n: int = 300,
    **fit: Any,
) -> None:
    """Add a case; `arguments` of the story beside the small sizes, or a function of n_features that gives them."""
    taken = inspect.signature(story.__init__).parameters
    small = {name: value for name, value in SMALL.items() if name in taken}
    if story is models.DAMIC:
        small |= {"gate_hidden": (16,)}
    if story is models.GMVAE:
        small |= {"w_dim": 2, "w_hidden": (8,), "prior_hidden": (8,)}
    more = arguments if callable(arguments) else lambda _: arguments or {}
    CASES[f"{story.__name__} {what}"] = Case(story, kind, lambda d: small | more(d), recipe or {}, fit, n)


DEEP = (
    models.VaDE,
    models.MixtureOfVAEs,
    models.DAMIC,
    models.DCN,
    models.DEC,
    models.IDEC,
    models.DMAE,
    models.GMVAE,
    models.LTVAE,
    models.DGG,
)
for story in DEEP:
    quick = {"start_hidden": (16, 8), "start_dim": 3} if story is models.DAMIC else {}
    case(story, "neighbours", recipe=quick)
    case(story, "neighbours staged", recipe=quick, engine="staged")
    case(story, "embedding", recipe={"pretraining": "embedding"} | quick, n=100)
    case(story, "images", "digits", {"image_shape": (8, 8)} | quick, n=100)
    case(story, "recordings", "ordered", {"lengths": LENGTHS} | quick)
    case(story, "documents", "digits", {"documents": True} | quick, n=100)
    if story is not models.MixtureOfVAEs:
        case(story, "autoencoder", recipe={"pretraining": "autoencoder"} | quick)
    if story in (models.DAMIC, models.DCN, models.DMAE, models.GMVAE):
        case(story, "no pretraining", recipe={"pretraining": "none"} | quick)
    if story not in (models.DEC, models.IDEC, models.DMAE):
        case(story, "counts", "counts", quick, {"likelihood": "negative-binomial"})
        case(story, "binary", "binary", quick, {"likelihood": "bernoulli"})
    if story in (models.VaDE, models.MixtureOfVAEs, models.LTVAE, models.DGG):
        case(story, "gaps", "gaps", quick, {"missing": True})
        case(story, "sticks", "real", quick, {"weights": "stick-breaking"})
        case(story, "layer norm", "real", quick, {"network": MLP((16, 8), "layer")})
        case(story, "convolutions", "digits", quick, {"network": Convolutional(8, 8, (2, 4), 8)})

case(models.VaDE, "flow", arguments={"prior": "flow"})
case(models.VaDE, "cosine", arguments={"prior": "cosine"})
case(models.VaDE, "mahalanobis", arguments={"prior": "mahalanobis"})
case(models.VaDE, "student_t low rank", arguments={"prior": "low_rank", "likelihood": "student-t"})
case(models.VaDE, "mixed", "mixed", arguments=lambda _: {
    "likelihood": Mixed([([0, 1], StudentT(2)), ([2, 3], Categorical(2, 3)), ([4, 5], "poisson")])
})  # fmt: skip
case(models.VaDE, "dirichlet", arguments={"weights": "dirichlet"})
case(models.VaDE, "dirichlet of normal guide", arguments={"weights": "dirichlet", "global_guide": "normal"})
case(models.VaDE, "known rows", y=np.where(np.arange(300) % 5, -1, np.arange(300) // 5 % 3))
case(models.VaDE, "pairs", pairs=pc.Pairs([(0, 1), (2, 3)], [(4, 5), (6, 7)]))
case(models.VaDE, "two restarts", n_init=2)
case(models.VaDE, "truncated", objective="truncated")
case(models.MixtureOfVAEs, "flow", arguments={"prior": "flow"})
case(models.MixtureOfVAEs, "from VaDE", recipe={"pretraining": "vade"})
case(models.MixtureOfVAEs, "hard", objective="hard")
case(models.MixtureOfVAEs, "importance staged", objective="importance", engine="staged")
case(models.DAMIC, "without gate", recipe=quick, arguments={"gate": False})
case(models.DAMIC, "rounds and layers", arguments={}, recipe={
    "pretraining": "autoencoder", "rounds": 2, "layerwise_epochs": 2, "start_hidden": (16, 8), "start_dim": 3
})  # fmt: skip
case(models.DEC, "layers", recipe={"pretraining": "autoencoder", "layerwise_epochs": 2, "fit_epochs": 0})
case(models.DMAE, "fourier", recipe={"pretraining": "fourier"})
case(models.DMAE, "augmented", "digits", recipe={"augment": RotateAndShift((8, 8))})
case(models.DMAE, "flat", arguments={"latent_dim": None})
case(
    models.DMAE,
    "manhattan autoencoder",
    recipe={"pretraining": "autoencoder"},
    arguments={"dissimilarity": "manhattan"},
)
case(models.GMVAE, "minimum information", recipe={"minimum_information": 0.1})

for covariance in ("full", "diag", "spherical"):
    case(models.GaussianMixture, covariance, arguments={"covariance_type": covariance})
case(models.GaussianMixture, "staged", engine="staged")
case(models.GaussianMixture, "gaps", "gaps", arguments={"missing": True})
case(models.GaussianMixture, "sticks", arguments={"weights": "stick-breaking"})
case(models.GaussianMixture, "dirichlet", arguments=lambda _: {"weights": Dirichlet(3, 2.0), "global_guide": "map"})

for name in ("squared_euclidean", "euclidean", "manhattan", "chebyshev", "mahalanobis"):
    case(models.DissimilarityMixture, name, arguments={"dissimilarity": name})
case(models.DissimilarityMixture, "cosine", "directions", arguments={"dissimilarity": "cosine"})
case(models.DissimilarityMixture, "minkowski", arguments=lambda d: {
    "dissimilarity": pc.dissimilarities.Minkowski(d, 3, 3.0)
})  # fmt: skip
case(models.DissimilarityMixture, "k-medoids staged", recipe={"start": "k-medoids"}, engine="staged")
case(models.DissimilarityMixture, "sticks", arguments={"weights": "stick-breaking"})


def fingerprint() -> str:
    """Digest of plain trainings of the same kinds without probclust, as far as the libraries and the processor go."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), torch.random.fork_rng():
            torch.manual_seed(0)
            x = torch.as_tensor(rows("real"), dtype=torch.float32)
            network = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
            centres = nn.Parameter(torch.randn(3, 3))
            optimizer = torch.optim.Adam([*network.parameters(), centres], 1e-2)
            for _ in range(20):
                z = network(x[torch.randperm(300)[:64]])
                z = z + 0.1 * torch.randn_like(z)
                table = -(z[:, None] - centres).square().sum(-1) - torch.lgamma(z.exp() + 1).sum(-1, keepdim=True)
                loss = -(table.logsumexp(1) + torch.log_softmax(z @ centres, 1)[:, 0]).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            images = nn.Conv2d(1, 4, 3, 2, 1)(torch.as_tensor(rows("digits"), dtype=torch.float32).reshape(-1, 1, 8, 8))
            found = [*network.state_dict().values(), centres.detach(), images.detach().mean((2, 3))]
            for fitted in (rows("real"), rows("digits")):
                found.append(torch.as_tensor(KMeans(3, n_init=2, random_state=0).fit(fitted).cluster_centers_))
            found.append(torch.as_tensor(SklearnMixture(3, random_state=0).fit(rows("real")).covariances_))
            found.append(torch.as_tensor(np.linalg.svd(rows("real"), full_matrices=False)[2]))
    finally:
        torch.set_num_threads(before)
    return hashlib.sha256(" ".join(digest(tensor) for tensor in found).encode()).hexdigest()[:16]


def machine() -> dict[str, str]:
    """What numbers depend on, as far as it has names."""
    model = platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    versions = {package.__name__: package.__version__ for package in (torch, np, scipy, sklearn)}
    return {"processor": model, "capability": torch.backends.cpu.get_cpu_capability()} | versions


def named_as_today(story: pc.Story, then: Mapping[str, str]) -> dict[str, str]:
    """The record of an earlier version's state by the names that today's story gives its tensors."""
    found = dict(then)
    for path, part in story.named_modules():
        if isinstance(part, pc.Part) and hasattr(part, "rename_state"):
            part.rename_state(found, f"{path}." if path else "")
    return found


def difference(name: str, record: Mapping[str, Any]) -> str:
    """How the weights of a case differ from the record; the empty string where they are equal to the last bit."""
    story = CASES[name].run()
    then, now = named_as_today(story, record["cases"][name]), digests(story)
    if then == now:
        return ""
    if gone := then.keys() ^ now.keys():
        return f"other names in the state: {sorted(gone)}"
    return f"other values: {[tensor for tensor in then if then[tensor] != now[tensor]]}"


def commit() -> str:
    """That of the probclust that is imported."""
    where = Path(pc.__file__).parent
    return subprocess.run(
        ["git", "-C", where, "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True
    ).stdout[:7]


def main() -> None:
    """Write the record, or compare with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the record of the cases anew")
    parser.add_argument("--check", action="store_true", help="compare with the record")
    parser.add_argument("--since", action="store_true", help="write the cases that differ from 061441d on purpose")
    parser.add_argument("words", nargs="*", help="that the names of the cases hold")
    given = parser.parse_args()
    names = [name for name in CASES if all(word in name for word in given.words)]
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {"cases": {}, "commits": {}}
    if given.write:
        names = [name for name in names if (name in SINCE) == given.since]
        record |= {"machine": machine(), "fingerprint": fingerprint()}
        for name in names:
            start = time.perf_counter()
            record["cases"][name] = digests(CASES[name].run())
            record["commits"][name] = commit()
            print(f"{time.perf_counter() - start:6.2f} s  {name}", flush=True)
        write_lines(RECORD, record)
    elif given.check:
        if fingerprint() != record["fingerprint"]:
            sys.exit(f"this machine trains to other numbers: {machine()}, the record is of {record['machine']}")
        wrong = {name: found for name in names if (found := difference(name, record))}
        for name, found in wrong.items():
            print(f"{name}: {found}")
        sys.exit(f"{len(wrong)} of {len(names)} differ" if wrong else 0)
    else:
        print("\n".join(names))


if __name__ == "__main__":
    main()
