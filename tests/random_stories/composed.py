"""The story that a plan tells, in Pyro."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from numpy.typing import NDArray
from pyro import poutine
from pyro.nn import PyroModule, PyroSample
from torch import Tensor, nn

import probclust as pc
from probclust.distributions.observed import observed
from random_stories.families import FAMILIES
from random_stories.latents import KINDS
from random_stories.numbers import Holder, Numbers, contained, first_of
from random_stories.plan import FULL_SIZE, Plan, n_features, own_columns
from random_stories.shared import PRIORS, own_guide, shape_of


def filler(family: str, width: int) -> list[float]:
    """What stands in for a row with missing entries: inside the family's support."""
    if family == "one-hot":
        return [1.0] + [0.0] * (width - 1)
    if family == "dirichlet":
        return [1 / width] * width
    return [1.0 if FAMILIES[family].discrete else 0.5] * FAMILIES[family].columns(width)


class PyroGlobals(PyroModule):
    """Global latents as attributes of a module, as Pyro's Bayesian networks have them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = PyroModule()
        self.uses: list[str] = []

    def add(self, use: str, prior: Any) -> None:
        self.uses.append(use)
        setattr(self.inner, use, PyroSample(prior))

    def forward(self) -> dict[str, Tensor]:
        return {use: getattr(self.inner, use) for use in self.uses}


class RandomStory(pc.Story):
    """A story composed of building blocks.

    Args:
        plan: which, and the seed of its numbers.
        parts: two parts in a container; the first holds the locations of the first site.
    """

    def __init__(self, plan: Plan, parts: Any) -> None:
        super().__init__(n_features=n_features(plan), n_clusters=plan["n_clusters"], global_guide=plan["global_guide"])
        self.plan, self.missing = plan, plan["missing"]
        k, d, n_latents = self.n_clusters, self.n_features, len(plan["latents"])
        dtype = getattr(torch, plan["dtype"])
        self.register_buffer("one", torch.ones((), dtype=dtype), persistent=False)
        self.numbers = numbers = Numbers(plan["seed"], plan["homes"], dtype)
        numbers.draw("logits", k)
        if plan["gate"]:
            numbers.draw("gate", d, k)
        self.shared = PyroGlobals()
        for latent in plan["globals"]:
            shape = shape_of(latent, k, plan["sites"][0]["width"])
            if latent["guide"] != "auto":
                numbers.draw(f"{latent['use']}_guide", *shape)
            if latent["is_pyro"]:
                self.shared.add(latent["use"], PRIORS[latent["family"]].law(shape, self.one))
        for i, latent in enumerate(plan["latents"]):
            width = latent["width"]
            numbers.draw(f"latent{i}_loc", k, width)
            numbers.draw(f"latent{i}_scale", width, spread=0.2)
            numbers.draw(f"latent{i}_offset", k if latent["by_cluster"] else 1, width)
            numbers.draw(f"latent{i}_weights", d, width, spread=0.3)
            numbers.draw(f"latent{i}_guide_scale", width, spread=0.2)
        for i, site in enumerate(plan["sites"]):
            numbers.draw(f"site{i}_eta", k, site["width"])
            numbers.draw(f"site{i}_loading", n_latents, site["width"], spread=0.5)
            numbers.draw(f"site{i}_scale", k if site["by_cluster"] else 1, site["width"], spread=0.2)
        numbers.draw("factor", k)
        if "part" in plan["homes"]:
            numbers.take("site0_eta", first_of(plan["container"], parts))
        self.encoder: nn.Module = nn.Identity()
        if plan["encoder"] == "dropout":
            self.encoder = nn.Dropout(0.3)
        elif plan["encoder"] == "batch norm":
            self.encoder = norm = nn.BatchNorm1d(d, dtype=dtype)
            with torch.no_grad():
                for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                    tensor.copy_(torch.as_tensor(0.5 + numbers.rng.random(d)))

    def encode(self, x: Tensor) -> Tensor:
        """What the guide's weights see of rows."""
        return (self.encoder(x.nan_to_num()) / 3).tanh()

    def globals_of_model(self) -> dict[str, Tensor]:
        """The global latents, by use."""
        found = self.shared()
        for latent in self.plan["globals"]:
            if not latent["is_pyro"]:
                shape = shape_of(latent, self.n_clusters, self.plan["sites"][0]["width"])
                found[latent["use"]] = pyro.sample(latent["name"], PRIORS[latent["family"]].law(shape, self.one))
        return found

    def logits(self, shared: dict[str, Tensor]) -> Tensor:
        if "weights" not in shared:
            return self.numbers["logits"]
        weights = shared["weights"]
        if weights.dim() == 0:
            weights = torch.stack([weights, 1 - weights])
        return weights.log()

    def without_last(self, logits: Tensor) -> Tensor:
        """The last cluster made impossible."""
        last = torch.arange(self.n_clusters, device=logits.device) == self.n_clusters - 1
        return logits.masked_fill(last, -torch.inf)

    def features(self, values: list[Tensor]) -> list[Tensor]:
        """What decoders see of the latents, (..., rows) each."""
        kinds = [KINDS[latent["kind"]] for latent in self.plan["latents"]]
        return [kind.torch_feature(z).mean(-1) for kind, z in zip(kinds, values, strict=False)]

    def latent(self, i: int, law: Any, rescaled: bool = True) -> Tensor:
        """A sample statement of latent i; its value with a dim for its components."""
        latent = self.plan["latents"][i]
        with poutine.scale(scale=latent["scale"] if rescaled else 1.0):
            if latent["bare"]:
                return pyro.sample(latent["name"], law).unsqueeze(-1)
            return pyro.sample(latent["name"], law.to_event(1))

    def plate(self, x: Tensor) -> Any:
        """The plate of the rows."""
        if self.plan["plate"] == "mini-batch":
            return pyro.plate("data", FULL_SIZE, subsample=torch.arange(x.shape[0]))
        return pyro.plate("data", x.shape[0])

    def cluster(self, law: Any) -> Tensor:
        """The model's sample statement of the cluster."""
        return pyro.sample("cluster", law)

    def model(self, x: Tensor) -> Any:
        plan, v = self.plan, self.numbers
        shared = self.globals_of_model()
        if "once" in plan["factors"]:
            pyro.factor("penalty", -v["factor"].square().sum())
        if "once" in plan["values"]:
            pyro.deterministic("constant", v["factor"].exp())
        with poutine.scale(scale=plan["scale"]), self.plate(x):
            logits = self.logits(shared)
            if plan["zero"] == "both":
                logits = self.without_last(logits)
            as_probs = plan["weights"] == "probs" and not plan["zero"]  # torch puts tiny numbers for zeros
            k = self.cluster(dist.Categorical(logits.softmax(-1)) if as_probs else dist.Categorical(logits=logits))
            values: list[Tensor] = []
            for i, latent in enumerate(plan["latents"]):
                loc, scale = v[f"latent{i}_loc"][k], v[f"latent{i}_scale"]
                if latent["parent"]:
                    loc = loc + 0.5 * self.features(values)[-1][..., None]
                loc, scale = (t.squeeze(-1) if latent["bare"] else t for t in (loc, scale.expand(loc.shape)))
                values.append(self.latent(i, KINDS[latent["kind"]].prior(loc, scale)))
            if "cluster" in plan["factors"]:
                pyro.factor("tilt", 0.5 * v["factor"][k])
            if "rows" in plan["factors"]:
                pyro.factor("bonus", 0.3 * sum(self.features(values), v["factor"][0].expand(x.shape[0])))
            for i, columns in enumerate(own_columns(plan)):
                self.site(i, k, values, shared, x[:, columns])

    def site(self, i: int, k: Tensor, values: list[Tensor], shared: dict[str, Tensor], x: Tensor) -> None:
        """A sample statement that observes columns of x."""
        v, site = self.numbers, self.plan["sites"][i]
        family = FAMILIES[site["family"]]
        eta, scale = v[f"site{i}_eta"][k], v[f"site{i}_scale"]
        if i == 0 and "shift" in shared:
            eta = eta + shared["shift"][k]
        for weights, feature in zip(v[f"site{i}_loading"], self.features(values), strict=True):
            eta = eta + weights * feature[..., None]
        scale = scale[k] if site["by_cluster"] else scale[0]
        if i == 0 and "spread" in shared:
            scale = scale * shared["spread"]
        if i == 0 and "rows" in self.plan["values"]:
            eta = pyro.deterministic("location", eta, event_dim=1)
        eta, scale = torch.broadcast_tensors(eta, scale)
        if site["bare"]:
            eta, scale, x = eta.squeeze(-1), scale.squeeze(-1), x.squeeze(-1)
        if family.kind == "code":
            x = x.squeeze(-1)
        law, mask = family.law(eta, scale), site["mask"]
        seen = ~x.isnan()
        if mask == "rows" and seen.dim() > 1:
            seen = seen.all(-1)
        if mask in ("entries", "rows"):
            fill = x.new_tensor(filler(site["family"], site["width"]))
            x = torch.where(seen if seen.dim() == x.dim() else seen[:, None], x, fill if x.dim() > 1 else fill[0])
        if mask == "entries":
            law = law.mask(seen)
        if family.kind == "feature" and not site["bare"]:
            law = law.to_event(1)
        if mask == "observed":
            law = observed(law)
        with ExitStack() as stack:
            stack.enter_context(poutine.scale(scale=site["scale"]))
            if mask in ("on", "off"):
                stack.enter_context(poutine.mask(mask=mask == "on"))
            elif mask == "rows":
                stack.enter_context(poutine.mask(mask=seen))
            pyro.sample(site["name"], law, obs=x)

    def guide(self, x: Tensor) -> Any:
        plan, v = self.plan, self.numbers
        for latent in plan["globals"]:
            if latent["guide"] != "auto":
                pyro.sample(latent["name"], own_guide(latent, v[f"{latent['use']}_guide"]))
        with poutine.scale(scale=plan["scale"]), self.plate(x):
            seen = self.encode(x)
            if plan["gate"]:
                logits = seen @ v["gate"]
                k = pyro.sample(
                    "cluster", dist.Categorical(logits=self.without_last(logits) if plan["zero"] else logits)
                )
            values: list[Tensor] = []
            for i, latent in enumerate(plan["latents"]):
                offset = v[f"latent{i}_offset"]
                loc = seen @ v[f"latent{i}_weights"] + (offset[k] if latent["by_cluster"] else offset[0])
                if latent["parent"]:
                    loc = loc + 0.3 * self.features(values)[-1][..., None]
                scale = v[f"latent{i}_guide_scale"].expand(loc.shape)
                loc, scale = (t.squeeze(-1) if latent["bare"] else t for t in (loc, scale))
                values.append(self.latent(i, KINDS[latent["kind"]].guide(loc, scale)))

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """All numbers in float64, by name; the batch norm's by names of their own."""
        found = self.numbers.arrays()
        if isinstance(self.encoder, nn.BatchNorm1d):
            for name in ("weight", "bias", "running_mean", "running_var"):
                found[f"norm_{name}"] = getattr(self.encoder, name).detach().double().numpy().copy()
        return found


def parts_of(plan: Plan) -> Any:
    """The parts that a story of the plan takes, in their container."""
    shapes = [[plan["n_clusters"], plan["sites"][0]["width"]], [1]]
    return contained(plan["container"], [Holder(shape) for shape in shapes])


def told(plan: Plan) -> RandomStory:
    """The story of a plan."""
    with torch.random.fork_rng():
        torch.manual_seed(plan["seed"])
        return RandomStory(plan, parts_of(plan))
