"""probclust: deep generative clustering as probabilistic programs.

The public names are listed in `__init__.pyi` and are imported at first use, so that `import probclust` itself
loads neither torch nor Pyro.
"""

from __future__ import annotations

import importlib
from typing import Any

import lazy_loader

from probclust.moved import now, serve_old_paths

__version__ = "0.1.0"

serve_old_paths()
_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """A public name, or, for one release, a module that has moved."""
    if name not in __all__ and now(path := f"{__name__}.{name}"):
        return importlib.import_module(path)
    return _public(name)
