"""The command line: `probclust`, with a command for each step from data to report."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from probclust import __version__
from probclust.cli.commands.compare import compare
from probclust.cli.commands.demo import demo
from probclust.cli.commands.evaluate import evaluate
from probclust.cli.commands.fit import fit
from probclust.cli.commands.report import report
from probclust.cli.commands.sample import sample
from probclust.cli.commands.stories import stories
from probclust.cli.terminal import spell_out
from probclust.errors import FitWarning

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Deep generative clustering as probabilistic programs: fit, score, sample and compare stories of clusters.",
)
for command in (stories, fit, evaluate, compare, sample, report, demo):
    app.command()(command)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"probclust {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what a command does.")] = False,
) -> None:
    """Set up logging."""
    if verbose:
        import logging

        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        logging.getLogger("probclust").setLevel(logging.INFO)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 the run failed, 2 wrong use, 130 stopped by Ctrl-C.

    Wrong use prints one line on standard error. With PROBCLUST_TRACEBACK set, the traceback is shown instead.
    """
    spell_out()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            warnings.simplefilter("always", FitWarning)
            code = app(None if arguments is None else list(arguments), standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = _say("stopped", 130)
    except Exception as error:
        if os.environ.get("PROBCLUST_TRACEBACK"):
            raise
        code = _explain(error)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    """Print an error that the user can mend as one line; others are bugs and keep their traceback."""
    if hasattr(error, "format_message"):  # wrong options and arguments, as Typer found them
        return _say(f"{error.format_message()} (see probclust --help)", 2)
    place = _place(error)
    if place is not None:  # in the user's own file
        said = f"{place}: {type(error).__name__}: {error} (PROBCLUST_TRACEBACK=1 shows how it came to that)"
        return _say(said, 1 if isinstance(error, ArithmeticError | RuntimeError) else 2)
    if isinstance(error, UnicodeError) and sys.getfilesystemencoding() != "utf-8":
        return _say(f"{error}; this locale has no letters for such names: set PYTHONUTF8=1 or LC_ALL=C.UTF-8", 2)
    if isinstance(error, ValueError | TypeError | OSError | ImportError):
        return _say(str(error), 2)
    if isinstance(error, ArithmeticError | RuntimeError):
        return _say(str(error), 1)
    raise error


def _place(error: Exception) -> str | None:
    """File and line of a story's own file in which an error came up; None where none is involved."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    from probclust.story.story_file import FILE_MODULE

    place = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if FILE_MODULE in frame.f_globals.get("__name__", ""):
            place = f"{frame.f_code.co_filename}:{line}"
    return place


def _say(message: str, code: int) -> int:
    typer.echo(f"probclust: {' '.join(message.split())}", err=True)
    return code


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    _say(f"warning: {message}", 0)
