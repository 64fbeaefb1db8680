"""The story that a plan tells, in Pyro."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import probclust as pc
from random_stories.families import FAMILIES
from random_stories.latents import KINDS
from random_stories.plan import Plan, n_features


class RandomStory(pc.Story):
    """A story composed of building blocks.

    Args:
        plan: which, and the seed of its numbers.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(n_features=n_features(plan), n_clusters=plan["n_clusters"])
        self.plan = plan
        self.rng = np.random.default_rng(plan["seed"])
        k, d = self.n_clusters, self.n_features
        self.numbers = nn.ParameterDict()
        self._number("logits", k)
        if plan["gate"]:
            self._number("gate", d, k)
        for i, latent in enumerate(plan["latents"]):
            width = latent["width"]
            self._number(f"latent{i}_loc", k, width)
            self._number(f"latent{i}_log_scale", width, spread=0.2)
            self._number(f"latent{i}_offset", k if latent["by_cluster"] else 1, width)
            self._number(f"latent{i}_weights", d, width, spread=0.3)
            self._number(f"latent{i}_q_log_scale", width, spread=0.2)
        for i, site in enumerate(plan["sites"]):
            width = site["width"]
            self._number(f"site{i}_eta", k, width)
            self._number(f"site{i}_loading", len(plan["latents"]), width, spread=0.5)
            self._number(f"site{i}_log_scale", k if site["by_cluster"] else 1, width, spread=0.2)
        self.to(getattr(torch, plan["dtype"]))

    def _number(self, name: str, *shape: int, spread: float = 0.7) -> None:
        value = torch.as_tensor(spread * self.rng.standard_normal(shape), dtype=torch.float64)
        self.numbers[name] = nn.Parameter(value)

    def features(self, values: list[Tensor]) -> list[Tensor]:
        """What decoders see of the latents, (..., rows) each."""
        kinds = [KINDS[latent["kind"]] for latent in self.plan["latents"]]
        return [kind.torch_feature(z).mean(-1) for kind, z in zip(kinds, values, strict=False)]

    def model(self, x: Tensor) -> Any:
        v = self.numbers
        with pyro.plate("data", x.shape[0]):
            k = pyro.sample("cluster", dist.Categorical(logits=v["logits"]))
            values: list[Tensor] = []
            for i, latent in enumerate(self.plan["latents"]):
                loc = v[f"latent{i}_loc"][k]
                if values:
                    loc = loc + 0.5 * self.features(values)[-1][..., None]
                law = KINDS[latent["kind"]].prior(loc, v[f"latent{i}_log_scale"].exp().expand(loc.shape))
                values.append(pyro.sample(latent["name"], law.to_event(1)))
            start = 0
            for i, site in enumerate(self.plan["sites"]):
                eta = v[f"site{i}_eta"][k]
                for weights, feature in zip(v[f"site{i}_loading"], self.features(values), strict=True):
                    eta = eta + weights * feature[..., None]
                scale = v[f"site{i}_log_scale"].exp()[k if site["by_cluster"] else 0]
                own = x[:, start : start + site["width"]]
                start += site["width"]
                law = FAMILIES[site["family"]].law(eta, scale.expand(eta.shape) if scale.dim() == 1 else scale)
                pyro.sample(site["name"], law.to_event(1), obs=own)

    def guide(self, x: Tensor) -> Any:
        v = self.numbers
        with pyro.plate("data", x.shape[0]):
            k = torch.zeros((), dtype=torch.long, device=x.device)
            if self.plan["gate"]:
                k = pyro.sample("cluster", dist.Categorical(logits=(x / 3).tanh() @ v["gate"]))
            values: list[Tensor] = []
            for i, latent in enumerate(self.plan["latents"]):
                loc = (x / 3).tanh() @ v[f"latent{i}_weights"] + v[f"latent{i}_offset"][
                    k if latent["by_cluster"] else 0
                ]
                if values:
                    loc = loc + 0.3 * self.features(values)[-1][..., None]
                law = KINDS[latent["kind"]].guide(loc, v[f"latent{i}_q_log_scale"].exp().expand(loc.shape))
                values.append(pyro.sample(latent["name"], law.to_event(1)))

    def arrays(self) -> dict[str, np.ndarray]:
        """All numbers in float64, by name."""
        return {name: value.detach().double().numpy() for name, value in self.numbers.items()}
