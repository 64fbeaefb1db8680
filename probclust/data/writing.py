"""Places to write to: tried before the work whose outcome goes there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def check_writable(path: Path, name: str = "path") -> None:
    """Raise where no file can be written at `path`; nothing is left there.

    Folders that do not exist yet may be made.

    Args:
        path: of a file, which may exist.
        name: the argument or option that it came by, for errors.

    Raises:
        OSError: names the path and what stands in its way.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{name} {path} is a folder; expected the path of a file")
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(
            f"{name} {path} cannot be written: {folder} is a file, not a folder; give another path"
        )
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{path.name[:200]}.") as tried:
            tried.write(b"0")
    except OSError as error:
        raise type(error)(
            f"{name} {path} cannot be written in {folder} ({error.strerror}); give another path"
        ) from error


def replace_text(path: Path, text: str) -> None:
    """Write `text` to `path` through a temporary file that is renamed, so that half a file never stands there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
