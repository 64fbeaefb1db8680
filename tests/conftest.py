"""What every test stands on: one thread, a fixed seed, and a check that no test leaks global state."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.poutine.runtime import _PYRO_STACK

collect_ignore = ["support/example_package"]  # its tests install it
torch.set_num_threads(1)  # the parallel workers share the cores


@pytest.fixture(autouse=True)
def clean_state():
    """Seed the test; fail it where it leaves torch's default dtype, Pyro's store or its handlers changed."""
    pyro.set_rng_seed(0)
    dtype, validation = torch.get_default_dtype(), torch.distributions.Distribution._validate_args
    yield
    left = {
        "torch's default dtype": torch.get_default_dtype() != dtype,
        "Pyro's parameter store": bool(list(pyro.get_param_store().keys())),
        "Pyro's handlers": bool(_PYRO_STACK),
        "the validation of distributions": torch.distributions.Distribution._validate_args != validation,
        "autograd switched off": not torch.is_grad_enabled(),
    }
    torch.set_default_dtype(dtype)
    pyro.clear_param_store()
    _PYRO_STACK.clear()
    torch.set_grad_enabled(True)
    torch.distributions.Distribution.set_default_validate_args(validation)
    assert not any(left.values()), f"the test leaves changed: {[what for what, changed in left.items() if changed]}"


@pytest.fixture
def float64():
    """Let the test compute in float64: mathematics is checked there, to rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
