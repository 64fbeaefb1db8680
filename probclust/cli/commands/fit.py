"""`probclust fit`: fit a story and keep it in a run folder."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probclust.cli.commands.options import Data, ImageShape, Label, Reading, Seed, keyword_arguments, reads_tables

if TYPE_CHECKING:
    from probclust.cli.run_folder import RunFolder


@reads_tables
def fit(
    story: Annotated[str, typer.Argument(metavar="STORY", help="Name of a story, or path/to/file.py:Class.")],
    data: Data,
    reading: Reading,
    out: Annotated[
        Path, typer.Option("--out", metavar="RUN", help="Folder for the story, its record and its checkpoint.")
    ],
    label: Label = None,
    clusters: Annotated[int, typer.Option("--clusters", min=1, help="Number of clusters.")] = 10,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs of the SVI steps.")] = None,
    seed: Seed = 0,
    restarts: Annotated[
        int, typer.Option("--restarts", min=1, help="Starts; the one with the largest bound is kept.")
    ] = 1,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Starts at a time, in a process each; without it, in turn.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Rows per batch.")] = 256,
    objective: Annotated[
        str | None,
        typer.Option("--objective", metavar="NAME", help="Such as exact or hard, instead of the recipe's."),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Of the SVI steps.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    devices: Annotated[
        int, typer.Option("--devices", min=1, help="Devices that share each batch, in a process each.")
    ] = 1,
    engine: Annotated[str, typer.Option("--engine", help="auto, eager, staged or compiled.")] = "auto",
    image_shape: ImageShape = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Argument of the story's constructor, a JSON value."),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", metavar="NAME=VALUE", help="Argument of the story's recipe, a JSON value."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a fit that was stopped.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what RUN holds.")] = False,
) -> None:
    """Fit a story to data and keep it in RUN. Labels are not used."""
    from probclust.cli.run_folder import RunFolder
    from probclust.cli.source import read_source
    from probclust.data.writing import check_writable
    from probclust.fitting.building import new_story, recipe_arguments
    from probclust.fitting.engine.eager import checked_engine
    from probclust.story.registry import story_class

    if resume and force:
        raise ValueError("--resume continues a fit and --force starts it anew; give one of them")
    folder = RunFolder(out)
    _refuse_to_overwrite(folder, resume=resume, force=force)
    check_writable(folder.story_file, "--out")
    chosen = story_class(story)
    arguments = keyword_arguments("--set", settings, chosen.__init__)
    takes_missing = bool(arguments.get("missing", chosen.missing))
    source = read_source(data, label, image_shape, reading, missing=takes_missing)
    given = keyword_arguments("--recipe", recipe, chosen.recipe)
    built = new_story(chosen, source.x.shape[1], clusters, seed, arguments)

    import probclust as pc

    if force:
        for file in (folder.story_file, folder.record_file, folder.checkpoint_file):
            file.unlink(missing_ok=True)
    try:
        record = pc.fit(
            built,
            source.x,
            epochs=epochs,
            batch_size=batch_size,
            objective=objective,
            seed=seed,
            device=device,
            devices=devices,
            checkpoint=folder.checkpoint_file,
            resume=resume,
            n_init=restarts,
            jobs=jobs,
            recipe=recipe_arguments(chosen, source.known(), given),
            learning_rate=learning_rate,
            engine=checked_engine(engine),
        )
    except KeyboardInterrupt:
        typer.echo(_how_to_resume(folder), err=True)
        raise typer.Exit(130) from None
    folder.write(built, json.loads(record.to_json()), source.facts())
    kept = f", restart {record.restart + 1} of {restarts}" if restarts > 1 else ""
    what = "bound" if built.is_density and not built.conditional else "objective"  # no bound on log p(x)
    typer.echo(f"{folder.story_file}: {what} {record.bound:.3f} nats per row{kept}, {record.seconds:.1f} s")


def _refuse_to_overwrite(folder: RunFolder, *, resume: bool, force: bool) -> None:
    if folder.path.exists() and not folder.path.is_dir():
        raise FileExistsError(f"--out {folder.path} is a file; expected a folder")
    if force:
        return
    if folder.story_file.exists():
        advice = "nothing is left to resume" if resume else "give another --out, or --force to replace it"
        raise FileExistsError(f"{folder.path} holds a finished story; {advice}")
    if folder.checkpoint_file.exists() and not resume:
        raise FileExistsError(
            f"{folder.path} holds an unfinished fit; continue it with --resume, or start anew with --force"
        )


def _how_to_resume(folder: RunFolder) -> str:
    if not folder.checkpoint_file.exists():
        return "probclust: stopped before the first checkpoint; nothing was kept"
    words = [word for word in sys.argv[1:] if word not in ("--force", "--resume")]
    return f"probclust: stopped; continue with: {shlex.join(['probclust', *words, '--resume'])}"
