"""Comparisons, ArviZ's export, and the scikit-learn face."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import probclust as pc
from probclust.story.sites import CLUSTER
from probclust.testing.case import Case, NotApplicable, close, require


def check_compare(case: Case) -> None:
    """A likelihood for a density of x, and none for what is none."""
    story, x = case.story, case.x
    y = torch.arange(len(x)) % story.n_clusters
    table = pc.compare({"one": story, "same": story}, x, y=y, particles=2)
    likelihood = table["log_likelihood"]
    if story.conditional or not story.is_density:
        require(bool(likelihood.isna().all()), "pc.compare shows the likelihood of what is no density of x")
    else:
        ours = pc.log_likelihood(story, x, particles=2).double().mean()
        if likelihood.notna().all():  # else it says why: the story weighs its terms, say
            close(torch.as_tensor(likelihood.iloc[0]), ours, "pc.compare has another likelihood than the story: it")
    require(bool(table["accuracy"].between(0, 1).all()), "pc.compare gives accuracies outside 0..1")


def check_evaluate(case: Case) -> None:
    """What the functions that give one number each say."""
    story, x = case.story, case.x
    found = pc.evaluate(story, x, torch.arange(len(x)) % story.n_clusters, particles=2)
    require(torch.equal(found.clusters, pc.predict(story, x)), "pc.evaluate has other clusters than pc.predict")
    close(found.responsibilities, pc.responsibilities(story, x), "pc.evaluate has other responsibilities: they")
    if found.bound is not None:
        close(found.bound, pc.log_likelihood(story, x, particles=2), "the bound of pc.evaluate")


def check_report(case: Case) -> None:
    """The page."""
    with TemporaryDirectory() as folder:
        try:
            found = pc.report({"one": case.story}, case.x, out=Path(folder) / "page.html", particles=2)
        except ImportError as error:
            raise NotApplicable(str(error)) from None
        require((Path(folder) / "page.html").stat().st_size > 0, "pc.report writes nothing")
    require(len(found["one"]) == len(case.x), "pc.report scores other rows")


def check_inference_data(case: Case) -> None:
    """Draws for ArviZ."""
    data: Any = pc.to_inference_data(case.story, case.x[:6], draws=3)
    require(data.posterior[CLUSTER].shape == (1, 3, 6), "pc.to_inference_data has no cluster for each draw and row")


def check_estimator(case: Case) -> None:
    """The story behind `pc.DeepMixture`, from its class and arguments."""
    story = case.story
    if not {"n_features", "n_clusters"} <= story.arguments.keys():
        raise NotApplicable("the constructor does not take n_features and n_clusters")
    arguments = {k: v for k, v in story.arguments.items() if k not in ("n_features", "n_clusters")}
    steps = [pc.SVI(epochs=1, learning_rate=1e-3)]
    estimator = pc.DeepMixture(
        type(story), story.n_clusters, story_arguments=arguments, recipe=steps, particles=2, random_state=0
    )
    labels = estimator.fit_predict(case.x.cpu().numpy())
    require(labels.shape == (len(case.x),), "pc.DeepMixture gives no cluster for each row")
    chances = estimator.predict_proba(case.x.cpu().numpy())
    require(chances.shape == (len(case.x), story.n_clusters), "pc.DeepMixture gives no probabilities of each cluster")
