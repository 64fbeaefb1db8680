"""The contract suite for other people's stories; pytest is not needed."""

from __future__ import annotations

from probclust.testing.suite import check_story

__all__ = ["check_story"]
