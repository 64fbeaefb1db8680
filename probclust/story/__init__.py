"""The contract of a story, its log joint and scores, recipes, saving: what everything else is derived from."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
