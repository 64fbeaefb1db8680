"""The contract check: runs a story once on a few rows and says, by site and with a remedy, what is broken."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from probclust.distributions.base import base_of
from probclust.errors import ContractError, NonFiniteError
from probclust.locking import alone
from probclust.story.finite import blame
from probclust.story.joint import Joint, Pass, global_sites, trace_joint
from probclust.story.module_parameters import keep_own_parameters
from probclust.story.sites import CLUSTER, Site
from probclust.story.story import Story, checked_story
from probclust.story.support import check_values
from probclust.story.untouched import untouched


@alone
def check_contract(story: Story, x: Tensor) -> None:
    """Check that a story keeps the contract, on a few rows of `x`.

    Args:
        story: the story.
        x: (rows, n_features), on the story's device.

    Raises:
        TypeError: `story` is no `Story`.
        ContractError: names the site and the remedy.
        NonFiniteError: the story gives NaN on these rows; names the site.
    """
    _complete(story)
    rows = _some_rows(x, avoid={story.n_clusters, story.n_features, 1})
    with untouched(story), pyro.validation_enabled(False):
        _check_structure(story, rows)
        invalid = check_values(story, rows, number=lambda row: row % len(x))
        joint = trace_joint(story.model, story.complete_guide, rows)
        _check_shapes(story, joint)
        _check_reads_x(story, joint, rows)
        if rows.isnan().any():  # a gap is the same in all rows
            _check_reads_x(story, joint, _without_gaps(rows))
        if not torch.isfinite(joint.table.logsumexp(1)).all():
            why = f" ({invalid})" if invalid else ""
            raise NonFiniteError(f"{type(story).__name__}: {blame(joint)}, on the first {len(rows)} rows of x{why}")
        if invalid:
            raise ContractError(f"{type(story).__name__} builds a distribution that is not one: {invalid}") from invalid


@alone
def check_structure(story: Story) -> None:
    """Check what can be seen of the contract without rows: the sites, where they stand, their shapes.

    Args:
        story: the story.

    Raises:
        TypeError: `story` is no `Story`.
        ContractError: names the site and the remedy.
    """
    _complete(story)
    zeros = torch.zeros(1, story.n_features, dtype=story.dtype, device=story.device)
    rows = _some_rows(zeros, avoid={story.n_clusters, story.n_features, 1})
    with untouched(story), pyro.validation_enabled(False):
        _check_structure(story, rows)
        _check_shapes(story, trace_joint(story.model, story.complete_guide, rows))


def _complete(story: Story) -> None:
    """Give a story what its constructor could not, where its parts are others now."""
    checked_story(story)
    keep_own_parameters(story)
    with torch.random.fork_rng():
        story.add_global_guide()


def _some_rows(x: Tensor, avoid: set[int]) -> Tensor:
    """A few rows, repeated or cut to a number that no other dimension has, so that shapes cannot agree by chance."""
    n = next(n for n in range(5, 5 + len(avoid) + 1) if n not in avoid)
    return x[torch.arange(n, device=x.device) % x.shape[0]]


def _check_structure(story: Story, x: Tensor) -> None:
    with poutine.trace(param_only=True) as stored:
        guide = _sites(story, story.complete_guide, "guide", x)
        model = _sites(story, story.model, "model", x)
    _check_parameters(story, stored.trace)
    if CLUSTER not in model:
        others = ", ".join(f"'{name}'" for name in model) or "none"
        raise ContractError(
            f"the model has no site named 'cluster' (its sites: {others}); draw it inside the plate: "
            "pyro.sample('cluster', dist.Categorical(logits=...))"
        )
    cluster = model[CLUSTER]
    if cluster.observed:
        raise ContractError("site 'cluster' is observed (obs=...); leave it latent and pass known clusters as `y`")
    for kind, sites in (("model", model), ("guide", guide)):
        if CLUSTER in sites:
            _check_clusters(sites[CLUSTER], kind, story.n_clusters)
        for site in sites.values():
            _check_has_support(site, kind)
            _check_place(site, kind, len(x))
    for name, site in model.items():
        if site.latent and name != CLUSTER and name not in guide:
            if not site.local:
                _explain_global(story, name)
            where = "inside" if site.local else "outside"
            raise ContractError(
                f"the guide lacks the model's latent site '{name}'; sample '{name}' in guide(x), {where} the plate, or "
                "give it obs= in the model where it is x that is observed"
            )
        if site.latent and name != CLUSTER and _is_discrete(site):
            raise ContractError(
                f"site '{name}' is a second discrete latent; only 'cluster' is enumerated: fold '{name}' into it "
                "or give it a continuous relaxation"
            )
    if not any(site.observed for site in model.values()):
        raise ContractError("the model observes nothing; pass x to a site inside the plate: obs=x")
    for name, site in guide.items():
        if site.observed:
            raise ContractError(f"site '{name}' of the guide is observed; only the model observes, drop its obs=")
        if site.role != "latent":
            continue
        if name not in model:
            raise ContractError(
                f"the guide samples site '{name}', which the model lacks; remove it, or name it as in the model"
            )
        if site.local != model[name].local:
            where = "inside" if model[name].local else "outside"
            raise ContractError(f"site '{name}' stands {where} the plate 'data' in the model only; move the guide's")


def _sites(story: Story, program: Any, kind: str, x: Tensor) -> dict[str, Site]:
    """The sites of a pass; an index out of range is put down to clusters that are too many, where they are."""
    run = Pass()
    try:
        return run.run(program, x)
    except IndexError:
        if CLUSTER in run.sites:
            _check_clusters(run.sites[CLUSTER], kind, story.n_clusters)
        raise


def _check_parameters(story: Story, trace: Any) -> None:
    """No parameter may come from Pyro's store: neither `fit` nor `save` would see it."""
    own = {id(parameter) for parameter in story.parameters()}
    for name, node in trace.nodes.items():
        value = node.get("value")
        if node["type"] != "param" or not isinstance(value, Tensor):
            continue
        leaf = value.unconstrained() if hasattr(value, "unconstrained") else value
        if id(leaf) not in own:
            raise ContractError(
                f"parameter '{name}' is in Pyro's global store (pyro.param), where it is neither trained nor saved "
                f"with the story; make it a torch.nn.Parameter of {type(story).__name__}"
            )


