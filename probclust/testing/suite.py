"""`check_story`: every public function on one story."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor

from probclust.errors import ContractError
from probclust.story.story import Story
from probclust.testing.case import Case, NotApplicable, nothing_moved
from probclust.testing.draws import check_impute, check_modes, check_pictures, check_reconstruct, check_sample
from probclust.testing.fits import check_copies, check_fit, check_known_clusters, check_restarts, check_save
from probclust.testing.scores import check_contract, check_log_joint, check_scores
from probclust.testing.tables import check_compare, check_estimator, check_evaluate, check_inference_data, check_report

CHECKS: dict[str, Callable[[Case], None]] = {
    "the contract": check_contract,
    "pc.log_joint": check_log_joint,
    "pc.fit": check_fit,
    "the log joint after a fit": check_log_joint,
    "scores": check_scores,
    "pc.fit(n_init=2)": check_restarts,
    "pc.fit(y=...)": check_known_clusters,
    "copy.deepcopy": check_copies,
    "pc.save": check_save,
    "pc.sample": check_sample,
    "pc.reconstruct, pc.embed, pc.sample_posterior": check_reconstruct,
    "pc.modes": check_modes,
    "pc.impute": check_impute,
    "pc.prototypes, pc.predictive_check": check_pictures,
    "pc.evaluate": check_evaluate,
    "pc.compare": check_compare,
    "pc.report": check_report,
    "pc.to_inference_data": check_inference_data,
    "pc.DeepMixture": check_estimator,
}


def check_story(
    make: Callable[[], Story],
    x: Any,
    *,
    objective: str = "exact",
    prepare: Callable[[Story, Tensor], Any] | None = None,
) -> dict[str, str]:
    """Run every public function on a story, and hold what they give against each other and against brute force.

    Of the story are checked: the contract; that its log joint is what the model and guide say of one row and one
    cluster at a time, whatever rows and clusters are looked at together; that its samples are the model's, cluster by
    cluster; that fits under one seed agree; that it survives `pc.save` and `pc.load`, copies and restarts; that nothing
    moves random states, Pyro's parameter store or torch's defaults; and that scores, samples, imputations,
    comparisons, ArviZ's export and the scikit-learn face work. A small story takes seconds. pytest is not needed.

    Args:
        make: makes the story, with fresh weights at each call.
        x: (rows, n_features) that it could have told; a few dozen.
        objective: what fits maximise, "amortised" for a story whose guide has a q(cluster | x) to train.
        prepare: called with the story and rows after a fit; for what its own recipe would do beside SVI, and samples
            need.

    Returns:
        What was left out, and why: functions that such a story has not, as one that conditions on x has no `pc.impute`.

    Raises:
        ContractError: the story breaks the contract; names the site and the remedy.
        AssertionError: something else is wrong; names the function.

    Examples:
        >>> import torch, probclust as pc
        >>> from probclust.testing import check_story
        >>> check_story(lambda: pc.models.GaussianMixture(2, n_clusters=3), torch.randn(30, 2))
        {}
    """
    skipped: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that clusters are empty, say: a few epochs prove nothing
        with nothing_moved("make()"):
            case = Case(make, x, objective, prepare)
        for name, check in CHECKS.items():
            try:
                with nothing_moved(name):
                    check(case)
            except NotApplicable as reason:
                skipped[name] = str(reason)
            except (AssertionError, ContractError):
                raise
            except Exception as error:
                raise AssertionError(f"{name} fails: {type(error).__name__}: {error}") from error
    return skipped
