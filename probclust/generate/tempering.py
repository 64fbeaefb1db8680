"""Draws at a temperature: sites of a story replaced by their tempered distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample

from probclust.distributions.tempered import Temperature, tempered
from probclust.story.sites import CLUSTER, is_local


class Tempered(Messenger):
    """Draws the sites of the rows at a temperature, inside `with Tempered(...)`.

    Args:
        temperature: T of every latent and observed site of the plate but "cluster", whose weights stay as they are;
            or T by site name, "cluster" among them if wanted, and 1 for the others.

    Raises:
        ValueError: T is not positive; a site's distribution has no known form at a temperature.
    """

    def __init__(self, temperature: Temperature) -> None:
        super().__init__()
        values = temperature if isinstance(temperature, Mapping) else {"temperature": temperature}
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ValueError(f"temperature must be a positive number, got {value!r} for {name!r}")
        self.temperature = temperature

    def of_site(self, name: str) -> float:
        """T of the site of that name."""
        if isinstance(self.temperature, Mapping):
            return self.temperature.get(name, 1.0)
        return 1.0 if name == CLUSTER else self.temperature

    def _pyro_sample(self, msg: Any) -> None:
        if msg["done"] or msg["is_observed"] or not is_local(msg) or site_is_subsample(msg):
            return
        temperature = self.of_site(msg["name"])
        if temperature == 1:
            return
        try:
            msg["fn"] = tempered(msg["fn"], temperature)
        except (NotImplementedError, ValueError) as error:
            raise ValueError(f"site '{msg['name']}': {error}") from error
