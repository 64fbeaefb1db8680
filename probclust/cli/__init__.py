"""The command line: its commands, run folders, the report's page."""

from __future__ import annotations

__all__: list[str] = []  # it is run, not imported
