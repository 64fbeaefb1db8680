"""Counts given their total, of rows that do not show all: the total is unknown, and integrated out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Size, Tensor

from probclust.distributions.observed import OrMissing, filled, observed
from probclust.distributions.stirling import log_factorial_rest

N_NODES = 33
"""Sizes at which a row is looked at, twice: far about where its counts put it, then about where it is."""
LARGEST_DISPERSION = 1e6
"""Totals that vary less than by a thousandth are taken to vary so much: float32 sizes could not be told apart."""


class IncompleteCounts(TorchDistribution):
    """Counts given their total, of which each row shows some.

        size ~ Gamma(r, r / m);  x_d | size as the story has it given the total, independent

    with m and r the mean and dispersion of totals, which are Poisson's about the sizes. Log probabilities of rows that
    show all are the story's own; those of others, and draws of what is missing, integrate the size on a grid.

    Args:
        whole: the distribution of complete rows, event shape (D,).
        totals: distribution of a total, with `log_mean` and `log_dispersion`.
        sized: (..., 1) sizes to the distribution of rows, independent features.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's interface)
    support = OrMissing(constraints.nonnegative_integer)

    def __init__(self, whole: Any, totals: Any, sized: Callable[[Tensor], Any]) -> None:
        self.whole, self.totals, self.sized = whole, totals, sized
        super().__init__(whole.batch_shape, whole.event_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> IncompleteCounts:
        """The same distribution with a larger batch."""
        return IncompleteCounts(self.whole.expand(batch_shape), self.totals, self.sized)

    def log_prob(self, value: Tensor) -> Tensor:
        """(...) log probability of what (..., D) rows show, in nats."""
        missing = value.isnan()
        of_whole = self.whole.log_prob(torch.where(missing, 0, value))
        if not missing.any():
            return of_whole
        return torch.where(missing.any(-1), self._sizes(value)[1].logsumexp(0), of_whole)

    @torch.no_grad()
    def impute(self, value: Tensor, draw: bool = True) -> Tensor:
        """`value` (..., D), its NaN entries drawn given the others, or set to their mean given the others."""
        log_size, log_weight = self._sizes(value)
        if not draw:
            size = (log_size + log_weight.log_softmax(0)).logsumexp(0).exp()
            return filled(value, self.sized(size[..., None]).mean.to(value.dtype))
        chosen = torch.distributions.Categorical(logits=log_weight.movedim(0, -1)).sample()
        own = log_size.gather(0, chosen[None]).squeeze(0)
        step = log_size[1] - log_size[0]
        size = (own + (torch.rand_like(own) - 0.5) * step).exp()
        out: Tensor = observed(self.sized(size[..., None])).impute(value)
        return out

    def _sizes(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """(nodes, ...) log sizes, evenly spaced, and the log weights of rows that show `value`, (..., D)."""
        seen = value.isnan().logical_not()
        log_mean = self.totals.log_mean
        r = self.totals.log_dispersion.exp().clamp(max=LARGEST_DISPERSION)
        shares = self.sized(value.new_ones(1)).mean * seen
        centre = ((value.nan_to_num().sum(-1) + r) / (shares.sum(-1) + r / log_mean.exp())).log()
        features = self.sized(centre.exp()[..., None]).base_dist
        mean, variance = ((moment * seen).sum(-1) for moment in (features.mean, features.variance))
        width = (r + mean.square() / variance.clamp(min=1e-30)).rsqrt()
        log_size, log_weight = self._grid(value, centre, 8 * width)
        weight = log_weight.softmax(0)
        middle = (weight * log_size).sum(0)
        deviation = (weight * (log_size - middle).square()).sum(0).sqrt()
        return self._grid(value, middle, torch.maximum(6 * deviation, width))

    def _grid(self, value: Tensor, middle: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        """`_sizes` on nodes within `reach` of `middle`, (...)."""
        r = self.totals.log_dispersion.exp().clamp(max=LARGEST_DISPERSION)
        nodes = torch.linspace(-1, 1, N_NODES, dtype=value.dtype, device=value.device)
        log_size = middle + reach * nodes.reshape(-1, *[1] * middle.dim())
        off = log_size - self.totals.log_mean
        log_prior = r.log() - log_factorial_rest(r) - r * (off.expm1() - off)  # density of the log size
        shown = torch.stack([observed(self.sized(one.exp()[..., None])).log_prob(value) for one in log_size])
        return log_size, log_prior + shown + (2 * reach / (N_NODES - 1)).clamp(min=1e-30).log()

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (torch's signature)
        """Whole rows."""
        out: Tensor = self.whole.sample(sample_shape)
        return out

    @property
    def mean(self) -> Tensor:
        """(*batch, D)."""
        out: Tensor = self.whole.mean
        return out
