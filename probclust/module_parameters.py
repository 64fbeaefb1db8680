"""Parameters of Pyro's modules stay in their module: none goes through Pyro's global store.

`PyroParam` and Pyro's automatic guides name their parameters by class and attribute, so that two stories of one class
would share them there. Under `module_local_params`, a setting of Pyro's, each module keeps its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyro
from torch import nn

SETTING = "module_local_params"


@contextmanager
def module_local_parameters() -> Iterator[None]:
    """Within, Pyro's modules read their own parameters and write none to the global store."""
    if pyro.settings.get(SETTING):
        yield
        return
    with pyro.settings.context(module_local_params=True):
        yield


def keep_own_parameters(module: nn.Module) -> None:
    """Prepare Pyro's modules among the parts, some of which may have been made before the setting was on."""
    for part in module.modules():
        context = getattr(part, "_pyro_context", None)
        if context is not None and not hasattr(context, "param_state"):
            context.param_state = {"params": {}, "constraints": {}}
