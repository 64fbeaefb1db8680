"""`Story`: the base class of every generative story of clusters."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from probclust.arguments import positive
from probclust.locking import alone
from probclust.part import Part, fresh
from probclust.story.global_guide import GlobalGuide, GuideKind, checked_kind
from probclust.story.module_parameters import keep_own_parameters

if TYPE_CHECKING:
    from probclust.story.recipe import Step


class Story(Part):
    """A generative story of clusters: a Pyro model, its guide, and the parameters of both.

    A subclass writes `model(x)` and `guide(x)` with `x` of shape (rows, n_features). Both open one plate named
    "data" over the rows at dim -1; inside it stand one discrete site "cluster" with support 0..K-1, any local
    latents (usually "z") and the observed sites (usually "x"). The model reads `x` only to observe it and for its
    row count. Global latents stand outside the plate; those that the guide leaves out get an automatic guide.

    Args:
        n_features: columns of `x`.
        n_clusters: K, the number of values of "cluster".
        global_guide: guide of global latents that `guide` leaves out: "map" (a point), "normal" (mean field) or
            "conjugate" (a Dirichlet for a Dirichlet, a Beta for a Beta, else mean field).

    Attributes:
        conditional: True where the model conditions on `x`, so that it is no density of `x`.
        is_density: False where the log joint is no log density of `x`; comparisons then show no likelihood.
        missing: True where NaN entries of `x` count as unobserved: model and guide take them (see
            `probclust.distributions.observed`); else they are refused at the door.
        any_scale: True where columns may have any scale, as where a recipe starts from the rows' own; else a fit warns
            of those far from one.
        may_empty: True where clusters are meant to lose all their rows, so that a fit does not warn of empty ones.
        feature_names: the names of the columns that the story was fitted to, in its order, where they had any: tables
            with names are put in this order, and those with other names are refused. `pc.save` keeps them.
        arguments: the constructor's arguments, recorded, from which `pc.load` and restarts build the story anew.

    Examples:
        >>> import pyro, pyro.distributions as dist, torch
        >>> class Poissons(Story):
        ...     def __init__(self, n_features, n_clusters):
        ...         super().__init__(n_features=n_features, n_clusters=n_clusters)
        ...         self.log_rate = torch.nn.Parameter(torch.randn(n_clusters, n_features))
        ...     def model(self, x):
        ...         with pyro.plate("data", x.shape[0]):
        ...             k = pyro.sample("cluster", dist.Categorical(torch.ones(self.n_clusters)))
        ...             pyro.sample("x", dist.Poisson(self.log_rate[k].exp()).to_event(1), obs=x)
        ...     def guide(self, x):
        ...         pass
        >>> Poissons(3, n_clusters=2).arguments
        {'n_features': 3, 'n_clusters': 2}
    """

    conditional: bool = False
    is_density: bool = True
    missing: bool = False
    may_empty: bool = False
    any_scale: bool = False
    weights: Any
    feature_names: tuple[str, ...] | None = None

    def __init__(self, *, n_features: int, n_clusters: int, global_guide: GuideKind = "map") -> None:
        super().__init__()
        self.n_features = positive("n_features", n_features)
        self.n_clusters = positive("n_clusters", n_clusters)
        self.global_guide_kind = checked_kind(global_guide)
        self.globals: GlobalGuide | None = None

    def __getattr__(self, name: str) -> Any:
        """An attribute; for one release also what a story's codec or experts took over from it, its encoder say."""
        for place in ("codec", "experts"):
            part = self.__dict__.get("_modules", {}).get(place)
            if name in getattr(part, "earlier", ()) and getattr(part, name, None) is not None:
                message = f"probclust.{type(self).__name__}.{name} has moved to its {place}.{name}"
                warnings.warn(f"{message}; the old name goes with the next release", DeprecationWarning, stacklevel=2)
                return getattr(part, name)
        return super().__getattr__(name)

    def model(self, x: Tensor) -> Any:
        """The generative story p(cluster, latents, x); `x` is (rows, n_features)."""
        raise NotImplementedError(f"{type(self).__name__} must define model(self, x)")

    def guide(self, x: Tensor) -> Any:
        """The approximate posterior q(latents | x), and q(cluster | x) or q(z | x, cluster) where wanted."""
        raise NotImplementedError(f"{type(self).__name__} must define guide(self, x)")

    def generative(self, x: Tensor) -> Any:
        """What `pc.sample` draws from, given a placeholder of as many rows: `model`, unless that conditions on `x`.

        A conditional story may define another here, with the sites "cluster" and the observed ones.
        """
        if self.conditional:
            raise ValueError(
                f"{type(self).__name__} conditions on x (conditional = True), so it has no distribution of x to "
                "sample from; use pc.reconstruct(story, x)"
            )
        return self.model(x)

    def recipe(self) -> Sequence[Step] | None:
        """The training steps that the story's paper uses, warm start first; None for plain SVI."""
        return None

    def start_weights(self, shares: Tensor, n_rows: int) -> None:
        """Start p(cluster), the part `self.weights`, and its posterior where it has a prior, from a start's clusters.

        Args:
            shares: (K,) of the rows in each starting cluster; positive, of sum 1.
            n_rows: how many rows there are.
        """
        laws = self.weights.start(shares, n_rows)
        if self.globals is not None:
            self.globals.start(laws)

    def complete_guide(self, x: Tensor) -> Any:
        """`guide`, preceded by the automatic guide of the global latents that it leaves out."""
        if self.globals is not None:
            self.globals()
        return self.guide(x)

    def constructed(self) -> None:
        """Read facts off the parts, and add the automatic guide of the global latents, once the constructor is through.

        A story is no density where a part is none; entries may be missing where a likelihood allows it, and clusters
        may stay empty where their weights have it so.
        """
        parts = [part for part in self.modules() if part is not self]
        for fact, has_it in (
            ("is_density", self.is_density and all(getattr(part, "is_density", True) for part in parts)),
            ("missing", self.missing or any(getattr(part, "allows_missing", False) for part in parts)),
            ("may_empty", self.may_empty or any(getattr(part, "may_empty", False) for part in parts)),
        ):
            if not isinstance(getattr(type(self), fact), property):  # where a class computes it, it knows better
                setattr(self, fact, has_it)
        keep_own_parameters(self)
        self.add_global_guide()
        self.__dict__["_frozen_by_itself"] = {name for name, p in self.named_parameters() if not p.requires_grad}

    @alone
    def use_global_guide(self, kind: GuideKind) -> None:
        """Replace the automatic guide of the global latents by one of `kind`, "map", "normal" or "conjugate"."""
        self.globals, self.global_guide_kind = None, checked_kind(kind)
        self.add_global_guide()

    @alone
    def redraw(self) -> None:
        """Draw all weights that are trained anew, in place, as the constructor draws them.

        Frozen parameters (`requires_grad` False) and buffers stay, but for the running statistics of layers that are
        trained.

        Raises:
            TypeError: parts stand among the arguments where they cannot be built anew.
        """
        again: Story = fresh(self)
        shared = {id(parameter) for parameter in again.parameters() if parameter.requires_grad}
        for name, parameter in self.named_parameters():
            if id(parameter) in shared:
                raise TypeError(
                    f"a restart needs fresh weights, but '{name}' belongs to an object among the arguments of "
                    f"{type(self).__name__} that cannot be built anew; pass parts as they are, or in lists, tuples, "
                    "mappings or dataclasses"
                )
        if again.global_guide_kind != self.global_guide_kind:
            again.use_global_guide(self.global_guide_kind)
        drawn = again.state_dict()
        self.load_state_dict({name: drawn[name] for name in trained_state(self) & drawn.keys()}, strict=False)

    @alone
    def add_global_guide(self) -> None:
        """Give the global latents that `guide` leaves out their automatic guide, if there are any."""
        from probclust.story.joint import global_sites

        if self.globals is None:
            sites = global_sites(self)
            if sites:
                self.globals = GlobalGuide(sites, self.global_guide_kind)

    @property
    def device(self) -> torch.device:
        """Where the story's parameters are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the story's parameters; rows are cast to it."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.get_default_dtype())


def frozen_by_the_user(story: Story) -> dict[str, Tensor]:
    """Parameters with `requires_grad` False, by name, less those that the story's constructor made so."""
    own = story.__dict__.get("_frozen_by_itself", ())
    return {name: p for name, p in story.named_parameters() if not p.requires_grad and name not in own}