def _check_reads_x(story: Story, joint: Joint, x: Tensor) -> None:
    """A row observes what is its own, and the model's distributions are the same for other rows.

    The guide's are those of the row alone, or scores would depend on how many rows are looked at together.
    """
    values = {name: site.value for name, site in joint.guide.items() if name != CLUSTER}
    is_density = story.is_density and not story.conditional
    own = len(x) // 2
    like_own = x[own].repeat(len(x), 1)  # values that may be, for programs that look at them
    _check_guide_reads_rows_alone(story, joint, x, like_own, own)
    others = 2 * x + 1 if is_density or _same(x, like_own) else like_own
    others[own] = x[own]
    runs = []
    for rows in (x, others):
        torch.manual_seed(0)  # of a module that draws, such as dropout
        runs.append(Pass(values=values).run(story.model, rows))
    for name, site in runs[0].items():
        other = runs[1].get(name)
        if is_density and (other is None or not _same(site.fn.log_prob(site.value), other.fn.log_prob(site.value))):
            raise ContractError(
                f"the model reads x to build the distribution of site '{name}', so that its log joint is no density of "
                "x; it may read x only to observe it (obs=x) and for its number of rows, or say conditional = True"
            )
        if site.observed and other is not None and not _same(_of_row(site, own, x), _of_row(other, own, x)):
            raise ContractError(
                f"what site '{name}' observes of a row changes with the other rows (its value has shape "
                f"{tuple(site.value.shape)} for {len(x)} rows, its distribution event shape "
                f"{tuple(site.fn.event_shape)}); give obs= the row's own entries, the rows first, with the other "
                "dimensions in the event"
            )


def _without_gaps(x: Tensor) -> Tensor:
    """`x` with the first seen entry of each column in place of NaN."""
    seen = ~x.isnan()
    first = x.gather(0, seen.int().argmax(0, keepdim=True)).nan_to_num()
    return torch.where(seen, x, first)


def _check_guide_reads_rows_alone(story: Story, joint: Joint, x: Tensor, others: Tensor, own: int) -> None:
    """The guide's distributions of row `own` of x must be the same beside other rows."""
    values = {name: site.value for name, site in joint.guide.items() if name != CLUSTER}
    runs = []
    for rows in (x, others):
        torch.manual_seed(0)  # of a guide that draws for itself
        runs.append(Pass(values=values).run(story.complete_guide, rows))
    for name, site in runs[0].items():
        other = runs[1].get(name)
        if site.local and site.latent and other is not None:
            one, another = (law.log_prob(site.value) for law in (site.fn, other.fn))
            if not _same(one[..., own % one.shape[-1]], another[..., own % another.shape[-1]]):
                raise ContractError(
                    f"the guide's distribution of site '{name}' changes with the other rows, so that scores would "
                    "depend on which rows are scored together; let it be one of the row alone (in evaluation mode)"
                )


def _of_row(site: Site, row: int, x: Tensor) -> Tensor:
    """What a site observes of a row; all that it observes where it has no dim for the rows."""
    batch = site.value.shape[: site.value.dim() - site.fn.event_dim]
    return site.value.select(len(batch) - 1, row) if batch and batch[-1] == len(x) else site.value


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True)


