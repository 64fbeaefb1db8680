"""The log joint of every row and cluster, by one effect-handler pass over a story's guide and model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from probclust.distributions.base import mean_of
from probclust.distributions.full_precision import is_mixed, widen
from probclust.errors import ContractError
from probclust.locking import alone
from probclust.story.as_pyro import use_pyros
from probclust.story.module_parameters import module_local_parameters
from probclust.story.placement import made_on
from probclust.story.sites import CLUSTER, PLATE, Site, is_one, require_numbers, role_of, site_of
from probclust.story.untouched import untouched

Clusters = Literal["enumerate", "draw"] | Tensor
Locals = Literal["draw", "mean"]


class Pass(Messenger):
    """Runs a model or guide with chosen clusters and latents, and records its sites.

    Args:
        cluster: "enumerate" for all values at once, at the dim left of the plate; "draw"; or a tensor, (rows,) of known
            clusters or (candidates, rows) of those to enumerate for each row.
        values: latents to replay, by name (a guide's, when this runs the model).
        latents: "draw" from each site's distribution, or set each to its "mean".
        uncondition: treat the observed sites as latents too, so that the model generates.
    """

    def __init__(
        self,
        cluster: Clusters = "enumerate",
        values: dict[str, Tensor] | None = None,
        latents: Locals = "draw",
        uncondition: bool = False,
    ) -> None:
        super().__init__()
        self.cluster, self.values, self.latents, self.uncondition = (
            cluster,
            values or {},
            latents,
            uncondition,
        )
        self.sites: dict[str, Site] = {}
        self.n_rows = 0

    def run(self, program: Callable[..., Any], x: Tensor) -> dict[str, Site]:
        """Run `program(x)` under this handler; its sites by name, in order."""
        self.n_rows = len(x)
        with alone, module_local_parameters, self, made_on(x.device):
            try:
                program(x)
            except ValueError as error:
                if str(error).startswith("Shape mismatch inside plate"):
                    raise ContractError(
                        f"{error}. The distribution's batch shape must be the rows of plate 'data' (dim -1); "
                        "move the feature dimensions into the event with .to_event(1)"
                    ) from error
                raise
            except AttributeError as error:
                if not str(error).endswith("no attribute 'param_state'"):
                    raise
                raise ContractError(
                    "the story runs a PyroModule that is none of its parts, so that its parameters are neither trained "
                    "nor saved; make it an attribute of the story, or keep it in a torch.nn.ModuleList or ModuleDict"
                ) from error
        return self.sites

    def _pyro_clusters(self, msg: Any) -> None:
        """Answer `every_cluster` with the clusters of this pass."""
        if isinstance(self.cluster, Tensor):
            msg["value"], msg["done"] = self.cluster, True
        elif self.cluster == "draw":
            msg["value"], msg["done"] = torch.randint(msg["args"][0], (self.n_rows,)), True

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            if msg["name"] == PLATE and msg["fn"].subsample_size == self.n_rows:  # the rows at hand, in their order
                msg["value"], msg["done"] = torch.arange(self.n_rows), True
            return
        if msg["name"] in self.sites:
            raise ContractError(f"two sites are named '{msg['name']}'; give each sample statement its own name")
        use_pyros(msg)
        if is_mixed():
            widen(msg["fn"])
        if msg["is_observed"]:
            if not self.uncondition or role_of(msg) != "observed":
                return
            msg["is_observed"], msg["value"] = False, None
        fn = msg["fn"]
        if msg["name"] == CLUSTER and not isinstance(self.cluster, str):
            msg["value"] = self.cluster
        elif msg["name"] == CLUSTER and self.cluster == "enumerate":
            if not getattr(fn, "has_enumerate_support", False) or fn.event_shape:
                raise ContractError(
                    f"site 'cluster' is {type(fn).__name__}, whose values are not the integers 0..K-1; draw it from "
                    "dist.Categorical with one entry per cluster"
                )
            msg["value"] = _every_cluster(fn)
        elif msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]
        elif self.latents == "mean":
            msg["value"] = mean_of(fn, msg["name"])
        else:
            require_numbers(fn, msg["name"])
            msg["value"] = None  # Pyro draws it, or a handler around this one
        msg["done"] = msg["value"] is not None

    def _pyro_post_sample(self, msg: Any) -> None:
        if not site_is_subsample(msg):
            self.sites[msg["name"]] = site_of(msg)


def _every_cluster(fn: Any) -> Tensor:
    """(K, 1) values of the cluster; marked as Pyro marks its own, so that `log_prob` transposes and gathers nothing."""
    support = fn.enumerate_support(expand=False)
    value: Any = support.reshape(-1, 1)
    if len(fn.batch_shape) == 1:
        value._pyro_categorical_support = getattr(support, "_pyro_categorical_support", None)
    return value


@dataclass(frozen=True)
class Joint:
    """The outcome of one pass over guide and model.

    Attributes:
        model: the model's sites, by name.
        guide: the guide's sites, by name.
        n_rows: rows of the batch.
        n_clusters: K.
        candidates: (S, rows) the clusters that were enumerated for each row; None where all were.
    """

    model: dict[str, Site]
    guide: dict[str, Site]
    n_rows: int
    n_clusters: int
    candidates: Tensor | None = None

    def terms(self) -> Iterator[tuple[str, Tensor]]:
        """Each local site's share of the log joint, as (name, (rows,) or (enumerated, rows)); guides negative."""
        for site in self._local("model"):
            yield (f"log p({site.name})", site.log_prob)
        for site in self._local("guide"):
            yield (f"-log q({site.name})", -site.log_prob)

    def _local(self, kind: Literal["model", "guide"]) -> Iterator[Site]:
        """The local sites that count: those with a density, but for the guide's cluster."""
        for site in (self.model if kind == "model" else self.guide).values():
            if site.local and site.role != "deterministic" and not (kind == "guide" and site.name == CLUSTER):
                yield site

    @cached_property
    def table(self) -> Tensor:
        """(rows, enumerated) log joint in nats: log p of the model less log q of the guide, cluster's q left out.

        The columns are all clusters, or the row's candidates. It is divided by `scale`.
        """
        per_cluster = shared = self.model[CLUSTER].log_prob.new_zeros(())
        for _, term in self.terms():  # (rows,) terms are added up before they meet the (clusters, rows) ones
            if term.dim() > 1:
                per_cluster = per_cluster + term
            else:
                shared = shared + term
        n_columns = self.n_clusters if self.candidates is None else len(self.candidates)
        total = per_cluster + shared
        if self.scale is not None:
            total = total / self.scale
        return total.expand(n_columns, self.n_rows).T

    @cached_property
    def scale(self) -> Any:
        """The scale that all terms with a cluster's dim have in common, a number or (rows,); None for 1.

        It counts after the sum over the clusters, as in Pyro's `TraceEnum_ELBO`: a row's bound is `scale` times
        the logsumexp of the table. Where such terms have scales of their own, it is 1 and they stay in the table.
        """
        sites = [site for kind in KINDS for site in self._local(kind)]
        if all(is_one(site.scale) for site in sites):
            return None
        scales = [site.scale for site in sites if site.unscaled.dim() > 1]
        common = bool(scales) and all(_same_scale(scales[0], other) for other in scales[1:])
        return scales[0] if common and not _same_scale(scales[0], 1.0) else None

    def weigh(self, rows: Tensor) -> Tensor:
        """(rows,) bounds that were taken from the table, times the scale."""
        if self.scale is None:
            return rows
        by_row = isinstance(self.scale, Tensor) and self.scale.dim() > 0
        return rows * (self.scale[..., : len(rows)].flatten() if by_row else self.scale)  # particles repeat the rows

    @property
    def plate_scale(self) -> float:
        """Rows that the plate "data" stands for, over those that it has."""
        site = self.model[CLUSTER]
        return 1.0 if site.full_size is None else site.full_size / site.frame_sizes[-1]

    @property
    def scaled(self) -> Site | None:
        """A local site of another scale than the cluster's, so that the log joint is none; None where all agree."""
        own = self.model[CLUSTER].scale
        sites = (site for kind in KINDS for site in self._local(kind))
        return next((site for site in sites if not _same_scale(site.scale, own)), None)

    @property
    def log_q(self) -> Tensor | None:
        """(rows, clusters) log q(cluster | x) of the guide, None where the guide has no cluster."""
        if CLUSTER not in self.guide:
            return None
        return self.guide[CLUSTER].unscaled.expand(self.n_clusters, self.n_rows).T

    @property
    def q_weight(self) -> Any:
        """What the guide's cluster counts beside the table: its own scale over `scale`."""
        if self.scale is None:
            return self.guide[CLUSTER].scale
        return 1.0 if _same_scale(self.guide[CLUSTER].scale, self.scale) else self.guide[CLUSTER].scale / self.scale

    @property
    def log_globals(self) -> Tensor | float:
        """Scalar: log p less log q of the global latents, in nats (for all rows together), and global factors."""
        total: Tensor | float = 0.0
        for sites, sign in ((self.model, 1.0), (self.guide, -1.0)):
            for site in sites.values():
                if not site.local and site.role != "deterministic":
                    total = total + sign * site.log_prob.sum()
        return total


KINDS: tuple[Literal["model"], Literal["guide"]] = ("model", "guide")


def _same_scale(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or torch.equal(one, other)
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return bool((torch.as_tensor(one) == torch.as_tensor(other)).all())
    return bool(one == other)


def trace_joint(
    model: Callable[[Tensor], Any],
    guide: Callable[[Tensor], Any],
    x: Tensor,
    *,
    cluster: Clusters = "enumerate",
    latents: Locals = "draw",
) -> Joint:
    """Run guide, then model with the guide's latents, under every cluster at once.

    Args:
        model: a story's model, or any Pyro model that keeps the contract.
        guide: its guide; a story's `complete_guide` where global latents need their automatic guide.
        x: (rows, n_features).
        cluster: "enumerate"; (rows,) known clusters; or (S, rows) candidates, S different clusters for each row.
        latents: "draw" or "mean" of the guide's distributions.

    Returns:
        Joint: its `table` is (rows, clusters), or (rows, S), in nats.
    """
    return model_joint(model, Pass(cluster, latents=latents).run(guide, x), x, cluster)


def model_joint(
    model: Callable[[Tensor], Any], guide_sites: dict[str, Site], x: Tensor, cluster: Clusters = "enumerate"
) -> Joint:
    """Run a model with the latents that a pass over its guide left, and put the two together; see `trace_joint`."""
    values = {name: site.value for name, site in guide_sites.items() if name != CLUSTER}
    model_sites = Pass(cluster, values).run(model, x)
    if CLUSTER not in model_sites:
        raise ContractError(
            "the model has no site named 'cluster'; draw it inside the plate: "
            "pyro.sample('cluster', dist.Categorical(logits=...))"
        )
    fn = model_sites[CLUSTER].fn
    n_clusters = model_sites[CLUSTER].value.shape[0] if isinstance(cluster, str) else fn.param_shape[-1]
    candidates = cluster if isinstance(cluster, Tensor) and cluster.dim() > 1 else None
    return Joint(model_sites, guide_sites, x.shape[0], n_clusters, candidates)


def programs(model: Any, guide: Any) -> tuple[Any, Any]:
    """The pair to run: a story's bound `guide` stands for its `complete_guide`."""
    if getattr(guide, "__name__", "") != "guide":
        return model, guide
    return model, getattr(getattr(guide, "__self__", None), "complete_guide", guide)


@alone
def global_sites(story: Any, *, strict: bool = False) -> dict[str, Any]:
    """Distributions of the global latents that a story's guide leaves out, found on two rows of zeros.

    A story that breaks the contract is left for the contract check, which knows what to say of it, unless `strict`.
    """
    with untouched(story), poutine.block():
        x = torch.zeros(2, story.n_features, dtype=story.dtype, device=story.device)
        try:
            guided = Pass("draw").run(story.guide, x)
            sites = Pass("draw").run(story.model, x)
        except Exception:
            if strict:
                raise
            return {}
    return {
        name: site.fn
        for name, site in sites.items()
        if site.latent
        and not (site.local or name in guided or name == CLUSTER)
        and tuple(site.fn.batch_shape) == _declared(site)
    }


def _declared(site: Site) -> tuple[int, ...]:
    """The batch shape that the plates around a site declare."""
    depth = max((-dim for dim in site.frame_sizes), default=0)
    return tuple(site.frame_sizes.get(dim, 1) for dim in range(-depth, 0))
