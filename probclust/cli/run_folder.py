"""The folder of a run: the fitted story, the record of its fit and, while it lasts, its checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probclust.data.writing import replace_text
from probclust.errors import SavedStoryError
from probclust.story.rows import digest_of
from probclust.story.saving import load, save
from probclust.story.story import Story
from probclust.story.story_file import FILE_MODULE


@dataclass(frozen=True)
class RunFolder:
    """A run on disk; nothing in it is ever executed.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def story_file(self) -> Path:
        """The fitted story; where it stands, the run is finished."""
        return self.path / "story.safetensors"

    @property
    def record_file(self) -> Path:
        """What was fitted, on what, and how it went."""
        return self.path / "record.json"

    @property
    def checkpoint_file(self) -> Path:
        """The state of a fit that is not finished."""
        return self.path / "checkpoint.safetensors"

    def write(self, story: Story, fit: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        """Write a finished run, its story last, and drop the checkpoint.

        Args:
            story: the fitted story.
            fit: the record of its fit, as JSON has it.
            data: facts about the rows: source, label, rows, features, image_shape.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        replace_text(self.record_file, json.dumps({"data": dict(data), "fit": dict(fit)}, indent=1))
        kept = {"bound": fit["bounds"][fit["restart"]], "seconds": fit["seconds"], "versions": fit["versions"]}
        save(story, self.story_file, {**kept, "data": dict(data)})
        self.checkpoint_file.unlink(missing_ok=True)

    def story(self) -> Story:
        """The fitted story.

        Raises:
            FileNotFoundError: there is no finished run here.
            SavedStoryError: it is damaged, or its class is not registered.
        """
        if not self.story_file.is_file():
            unfinished = (
                " (its fit is not finished: continue it with --resume)" if self.checkpoint_file.exists() else ""
            )
            raise FileNotFoundError(
                f"{self.path} holds no finished run{unfinished}; expected {self.story_file.name} in it"
            )
        try:
            return load(self.story_file)
        except SavedStoryError as error:
            if "is not registered" in str(error):
                file = re.search(rf"{FILE_MODULE}(\w+):", str(error))
                named = f", a file named {file[1]}.py as at the fit" if file else ""
                raise SavedStoryError(f"{error} (on the command line: --story path/to/file.py:Class{named})") from error
            raise

    def record(self) -> dict[str, Any]:
        """The facts that `write` kept: "data" and "fit".

        Raises:
            FileNotFoundError: there is no record.
            SavedStoryError: it is damaged.
        """
        if not self.record_file.is_file():
            raise FileNotFoundError(f"{self.path} holds no finished run; expected {self.record_file.name} in it")
        try:
            facts = json.loads(self.record_file.read_text(encoding="utf-8"))
            known = isinstance(facts["data"], dict) and isinstance(facts["fit"]["history"], list)
        except (ValueError, KeyError, TypeError) as error:
            raise SavedStoryError(f"{self.record_file} is damaged ({error}); restore a copy or fit again") from error
        if not known:
            raise SavedStoryError(f"{self.record_file} is damaged; restore a copy or fit again")
        return dict(facts)

    def was_fitted_to(self, story: Story, x: Any) -> bool | None:
        """Whether rows of any kind are those of the fit, value by value; None where the record does not say."""
        if not self.record_file.is_file():
            return None
        fitted = self.record()["fit"]["settings"].get("data")
        return None if fitted is None else bool(fitted == digest_of(story, x))
