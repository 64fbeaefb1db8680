"""Options that several commands share, and the reading of NAME=VALUE."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from probclust.cli.run_folder import RunFolder
    from probclust.story.story import Story

DATA_HELP = "A data set (digits, mnist, ...), or a .npz, .npy, .csv, .tsv or .parquet file."

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")]
RunPaths = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")]
Data = Annotated[str, typer.Option("--data", metavar="NAME|PATH", help=DATA_HELP)]
Label = Annotated[
    str | None,
    typer.Option(
        "--label", metavar="COLUMN", help="Column of a .csv, .tsv or .parquet file with the labels; they only score."
    ),
]
ImageShape = Annotated[
    str | None, typer.Option("--image-shape", metavar="HxW", help="Each row is an image of this height and width.")
]
Stories = Annotated[
    list[str] | None,
    typer.Option(
        "--story", metavar="FILE.py:CLASS", help="Class of a run's story that is not installed; may be repeated."
    ),
]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the numbers to this JSON file.")]
Particles = Annotated[int, typer.Option("--particles", min=1, help="Draws per row for the bound on log p(x).")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")]


Reading = dict[str, Any]
"""Options of `probclust.data.read` that say how a table is to be read; those given alone."""


def _option(name: str, kind: Any, help: str, metavar: str | None = None) -> inspect.Parameter:
    option = typer.Option(name, metavar=metavar, help=help)
    return inspect.Parameter(
        name.partition("/")[0].removeprefix("--"),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind, option],
    )


READING = [
    _option("--header/--no-header", bool | None, "Whether the first line holds the names of the columns."),
    _option("--index", str | None, "Column that numbers the rows: a name, or true (the first) or false.", "COLUMN"),
    _option("--separator", str | None, "Of cells: one character, tab or space.", "CHARACTER"),
    _option("--decimal", str | None, "The decimal point, or a comma.", "CHARACTER"),
    _option("--encoding", str | None, "Of a table of text, such as utf-8 or cp1252.", "NAME"),
    _option("--columns", list[str] | None, "Feature to take; may be repeated. Without it, all columns.", "COLUMN"),
    _option("--drop", list[str] | None, "Column to leave out; may be repeated.", "COLUMN"),
]


def reads_tables(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `READING`; it takes them as one argument, `reading`."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "reading"]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        reading = {parameter.name: given.pop(parameter.name) for parameter in READING}
        if isinstance(reading["index"], str):
            reading["index"] = {"true": True, "false": False}.get(reading["index"].lower(), reading["index"])
        command(**given, reading={name: value for name, value in reading.items() if value is not None and value != []})

    by_name = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    run.__signature__ = signature.replace(parameters=[*by_name, *READING])  # type: ignore[attr-defined]
    return run


def open_runs(paths: Sequence[Path], stories: Sequence[str] | None) -> dict[str, tuple[RunFolder, Story]]:
    """The runs in those folders by name, with their stories; a name that comes twice becomes the whole path."""
    from probclust.cli.run_folder import RunFolder
    from probclust.story.registry import register, story_class

    for name in stories or ():
        register(story_class(name))
    folders = [RunFolder(path) for path in paths]
    names = [folder.name for folder in folders]
    labels = [name if names.count(name) == 1 else str(folder.path) for name, folder in zip(names, folders, strict=True)]
    if len(set(labels)) < len(labels):
        raise ValueError(f"each RUN may be given once, got {', '.join(labels)}")
    return {label: (folder, folder.story()) for label, folder in zip(labels, folders, strict=True)}


def keyword_arguments(option: str, settings: Sequence[str] | None, target: Callable[..., Any]) -> dict[str, Any]:
    """Arguments of `target` from NAME=VALUE texts; values are JSON, and a bare word is a string.

    Args:
        option: the option they were given by, for errors.
        settings: the texts.
        target: the function or class whose arguments they are.

    Raises:
        ValueError: `target` has no such argument, or the value is no JSON.
    """
    parameters = inspect.signature(target).parameters.values()
    accepted = [
        p.name for p in parameters if p.name not in ("self", "n_features", "n_clusters") and p.kind != p.VAR_KEYWORD
    ]
    arguments: dict[str, Any] = {}
    for setting in settings or ():
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"{option} must be NAME=VALUE, got {setting!r}")
        if name in ("n_features", "n_clusters"):
            raise ValueError(
                f"{option} {name}: the number of features is the data's, and --clusters gives the clusters"
            )
        if name not in accepted and not any(p.kind == p.VAR_KEYWORD for p in parameters):
            raise ValueError(f"{option} {name}: no such argument; expected one of {', '.join(accepted) or 'none'}")
        arguments[name] = _value(option, name, text)
    return arguments


def _value(option: str, name: str, text: str) -> Any:
    from probclust.story.saving import build

    try:
        value = json.loads(text)
    except ValueError:
        if not re.fullmatch(r"[A-Za-z][\w./:-]*", text):
            raise ValueError(
                f"{option} {name}: the value must be JSON, such as 10, [500,100] or true, got {text!r}"
            ) from None
        return text
    if isinstance(value, dict) and "class" in value:  # a part, as a run's record describes it
        try:
            return build({"arguments": {}, **value}, {}, {})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{option} {name}: {error}") from error
    return value
