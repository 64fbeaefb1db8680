"""What the command line prints: whole numbers on narrow terminals, and plain letters where an encoding lacks a sign."""

from __future__ import annotations

import codecs
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SPELLED = "probclust.spelled"
"""Name of the error handler that spells out what an encoding lacks."""
_PLAIN = {"±": "+/-", "≥": ">=", "≤": "<=", "−": "-", "–": "-", "→": "->", "…": "...", "×": "x", "“": '"', "”": '"'}


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    out = b""
    for sign in error.object[error.start : error.end]:
        if 0xDC80 <= ord(sign) <= 0xDCFF:  # a byte of a file's name, as the system gave it
            out += bytes([ord(sign) - 0xDC00])
        else:
            out += _PLAIN.get(sign, sign).encode("ascii", "backslashreplace")
    return out, error.end


codecs.register_error(SPELLED, _spell)


def spell_out() -> None:
    """Let standard output and error spell out, by ASCII, what their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=SPELLED)


def console() -> Console:
    """Where a command prints its tables; wide where it is no terminal, so that nothing is cut off in a file."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def show(table: Table) -> None:
    """Print a table at its own width: on a narrower terminal its lines run on below, and no number is cut."""
    out = console()
    unbounded = out.options.update(max_width=10_000)
    needed = out.measure(table, options=unbounded)
    out.width = max(out.width, needed.maximum if any(column.no_wrap for column in table.columns) else needed.minimum)
    out.print(table)
