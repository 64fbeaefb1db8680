"""Tensors and JSON in one safetensors file: written whole or not at all, checked when read, never pickled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from probclust.arguments import checked_path
from probclust.errors import SavedStoryError

FORMAT_VERSION = 1


def write_archive(path: str | os.PathLike[str], kind: str, tensors: Mapping[str, Tensor], facts: Any) -> None:
    """Write tensors and JSON facts to `path`, through a temporary file that is renamed.

    The same tensors and facts give the same bytes.

    Args:
        path: the file to write; an existing one is replaced at once or stays as it was.
        kind: what the file is, "story" or "checkpoint"; reading asks for it.
        tensors: tensors by name, on any device.
        facts: anything that JSON can hold.
    """
    path = checked_path("path", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts, allow_nan=True)
    header = {
        "format": f"probclust {kind} {FORMAT_VERSION}",
        "facts": text,
        "sha256": _digest(stored, text),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(_ordered(serialise(stored, metadata=header)))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_archive(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Tensor], Any]:
    """The tensors and facts of a file written by `write_archive` with the same `kind`.

    Raises:
        FileNotFoundError: there is no such file.
        SavedStoryError: the file is damaged, cut short, or was not written by probclust as this kind.
    """
    path = checked_path("path", path)
    if not path.is_file():
        raise FileNotFoundError(f"no saved {kind} at {path}; give the path of a file that probclust wrote")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if not header.get("format", "").startswith(f"probclust {kind} "):
                found = header.get("format", "a safetensors file of another program")
                raise SavedStoryError(f"{path} is no saved probclust {kind}: it is {found}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, UnicodeDecodeError, RuntimeError, OSError) as error:
        raise SavedStoryError(
            f"{path} is damaged, cut short, or no safetensors file ({error}); write it anew or restore a copy"
        ) from error
    if header["format"] != f"probclust {kind} {FORMAT_VERSION}":
        raise SavedStoryError(f"{path} has format '{header['format']}'; this version reads {FORMAT_VERSION}: upgrade")
    if header.get("sha256") != _digest(tensors, header.get("facts", "")):
        raise SavedStoryError(f"{path} is damaged: its checksum does not match; restore a copy or write it anew")
    try:
        return tensors, json.loads(header["facts"])
    except ValueError as error:
        raise SavedStoryError(f"{path} is damaged: its facts are no JSON ({error}); write it anew") from error


def _ordered(written: bytes) -> bytes:
    """A safetensors file with the entries of its header in order, which safetensors leaves to chance."""
    end = 8 + int.from_bytes(written[:8], "little")
    header = json.loads(written[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(dict(sorted(header.items())), separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + written[end:]


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
