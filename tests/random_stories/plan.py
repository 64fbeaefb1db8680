"""What a random story is made of: plain JSON, which the constructor of a story takes, and hypothesis can shrink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from random_stories.families import FAMILIES
from random_stories.latents import KINDS
from random_stories.numbers import CONTAINERS, HOMES

Pick = Callable[[Sequence[Any]], Any]
"""Chooses one of some options; the first is the simplest, to which hypothesis shrinks."""
Plan = dict[str, Any]

NAMES = ("z", "x", "w", "y", "latent.1", "obs.x", "values", "type", "keys", "items", "h_0", "counts", "forward", "locs")
"""Of sites, some with dots, some of methods of modules and mappings."""
MAX_COMPONENTS = 3
"""Of drawn latents, so that quadrature is quick."""


def random_pick(seed: int) -> Pick:
    """Chooses at random."""
    rng = np.random.default_rng(seed)
    return lambda options: options[int(rng.integers(len(options)))]


def drawn_plan(pick: Pick) -> Plan:
    """A plan, all of whose choices `pick` makes."""
    names = list(NAMES)

    def name() -> str:
        chosen: str = pick(names)
        names.remove(chosen)
        return chosen

    n_clusters = pick([2, 2, 3, 1])
    gate = pick([False, False, True])
    missing = pick([False, False, False, True])
    sites = [_site(pick, name(), missing) for _ in range(pick([1, 1, 2, 3]))]
    plan = {
        "seed": pick(range(2**16)),
        "n_clusters": n_clusters,
        "n_rows": pick([4, 4, 4, 1]),
        "dtype": pick(["float32", "float64"]),
        "gate": gate,
        "weights": pick(["logits", "probs"]),
        "zero": pick([*[None] * 10, *(["guide"] if gate else []), "both"]) if n_clusters > 1 else None,
        "missing": missing,
        "encoder": pick(["plain", "plain", "batch norm", "dropout"]),
        "homes": [pick(HOMES) for _ in range(5)],
        "container": pick(CONTAINERS),
        "global_guide": pick(["map", "normal", "conjugate"]),
        "globals": _globals(pick, name, n_clusters),
        "latents": _latents(pick, name, gate),
        "sites": sites,
        "scale": pick([*[1.0] * 8, 3.0, 0.25]),
        "factors": pick([*[[]] * 8, ["rows"], ["cluster"], ["once"]]),
        "values": pick([*[[]] * 8, ["rows"], ["once"]]),
        "plate": pick([*["plain"] * 8, "mini-batch"]),
    }
    if plan["plate"] == "mini-batch":  # a scale of its own, which depends on the rows
        plan["scale"] = 1.0
        for part in (*plan["sites"], *plan["latents"]):
            part["scale"] = 1.0
    return plan


def _site(pick: Pick, name: str, missing: bool) -> Plan:
    family = pick(list(FAMILIES))
    width = pick([2, 3]) if family in ("categorical", "one-hot", "dirichlet") else pick([2, 1, 3])
    kind = FAMILIES[family].kind
    masks = [None, None, None, None, "on", "off"]
    if missing:
        masks = ["rows"] if kind != "feature" else ["entries", "rows"]
        masks += ["observed"] if FAMILIES[family].missing else []
    mask = pick(masks)
    return {
        "name": name,
        "family": family,
        "width": width,
        "bare": pick([False, True]) and width == 1 and kind == "feature" and mask != "observed",
        "by_cluster": pick([True, False]),
        "mask": mask,
        "scale": pick([1.0, 1.0, 1.0, 1.0, 1.0, 0.5]),
    }


def _latents(pick: Pick, name: Callable[[], str], gate: bool) -> list[Plan]:
    found: list[Plan] = []
    components = 0
    for i in range(pick([0, 1, 1, 2, 3])):
        kind, width = pick(list(KINDS)), pick([1, 1, 2])
        components += width * KINDS[kind].drawn
        if components > MAX_COMPONENTS:
            break
        found.append(
            {
                "name": name(),
                "kind": kind,
                "width": width,
                "bare": pick([False, True]) and width == 1,
                "by_cluster": gate and pick([True, False]),
                "parent": i > 0 and pick([True, False]),
                "scale": pick([1.0, 1.0, 1.0, 1.0, 1.0, 0.5]),
            }
        )
    return found


def _globals(pick: Pick, name: Callable[[], str], n_clusters: int) -> list[Plan]:
    found = []
    for use, families in {
        "weights": ["dirichlet", "sparse dirichlet", *(["beta"] if n_clusters == 2 else [])],
        "shift": ["normal", "student"],
        "spread": ["gamma", "log-normal", "half-normal"],
    }.items():
        if not pick([False, False, False, True]):
            continue
        guide = pick(["auto", "auto", "point", "draw"])
        family, is_pyro = pick(families), use != "weights" and pick([False, False, True])
        own_name = f"inner.{use}" if is_pyro else name()
        found.append({"name": own_name, "use": use, "family": family, "guide": guide, "is_pyro": is_pyro})
    return found


def n_features(plan: Plan) -> int:
    """Columns of x."""
    return sum(FAMILIES[site["family"]].columns(site["width"]) for site in plan["sites"])


def own_columns(plan: Plan) -> list[slice]:
    """The columns of x that each site observes."""
    ends = np.cumsum([FAMILIES[site["family"]].columns(site["width"]) for site in plan["sites"]]).tolist()
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


FULL_SIZE = 5000
"""Rows that a plate of a mini-batch stands for."""


def scales(plan: Plan, n_rows: int = 0) -> tuple[float, float]:
    """The scale of the rows that counts within the log joint, and the one that counts after the sum over the clusters.

    A scale of all sites is of the second kind, as Pyro has it; sites with scales of their own make it one of the first.
    """
    if plan["plate"] == "mini-batch":
        return 1.0, FULL_SIZE / max(n_rows, 1)
    own = any(part["scale"] != 1 for part in plan["sites"] + plan["latents"])
    return (plan["scale"], 1.0) if own else (1.0, plan["scale"])


def blocks(plan: Plan) -> list[str]:
    """What a plan is made of, for counting."""
    found = {f"family: {site['family']}" for site in plan["sites"]} | {f"latent: {z['kind']}" for z in plan["latents"]}
    found |= {f"home: {home}" for home in plan["homes"]} | {f"encoder: {plan['encoder']}", f"dtype: {plan['dtype']}"}
    found |= {f"mask: {site['mask']}" for site in plan["sites"] if site["mask"]}
    found |= {f"factor: {use}" for use in plan["factors"]} | {f"deterministic: {use}" for use in plan["values"]}
    for latent in plan["globals"]:
        guide = plan["global_guide"] if latent["guide"] == "auto" else f"own {latent['guide']}"
        found.add(f"global {latent['family']}: {guide}{', PyroSample' if latent['is_pyro'] else ''}")
    found |= {f"{len(plan['sites'])} observed sites", f"{len(plan['latents'])} local latents"}
    facts = {
        "cluster in the guide": plan["gate"],
        "latents by cluster": any(latent["by_cluster"] for latent in plan["latents"]),
        "missing entries": plan["missing"],
        "one cluster": plan["n_clusters"] == 1,
        "one feature": n_features(plan) == 1,
        "one row": plan["n_rows"] == 1,
        "scale of all sites": plan["scale"] != 1,
        "plate of a mini-batch": plan["plate"] == "mini-batch",
        f"probability zero: {plan['zero']}": plan["zero"] is not None,
        "scale of a site": any(part["scale"] != 1 for part in plan["sites"] + plan["latents"]),
        f"parts in: {plan['container']}": "part" in plan["homes"],
    }
    return sorted(found | {fact for fact, holds in facts.items() if holds})
