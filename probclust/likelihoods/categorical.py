"""The likelihood of integer codes of categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from probclust.part import Part


class Categorical(Part):
    """x_d ~ Categorical(softmax(outputs of column d)), for columns of integer codes 0..C_d-1.

    The decoder has one output for each category of each column, column by column; networks see the codes one-hot.
    The mean of the distribution is that of the code, for the sake of a gradient; `pc.reconstruct` gives the most
    probable code.

    Args:
        n_features: D, columns of x.
        n_categories: C_d: an integer for all columns, or one for each.
    """

    n_heads = 1
    sizes: Tensor
    place: Tensor

    def __init__(self, n_features: int, n_categories: int | Sequence[int]) -> None:
        super().__init__()
        sizes = [n_categories] * n_features if isinstance(n_categories, int) else [int(c) for c in n_categories]
        if len(sizes) != n_features:
            raise ValueError(f"n_categories must have one entry per column, n_features={n_features}, got {len(sizes)}")
        if min(sizes) < 2:
            raise ValueError(f"n_categories must be at least 2, got {min(sizes)}")
        self.n_features = n_features
        self.n_outputs = self.n_view = sum(sizes)
        self.register_buffer("sizes", torch.tensor(sizes), persistent=False)
        first = self.sizes.cumsum(0) - self.sizes
        code = torch.arange(max(sizes))
        place = torch.where(code < self.sizes[:, None], first[:, None] + code, self.n_outputs)
        self.register_buffer("place", place, persistent=False)  # (D, largest C): of each code's output

    def view(self, x: Tensor) -> Tensor:
        """(rows, n_view) one-hot codes, NaN in all of a column's where it is unobserved."""
        code = torch.arange(self.place.shape[1], device=x.device)
        hot = torch.where(x.isnan()[..., None], x[..., None], (x[..., None] == code).to(x.dtype))
        return hot[..., self.place < self.n_outputs]

    def forward(self, outputs: Tensor) -> Any:
        """Outputs (..., n_outputs) to a distribution over rows."""
        padded = torch.cat([outputs, outputs.new_full((*outputs.shape[:-1], 1), -torch.inf)], -1)
        codes: Any = ColumnCategorical(padded[..., self.place], self.sizes)
        return codes.to_event(1)


class ColumnCategorical(dist.Categorical):
    """Categorical with a number of categories for each column.

    Args:
        logits: (..., D, largest C), -inf from the column's own number of categories on.
        sizes: (D,) numbers of categories.
        validate_args: check the parameters.
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012 (torch's interface)
    has_fixed_support = True  # whatever the logits

    def __init__(self, logits: Tensor, sizes: Tensor, validate_args: bool | None = None) -> None:
        self.sizes = sizes
        super().__init__(logits=logits, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """Integers below the column's number of categories."""
        return constraints.integer_interval(0, self.sizes - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """(..., D) log probability of codes, in nats; -inf for what is no code of its column."""
        inside = self.support.check(value)
        code = torch.where(inside, value, 0)
        return torch.where(inside, super().log_prob(code), -torch.inf)  # type: ignore[no-untyped-call]

    @property
    def mean(self) -> Tensor:
        """(..., D) mean code."""
        return (self.probs * torch.arange(self.probs.shape[-1], device=self.probs.device)).sum(-1)

    @property
    def typical(self) -> Tensor:
        """(..., D) most probable code."""
        return self.probs.argmax(-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ColumnCategorical:
        """The same distribution with a larger batch."""
        out = ColumnCategorical(self.logits.expand(*batch_shape, -1), self.sizes, validate_args=False)
        out._validate_args = self._validate_args
        return out
