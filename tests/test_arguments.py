"""Arguments of a wrong type or size, in every public function: refused before any work, by name, with what came."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import probclust as pc
from probclust import likelihoods
from probclust.networks import architectures

X = torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
INTEGERS = [1.5, "3", 0, -1, True, [1], np.bool_(True), torch.tensor(2.5)]
SEEDS = [-1, "0", 1.5, True, [1], 2**63]
RATES = ["0.1", 0, -1, math.nan, math.inf, True, [0.1], 1 + 0j]


def gmm():
    return pc.models.GaussianMixture(4, 2)


def fit(**arguments):
    return lambda: pc.fit(gmm(), X, **{"epochs": 1, **arguments})


def step(**arguments):
    return lambda: pc.fit(gmm(), X, recipe=[pc.SVI(**{"epochs": 1, **arguments})])


def vade(**arguments):
    return lambda: pc.models.VaDE(**{"n_features": 4, "n_clusters": 2, "latent_dim": 1, "hidden": (4,), **arguments})


def estimator(**arguments):
    return lambda: pc.DeepMixture(**{"story": "gmm", "n_clusters": 2, "random_state": 0, **arguments}).fit(X.numpy())


def of(function, name, *rest):
    """A public function with one argument given by name, after the story and others."""
    return lambda value: lambda: getattr(pc, function)(gmm(), *rest, **{name: value})


CASES = []


def cases(build, words, values):
    CASES.extend(pytest.param(build(value), words.format(value), id=f"{words[:25]}-{value!r:.20}") for value in values)


for name in ("epochs", "batch_size", "n_init", "devices"):
    cases(lambda v, name=name: fit(**{name: v}), f"{name} must be an integer of at least 1, got ", INTEGERS)
for name in ("epochs", "batch_size", "patience"):
    cases(lambda v, name=name: step(**{name: v}), f"step 'svi': {name} must be an integer of at least 1", INTEGERS)
cases(lambda v: step(min_steps=v), "step 'svi': min_steps must be an integer of at least 0", ["3", -1, True])
cases(lambda v: fit(learning_rate=v), "learning_rate must be (a positive number|positive), got ", RATES)
cases(lambda v: step(learning_rate=v), "step 'svi': learning_rate must be (a positive number|positive), got ", RATES)
cases(lambda v: step(clip=v), "step 'svi': clip must be (a positive number|positive), got ", RATES)
cases(lambda v: step(tolerance=v), r"step 'svi': tolerance must be a number in \[0, inf\)", ["x", -1, math.nan])
cases(lambda v: step(schedule=v), "step 'svi': schedule must be 'constant' or 'cosine', got ", ["x", 3, None])
cases(lambda v: step(name=v), "a step's name must be a string, got ", [3, None])
cases(lambda v: fit(objective=v), r"objective must be one of \[.*'truncated'\] or a pyro", [3, "x", ["exact"]])
cases(lambda v: fit(device=v), "device must be 'auto', 'cpu', 'cuda'", ["gpu", "cuda:x", 3, None, "cpu:99"])
cases(lambda v: fit(checkpoint=v), "checkpoint must be the path of a file", [3, True, b"x", 1.5, ""])
cases(lambda v: fit(resume=v), "resume must be True or False, got ", ["yes", 1, None])
cases(lambda v: fit(recipe=v), "recipe must be a list of steps, such as", ["gmm", 3, pc.SVI(epochs=1)])
cases(lambda v: fit(recipe=v), "a recipe holds steps, such as", [[3]])
cases(lambda v: fit(engine=v), "engine must be 'auto', 'eager'", ["fast", 3, None])
cases(lambda v: fit(precision=v), "precision must be", ["x", 64, True])
cases(lambda v: fit(progress=v), "progress must be True, False, None or", ["yes", 3])
cases(lambda v: fit(pairs=v), r"pairs must be probclust\.Pairs", [3, [(0, 1)]])
for function in ("fit", "log_joint", "elbo", "log_likelihood", "sample_posterior", "impute", "predictive_check"):
    cases(of(function, "seed", X), "seed must be an integer of at least 0", SEEDS)
cases(of("sample", "seed", 3), "seed must be an integer of at least 0", SEEDS)
cases(of("to_inference_data", "seed", X), "seed must be an integer of at least 0", SEEDS)
for function in ("log_joint", "elbo", "log_likelihood"):
    cases(of(function, "particles", X), "particles must be an integer of at least 1, got ", INTEGERS)
    cases(of(function, "progress", X), "progress must be True, False, None or", ["yes", 3])
for function, name in (
    ("impute", "particles"),
    ("impute", "draws"),
    ("sample_posterior", "draws"),
    ("to_inference_data", "draws"),
    ("prototypes", "n"),
    ("predictive_check", "particles"),
    ("predictive_check", "permutations"),
):
    cases(of(function, name, X), f"{name} must be an integer of at least 1, got ", INTEGERS)
cases(of("sample", "n"), "n must be an integer of at least 1, got ", INTEGERS)
cases(of("sample", "cluster", 3), "cluster must be an integer, a sequence of integers or None", ["a", 1.5, True, {0}])
cases(of("sample", "min_posterior", 3), r"min_posterior must be a number in \[0, 1\)", ["0.9", 1, -1, True, [0.5]])
cases(of("sample", "temperature", 3), "temperature", ["hot", 0, -1, math.nan, True, {"x": "hot"}, {"zz": 1}, [1]])
cases(of("to_frame", "names", X), "names must", [3, "abcd", ["a"]])
cases(of("to_images", "shape", X), "shape", [(4,), (2, 2, 2), (2, 2, 1, 1), "2x2", 4, (2.0, 2.0), (0, 4), None, (3, 2)])
cases(of("to_images", "columns", X, (2, 2)), "columns must be an integer of at least 1", INTEGERS)
cases(of("to_images", "scale", X, (2, 2)), "scale must be an integer of at least 1", INTEGERS)
cases(
    lambda v: lambda: pc.to_frame(gmm(), v),
    r"rows must hold a tensor for each of the observed sites \['x'\]|rows\['x'\] must be of shape \(rows, 4\)",
    [{}, {"x": 3}, {"cluster": torch.zeros(3)}, {"x": torch.zeros(3, 3)}],
)
cases(lambda v: lambda: pc.compare(v, X), "stories must be a mapping|names of stories|must be a probc", [3, {3: gmm()}])
cases(lambda v: lambda: pc.compare({"a": gmm()}, X, seed=v), "seed must be", SEEDS)
cases(lambda v: lambda: pc.compare({"a": gmm()}, X, records=v), "records must", [3, {"a": 3}, {}])
cases(lambda v: lambda: pc.select_n_clusters(lambda k: gmm(), X, v), "n_clusters must", [3, "ab", None, [], ["3"]])
cases(lambda v: lambda: pc.stability(v), "restarts must be|at least two|got None", [3, "ab", None, [1], [[0.5], [1]]])
cases(lambda v: lambda: pc.save(gmm(), v), "path must be the path of a file", [3, None, "", b"x", True])
cases(lambda v: lambda: pc.data.read(v), "path must be the path of a file", [3, None, "", b"x"])
cases(lambda v: lambda: pc.load(v), "path must be the path of a file", [3, None, "", b"x"])
cases(lambda v: estimator(story_arguments=v), "story_arguments must be a mapping", [3, "ab", {3: 3}])
cases(lambda v: estimator(story_arguments=v), r"GaussianMixture\(.*nope=1\) cannot be built", [{"nope": 1}])
cases(lambda v: estimator(n_clusters=v), "n_clusters must be an integer of at least 1, got ", INTEGERS)
cases(lambda v: estimator(semi_supervised=v), "semi_supervised must be True or False", ["yes", 1])
cases(lambda v: estimator(story=v), "expected a Story class or the name of one, got ", [3, None])
for name in ("n_features", "n_clusters", "latent_dim"):
    cases(lambda v, name=name: vade(**{name: v}), f"{name} must be an integer of at least 1, got ", [*INTEGERS, None])
cases(lambda v: vade(hidden=v), "hidden", [4, "4", None, (0,), (1.5,), ("a",), (-1,), (True,)])
cases(lambda v: vade(likelihood=v), "likelihood must be", ["x", 3, None, likelihoods.Bernoulli])
cases(lambda v: vade(likelihood=v), "likelihood must be built for the story's n_features=4", [likelihoods.Poisson(3)])
cases(lambda v: vade(network=v), "network must be an architecture", ["x", 3, architectures.MLP])
cases(lambda v: vade(missing=v), "missing must be True or False", ["x", 3])
for name in ("n_rows", "n_features", "n_clusters"):
    cases(lambda v, name=name: lambda: pc.data.blobs(**{name: v}), f"{name} must be an integer of at least 1", INTEGERS)
cases(lambda v: lambda: pc.data.circles(seed=v), "seed must be an integer", SEEDS)


@pytest.mark.parametrize(("function", "words"), CASES)
def test_a_wrong_argument_is_refused_by_name(function, words):
    with pytest.raises((ValueError, TypeError), match=words):
        function()


@pytest.mark.parametrize("wrong", [3, None, "gmm", pc.models.GaussianMixture, torch.nn.Linear(2, 2)], ids=repr)
@pytest.mark.parametrize(
    "function",
    [
        "predict",
        "log_joint",
        "elbo",
        "reconstruct",
        "embed",
        "impute",
        "prototypes",
        "predictive_check",
        "sample_posterior",
        "fit",
        "to_frame",
    ],
)
def test_what_is_no_story_is_refused_by_every_function(function, wrong):
    with pytest.raises(TypeError, match=r"expected a probclust\.Story \(an instance\), got "):
        getattr(pc, function)(wrong, X)


def test_numbers_of_other_kinds_are_taken():
    record = pc.fit(gmm(), X, epochs=np.int64(1), learning_rate=np.float32(0.01), seed=np.int32(3), n_init=np.uint8(1))
    assert record.settings["seed"] == 3
    assert pc.sample(gmm(), torch.tensor(2), seed=np.int64(0))["x"].shape == (2, 4)
