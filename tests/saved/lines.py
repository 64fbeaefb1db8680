"""JSON with one line for each entry of a mapping within, so that its changes can be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_lines(path: Path, record: Mapping[str, Any]) -> None:
    """Write a mapping, its own mappings one entry a line."""
    parts = []
    for key, value in record.items():
        text = json.dumps(value)
        if isinstance(value, Mapping):
            text = "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n }"
        parts.append(f" {json.dumps(key)}: {text}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
