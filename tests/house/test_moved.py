"""Old paths work for one release: each module of the flat folder, and each public name that it had."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import probclust as pc
from probclust.moved import MOVED, now

OLD: dict[str, str] = json.loads((Path(__file__).parent / "old_names.json").read_text(encoding="utf-8"))
"""Public names defined by each module before there were rooms, in commits 061441d and 743c1e9."""

REMOVED = {
    "probclust.chosen_start": "FROM_ROWS chosen_pretraining pretrained_start start_from_rows",  # probclust.starts.Start
    "probclust.cli": "app main options",  # the entry point is probclust.cli.main:main
    "probclust.commands.options": "console",  # never used outside its module, nor are the others without a remark
    "probclust.comparison": "Entry",  # probclust.evaluation.evaluation.View
    "probclust.data.files": "CSR_PARTS",
    "probclust.dissimilarities.named": "BY_NAME",  # dissimilarities_by_name()
    "probclust.distributions": "UnitLength unit_length",
    "probclust.findings": "scores",  # probclust.evaluate
    "probclust.fitting": "GPU_SHARE LEARNT",
    "probclust.fourier_features": "FEATURES",  # run.memory.features, as with the other names of what steps leave
    "probclust.global_guide": "Kind",  # probclust.story.GuideKind
    "probclust.likelihoods.named": "BY_NAME",  # likelihoods_by_name()
    "probclust.likelihoods.totals": "given_totals",
    "probclust.missing": "centre",  # probclust.distributions.base.typical
    "probclust.models.dgg": "jensen_shannon",  # probclust.objectives.linked
    "probclust.networks": "ACTIVATIONS bounded_scale checked_network",
    "probclust.priors.latent_tree": "SEARCH_ROWS START_ROWS",
    "probclust.program_state": "Attributes",
    "probclust.recorded_loss": "places_of",  # probclust.fitting.engine.state.place_of, of one tensor
    "probclust.report": "comparison_section reproduction_section story_section",
    "probclust.restarts": "Job Report fit_side_by_side merge",  # probclust.fit(n_init=, jobs=)
    "probclust.self_training": "TARGET TARGET_LABELS",
    "probclust.shared_draws": "current_share shared_draw sharing",  # probclust.fitting.devices.shared_draws.SharedDraws
    "probclust.starting_labels": "EMBEDDING FILLED",
    "probclust.warm_start": "Augment MEMBERS SIZES",
    "probclust.weights": "start_weights",  # a method of Story
}
"""Names that are gone on purpose; all else is found under its old path."""


@pytest.mark.parametrize("old", OLD)
def test_every_name_is_found_under_its_old_path(old: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sys.modules.pop(old, None) if now(old) else None
        module = importlib.import_module(old)
    told = [w for w in caught if issubclass(w.category, DeprecationWarning) and "has moved to" in str(w.message)]
    assert bool(now(old)) == any(f"{old} has moved to {now(old)[0]}" in str(w.message) for w in told)
    rooms = [found for name, found in sys.modules.items() if name.startswith("probclust.")]
    gone = {name for name in OLD[old].split() if getattr(module, name, rooms[0]) in rooms}  # a module is no old name
    assert gone == set(REMOVED.get(old, "").split()), "add the new module to probclust/moved.py, or name it as removed"
    for name in set(OLD[old].split()) - gone:
        found = getattr(module, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert found.__module__ != old or not now(old), "what is found is today's object"


def test_all_that_moved_was_there() -> None:
    packages = {old.rpartition(".")[0] for old in MOVED}
    later = {"dissimilarities"} | packages
    assert {f"probclust.{old}" for old in MOVED if old not in later} <= OLD.keys()


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_leads_to_modules_that_are_there(old: str) -> None:
    for new in now(f"probclust.{old}"):
        assert importlib.util.find_spec(new) is not None


def test_old_paths_give_the_objects_of_today() -> None:
    for path in ("probclust.recipe", "probclust.warm_start"):
        sys.modules.pop(path, None)
    told = r"probclust\.recipe has moved to probclust\.story\.recipe; the old path"
    with pytest.warns(DeprecationWarning, match=told):
        recipe = importlib.import_module("probclust.recipe")
    assert recipe.SVI is pc.SVI
    with pytest.warns(DeprecationWarning, match="warm_start has moved"):
        old = importlib.import_module("probclust.warm_start")
    assert old.kmeans_start is pc.starts.kmeans_start
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'; it moved to"):
        _ = old.nothing


@pytest.mark.filterwarnings("ignore:probclust.* has moved:DeprecationWarning")
@pytest.mark.parametrize("name", sorted(set(pc.__all__) & MOVED.keys()))
def test_an_old_module_does_not_hide_the_public_name_that_it_shares(name: str) -> None:
    public = getattr(pc, name)
    sys.modules.pop(f"probclust.{name}", None)
    importlib.import_module(f"probclust.{name}")
    assert getattr(pc, name) is public


def test_the_warning_points_to_who_imports(tmp_path: Path) -> None:
    program = tmp_path / "old.py"
    program.write_text("import probclust\nfrom probclust.scoring import elbo\nprint(elbo is probclust.elbo)\n")
    command = [sys.executable, "-W", "always::DeprecationWarning:__main__", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "True\n", done.stderr
    assert "old.py:2: DeprecationWarning: probclust.scoring has moved to probclust.story.scoring" in done.stderr