def trained_state(story: Story) -> set[str]:
    """Names of `state_dict` that belong to training: parameters that are not frozen, and statistics of their layers."""
    found = {name for name, p in story.named_parameters(remove_duplicate=False) if p.requires_grad}
    for path, layer in story.named_modules(remove_duplicate=False):
        trains = any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
        if trains and hasattr(layer, "reset_running_stats"):
            found |= {f"{path}.{name}" for name, _ in layer.named_buffers(recurse=False)}
    return found


def checked_story(story: Any) -> None:
    """Raise a TypeError where this is no instance of a story, a ValueError where its weights are in half precision."""
    if not isinstance(story, Story):
        got = f"the class {story.__name__}; call it" if isinstance(story, type) else type(story).__name__
        raise TypeError(f"expected a probclust.Story (an instance), got {got}")
    if story.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{type(story).__name__} has parameters of {story.dtype}, in which densities lose their digits; expected "
            "torch.float32 or torch.float64: story.float() (pc.fit's precision='bf16-mixed' saves time)"
        )


def check_state(story: Story) -> None:
    """Raise a TypeError where a module keeps what is no tensor beside its parameters: no checkpoint could hold it."""
    for name, value in story.state_dict().items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"module '{name.removesuffix('._extra_state')}' of {type(story).__name__} keeps a "
                f"{type(value).__name__} as its extra state (get_extra_state), which checkpoints and saved stories "
                "cannot hold; return a tensor there, or keep it in buffers by register_buffer"
            )
