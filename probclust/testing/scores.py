"""The contract, and the log joint against brute force: one row and one cluster at a time."""

from __future__ import annotations

import torch

import probclust as pc
from probclust.story.joint import trace_joint
from probclust.story.untouched import untouched
from probclust.testing.case import Case, close, require


def check_contract(case: Case) -> None:
    """The contract itself, and constructors that take a seed of their own."""
    pc.log_joint(case.story, case.x)  # checks it on these rows
    states = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            case.make()
            states.append(torch.get_rng_state())
    require(
        not torch.equal(*states),
        "make() sets torch's random state, so that restarts would all be the same; leave seeds to pc.fit",
    )


def check_log_joint(case: Case) -> None:
    """Alone and together, and against each row and cluster by itself."""
    story, x, table = case.story, case.x, pc.log_joint(case.story, case.x)
    require(table.shape == (len(x), story.n_clusters), f"pc.log_joint has shape {tuple(table.shape)}")
    for row in range(min(4, len(x))):
        alone = pc.log_joint(story, x[row : row + 1])[0]
        close(table[row], alone, f"row {row} of x scores otherwise among {len(x)} rows than alone: the log joint")
        for cluster in range(story.n_clusters):
            with untouched(story):
                torch.manual_seed(0)
                known = torch.full((1,), cluster)
                joint = trace_joint(story.model, story.complete_guide, x[row : row + 1], cluster=known, latents="mean")
                expected = joint.table[0, 0]
            what = (
                f"row {row} in cluster {cluster} scores otherwise when all clusters are enumerated than by itself: a "
                "site mixes the clusters' dim (left of the plate) with another. The log joint"
            )
            close(table[row, cluster], expected, what)


def check_scores(case: Case) -> None:
    """What is computed from the log joint, and bounds under one seed."""
    story, x, n = case.story, case.x, len(case.x)
    table = pc.log_joint(story, x)
    close(pc.responsibilities(story, x), table.softmax(1), "pc.responsibilities are no softmax of the log joint: they")
    require(torch.equal(pc.predict(story, x), table.argmax(1)), "pc.predict is no argmax of the log joint")
    for name, bound in (("elbo", pc.elbo), ("log_likelihood", pc.log_likelihood)):
        found = bound(story, x, particles=3)
        require(found.shape == (n,) and bool(torch.isfinite(found).all()), f"pc.{name} is not {n} finite numbers")
        require(torch.equal(found, bound(story, x, particles=3)), f"pc.{name} is another under the same seed")
