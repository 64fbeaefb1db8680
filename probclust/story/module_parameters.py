"""Parameters of Pyro's modules stay in their module: none goes through Pyro's global store.

`PyroParam` and Pyro's automatic guides name their parameters by class and attribute, so that two stories of one class
would share them there. Under `module_local_params`, a setting of Pyro's, each module keeps its own.
"""

from __future__ import annotations

import pyro
from torch import nn

SETTING = "module_local_params"


class _ModuleLocal:
    """Pyro's setting switched on; as every pass enters it, it is a class, which costs less than a generator."""

    def __init__(self) -> None:
        self.before: list[bool] = []

    def __enter__(self) -> None:
        self.before.append(pyro.settings.get(SETTING))
        if not self.before[-1]:
            pyro.settings.set(module_local_params=True)

    def __exit__(self, *error: object) -> None:
        if not self.before.pop():
            pyro.settings.set(module_local_params=False)


module_local_parameters = _ModuleLocal()
"""Within, and `alone`, Pyro's modules read their own parameters and write none to the global store."""


def keep_own_parameters(module: nn.Module) -> None:
    """Prepare Pyro's modules among the parts, some of which may have been made before the setting was on."""
    for part in module.modules():
        context = getattr(part, "_pyro_context", None)
        if context is not None and not hasattr(context, "param_state"):
            context.param_state = {"params": {}, "constraints": {}}