def _explain_global(story: Story, name: str) -> None:
    """Raise what kept a global latent from its automatic guide."""
    try:
        with pyro.validation_enabled(True):  # as it is where stories are made
            global_sites(story, strict=True)
    except Exception as error:
        raise ContractError(
            f"global latent '{name}' gets no automatic guide, since {type(story).__name__} fails on two rows of zeros: "
            f"{error}"
        ) from error


def _check_clusters(site: Site, kind: str, n_clusters: int) -> None:
    values = site.value.flatten()
    if values.is_floating_point() or values.tolist() != list(range(n_clusters)):
        raise ContractError(
            f"site 'cluster' of the {kind} has support {values.tolist()[:20]}, expected the integers "
            f"0..{n_clusters - 1}; draw it from dist.Categorical with n_clusters={n_clusters} entries"
        )


def _check_has_support(site: Site, kind: str) -> None:
    try:
        _ = site.fn.support
    except (NotImplementedError, AttributeError) as error:
        name = type(base_of(site.fn)).__name__
        raise ContractError(
            f"site '{site.name}' of the {kind}: {name} does not say which values it has; give its class a `support`, "
            "such as support = dist.constraints.real_vector"
        ) from error


def _check_place(site: Site, kind: str, n_rows: int) -> None:
    """A site is a row's, inside the plate "data" at dim -1, or global, with no batch dims of its own."""
    if site.local:
        if site.frame_sizes.get(-1, n_rows) != n_rows:
            raise ContractError(
                f"site '{site.name}' of the {kind} stands in a plate 'data' of {site.frame_sizes[-1]} rows, and x has "
                f"{n_rows}; open it as pyro.plate('data', x.shape[0]), with no subsample of its own: `fit` takes the "
                "mini-batches"
            )
        if any(dim != -1 for dim in site.frame_sizes):
            raise ContractError(
                f"site '{site.name}' of the {kind} stands in further plates beside 'data' (dims "
                f"{sorted(site.frame_sizes)}); put those dimensions into the event with .to_event(...), and 'data' "
                "at dim -1"
            )
        return
    if not (site.latent or site.observed):  # a value, or a term for all rows together
        return
    if site.name == CLUSTER or site.observed:
        raise ContractError(
            f"site '{site.name}' of the {kind} stands outside the plate 'data'; move it inside "
            "`with pyro.plate('data', x.shape[0]):`"
        )
    depth = max((-dim for dim in site.frame_sizes), default=0)
    declared = tuple(site.frame_sizes.get(dim, 1) for dim in range(-depth, 0))
    if tuple(site.fn.batch_shape) != declared:
        raise ContractError(
            f"site '{site.name}' of the {kind} stands outside the plate 'data' with batch shape "
            f"{tuple(site.fn.batch_shape)}; move it inside the plate if each row has its own, or declare a global "
            "latent's dimensions with .to_event(...)"
        )


def _is_discrete(site: Site) -> bool:
    return bool(getattr(site.fn.support, "is_discrete", False))


def _check_shapes(story: Story, joint: Joint) -> None:
    rows, clusters = joint.n_rows, story.n_clusters
    allowed = {(rows,), (1, rows), (clusters, rows)}
    for kind, sites in (("guide", joint.guide), ("model", joint.model)):
        for site in sites.values():
            if site.role == "deterministic":
                continue
            try:
                shape = tuple(site.log_prob.shape)
            except (RuntimeError, ValueError) as error:
                raise ContractError(
                    f"log_prob of site '{site.name}' of the {kind} fails on a value of shape {tuple(site.value.shape)} "
                    f"({error}); its distribution has batch shape {tuple(site.fn.batch_shape)} and event shape "
                    f"{tuple(site.fn.event_shape)}: put feature dimensions into the event with .to_event(1)"
                ) from error
            if site.local and shape not in allowed:
                raise ContractError(
                    f"log_prob of site '{site.name}' of the {kind} has shape {shape}, expected ({rows},) or "
                    f"({clusters}, {rows}) = (clusters, rows); put feature dimensions into the event with "
                    ".to_event(1)"
                )


def check_plate(story: Story, x: Tensor, n_rows: int) -> None:
    """Check that a plate which stands for more rows than a batch has stands for those of the fit.

    Args:
        story: the story.
        x: (rows, n_features), a few rows on the story's device.
        n_rows: of the data set.

    Raises:
        ValueError: it stands for others.
    """
    with untouched(story):
        cluster = Pass().run(story.model, x)[CLUSTER]
    if cluster.full_size not in (None, len(x), n_rows):
        raise ValueError(
            f"the plate 'data' stands for {cluster.full_size} rows, and x has {n_rows}; open it as "
            "pyro.plate('data', x.shape[0]): `fit` tells batches from the whole by itself"
        )
