"""Where modules were before they had rooms: old paths work for one release, and in saved files for good."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED: dict[str, tuple[str, ...]] = {
    "alignment": ("evaluation.matching",),
    "architectures": ("networks.architectures",),
    "archive": ("story.archive",),
    "as_pyro": ("story.as_pyro",),
    "augmentation": ("starts.augmentation",),
    "batches": ("data.batches",),
    "bessel": ("distributions.bessel",),
    "block_likelihood": ("starts.clusterers.block_likelihood",),
    "building": ("fitting.building",),
    "candidates": ("objectives.candidates",),
    "checkpoint": ("fitting.checkpoint",),
    "chosen_start": ("starts.start",),
    "code_density": ("priors.codes",),
    "commands": ("cli.commands",),
    "commands.compare": ("cli.commands.compare",),
    "commands.demo": ("cli.commands.demo",),
    "commands.evaluate": ("cli.commands.evaluate",),
    "commands.fit": ("cli.commands.fit",),
    "commands.options": ("cli.commands.options",),
    "commands.report": ("cli.commands.report",),
    "commands.sample": ("cli.commands.sample",),
    "commands.stories": ("cli.commands.stories",),
    "comparison": ("evaluation.comparison",),
    "comparison_table": ("cli.page.table",),
    "constraints": (
        "story.pairs",
        "objectives.penalties",
    ),
    "contract": ("story.contract", "story.support"),
    "convolutions": ("networks.convolutions",),
    "count_distributions": ("distributions.counts",),
    "demo": ("cli.demonstration",),
    "devices": ("fitting.devices.group",),
    "diagonal_normal": ("distributions.diagonal_normal",),
    "dissimilarities.base": ("priors.dissimilarities.base",),
    "dissimilarities.cosine": ("priors.dissimilarities.cosine",),
    "dissimilarities.custom": ("priors.dissimilarities.custom",),
    "dissimilarities.named": ("priors.dissimilarities.named",),
    "dissimilarities.norms": ("priors.dissimilarities.norms",),
    "dissimilarities.quadratic": ("priors.dissimilarities.quadratic",),
    "embedding_start": ("starts.embedding", "starts.following"),
    "engines": ("fitting.engine.eager",),
    "experts": ("networks.experts",),
    "figures": (
        "cli.page.figures",
        "generate.image_grid",
    ),
    "findings": ("evaluation.findings",),
    "finite": ("story.finite",),
    "fit_loop": ("fitting.loop",),
    "fourier_features": ("starts.fourier",),
    "gaussian_em": ("starts.clusterers.gaussian_em",),
    "gaussian_merging": ("starts.clusterers.gaussian_merging",),
    "global_guide": ("story.global_guide",),
    "graph_code": ("fitting.engine.code",),
    "graph_pass": ("fitting.engine.simplify",),
    "graph_rules": ("fitting.engine.rules",),
    "hidden_markov": ("starts.clusterers.hidden_markov",),
    "image_distortion": ("starts.clusterers.image_distortion",),
    "image_shape": ("data.kinds",),
    "importance": ("story.importance",),
    "imputation": ("generate.imputation", "distributions.incomplete", "generate.particles"),
    "inference_data": ("evaluation.inference_data",),
    "installed": ("story.installed",),
    "joint": ("story.joint", "story.finite"),
    "label_spreading": ("starts.clusterers.label_spreading",),
    "latent_tree": ("distributions.latent_tree",),
    "launching": ("fitting.devices.launch",),
    "layerwise": ("starts.layerwise",),
    "learning_rate": ("fitting.learning_rate",),
    "likelihoods.incomplete_counts": ("distributions.incomplete_counts",),
    "likelihoods.interface": ("likelihoods.base",),
    "measure": ("evaluation.measure",),
    "medoids": ("starts.medoids",),
    "missing": (
        "distributions.observed",
        "starts.labels",
        "distributions.base",
    ),
    "modes": ("generate.mode", "distributions.base"),
    "module_parameters": ("story.module_parameters",),
    "monitor": ("objectives.monitor",),
    "nearest_neighbours": ("starts.clusterers.neighbours",),
    "neighbour_embedding": ("starts.clusterers.neighbour_embedding",),
    "neighbour_votes": ("starts.clusterers.graphs",),
    "off_border": ("distributions.off_border",),
    "paths": ("generate.interpolation",),
    "perceptrons": ("networks.fused",),
    "placement": ("story.placement",),
    "precision": (
        "fitting.precision",
        "distributions.full_precision",
    ),
    "predictive_checks": ("evaluation.predictive_checks",),
    "preview": ("generate.preview",),
    "prior": ("priors.base",),
    "program_state": ("fitting.engine.state",),
    "prototypes": ("evaluation.prototype",),
    "pyro_elbo": ("objectives.pyro_elbo",),
    "reach": ("fitting.engine.reach",),
    "recipe": ("story.recipe",),
    "record": ("fitting.record",),
    "recorded": ("part",),
    "recorded_loss": ("fitting.engine.graph",),
    "registry": ("story.registry", "story.installed", "story.story_file"),
    "report": ("cli.page.reports", "cli.page.page"),
    "rescaling": ("evaluation.rescaling",),
    "restarts": ("fitting.restarts",),
    "row_totals": ("fitting.row_totals",),
    "rows": (
        "story.rows",
        "story.chunks",
    ),
    "run_folder": (
        "cli.run_folder",
        "data.writing",
    ),
    "sampling": (
        "generate.sampling",
        "story.columns",
        "generate.embedding",
    ),
    "scale": ("fitting.scale",),
    "score_function": ("objectives.score_function",),
    "scoring": ("story.scoring",),
    "select_clusters": ("evaluation.selection",),
    "self_training": ("starts.self_training",),
    "sequence_start": (
        "starts.recordings",
        "data.kinds",
    ),
    "shared_draws": ("fitting.devices.shared_draws",),
    "sites": ("story.sites", "distributions.base"),
    "source": ("cli.source",),
    "stability": ("evaluation.refits",),
    "staging": ("fitting.engine.staged",),
    "start_sample": ("fitting.start_sample",),
    "starting_labels": ("starts.labels",),
    "step_loss": ("fitting.loss",),
    "steps": ("fitting.steps",),
    "stirling": ("distributions.stirling",),
    "storage": ("story.saving",),
    "story_file": ("story.story_file",),
    "support": ("story.support", "distributions.base"),
    "tempering": (
        "distributions.tempered",
        "distributions.tempered_counts",
        "generate.tempering",
    ),
    "terminal": ("cli.terminal",),
    "training": ("fitting.trainer",),
    "tree_search": ("priors.latent_tree.search",),
    "untouched": ("story.untouched",),
    "untraceable": ("fitting.engine.why",),
    "warm_start": (
        "starts.neighbours",
        "starts.autoencoder",
        "starts.decoder",
        "distributions.softplus",
        "priors.codes",
        "networks.codes",
        "starts.clusters",
        "starts.experts",
    ),
    "watched": ("fitting.engine.watched",),
    "word_vectors": ("starts.clusterers.word_vectors",),
    "words_start": ("starts.documents",),
    "writing": ("data.writing",),
}
"""Modules of 0.1.0 below `probclust`, and those that have their names now."""


def now(module: str) -> tuple[str, ...]:
    """The modules in which the names of `module` are today, the first of them first; none where it never moved."""
    package, _, rest = module.partition(".")
    return tuple(f"{package}.{new}" for new in MOVED.get(rest, ()))


class _ByName(ModuleType):
    """A module that is pickled by its name, as any is, where a function that uses it is sent to another process."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Import it there."""
        return importlib.import_module, (self.__name__,)


