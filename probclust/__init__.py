"""probclust: deep generative clustering as probabilistic programs.

The public names are listed in `__init__.pyi` and are imported at first use, so that `import probclust` itself
loads neither torch nor Pyro.
"""

from __future__ import annotations

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