class _Old(_ByName):
    """A module of an old name."""


class _Package(_ByName):
    """`probclust`, whose public names stay what they are when an old module of the same name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, as the import of a module does."""
        if not (isinstance(value, _Old) and name in self.__all__):
            super().__setattr__(name, value)


class _Moved(Loader):
    """Makes a module of an old name, whose attributes are those of the new ones."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """An empty module that looks names up in the new ones."""
        module = _Old(spec.name, f"Moved to {' and '.join(now(spec.name))}.")

        def attribute(name: str) -> Any:
            for new in () if name.startswith("__") else now(spec.name):  # its own path, loader and the like
                found = importlib.import_module(new)
                if hasattr(found, name):
                    return getattr(found, name)
            raise AttributeError(f"module {spec.name!r} has no attribute {name!r}; it moved to {now(spec.name)}")

        module.__dict__["__getattr__"] = attribute
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Warn whoever imports it."""
        warnings.warn(
            f"{module.__name__} has moved to {' and '.join(now(module.__name__))}; the old path goes with the next "
            "release",
            DeprecationWarning,
            stacklevel=2,
        )


class _Finder(MetaPathFinder):
    """Finds modules of old names."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """A module that moved, None for any other."""
        if fullname.startswith("probclust.") and now(fullname):
            package = any(old.startswith(f"{fullname.removeprefix('probclust.')}.") for old in MOVED)
            return ModuleSpec(fullname, _Moved(), is_package=package)
        return None


def serve_old_paths() -> None:
    """Let old paths be imported; called once, by `probclust`."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
    sys.modules["probclust"].__class__ = _Package
