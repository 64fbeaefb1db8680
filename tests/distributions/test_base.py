"""What is asked of a distribution is answered alike, whatever it is wrapped in, and in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch.distributions import Independent

import probclust as pc
from probclust.distributions.base import base_of, family_of, is_point, laws_of, layers, masks_of, mean_of, mode_of
from probclust.distributions.base import typical as typical_of
from probclust.distributions.blocks import Blocks
from probclust.distributions.given_total import given_totals
from probclust.distributions.observed import observed
from probclust.likelihoods import Multinomial
from probclust.likelihoods.categorical import ColumnCategorical
from probclust.likelihoods.totals import totals_in


class Strange(dist.TorchDistribution):
    """Somebody's own: an exponential distribution from `low` on, which knows its mean and mode and no `expand`."""

    arg_constraints = {}  # noqa: RUF012 (torch's interface)
    support = dist.constraints.positive

    def __init__(self, low):
        self.low = low
        super().__init__(low.shape, validate_args=False)

    def log_prob(self, value):
        return self.low - value

    def sample(self, sample_shape=()):
        return self.low + torch.empty(self._extended_shape(sample_shape)).exponential_()

    mean = property(lambda self: self.low + 1)
    mode = property(lambda self: self.low)


class Untold(Strange):
    """One that does not know its mode."""

    mode = property(lambda self: super(Strange, self).mode)


class Typical(Strange):
    """One that says what is typical of it."""

    typical = property(lambda self: self.low + 7)


@dataclass(frozen=True)
class Case:
    """A distribution, and what it is to answer, by hand: numbers of its batch and event shape."""

    fn: Any
    leaf: Any
    mean: Any
    mode: Any
    typical: Any
    is_point: bool = False
    is_transformed: bool = False
    masks: list[Any] = field(default_factory=list)


LOW = np.array([1.0, 2.0, 3.0])
LEAVES = {
    "gamma": lambda low: Case(f := dist.Gamma(low + 1, 1.0), f, LOW + 1, LOW, LOW + 1),
    "log-normal": lambda low: Case(
        f := dist.LogNormal(low, 0.5), f, np.exp(LOW + 0.125), np.exp(LOW - 0.25), np.exp(LOW + 0.125)
    ),
    "uniform": lambda low: Case(f := dist.Uniform(low, low + 2), f, LOW + 1, LOW + 1, LOW + 1),
    "delta": lambda low: Case(f := dist.Delta(low), f, LOW, LOW, LOW, is_point=True),
    "strange": lambda low: Case(f := Strange(low), f, LOW + 1, LOW, LOW + 1),
    "untold": lambda low: Case(f := Untold(low), f, LOW + 1, LOW + 1, LOW + 1),
    "typical": lambda low: Case(f := Typical(low), f, LOW + 1, LOW, LOW + 7),
}


def event(case: Case, pick: Any) -> Case:
    return replace(case, fn=case.fn.to_event(1)) if case.fn.batch_shape else case


def mask(case: Case, pick: Any) -> Case:
    shown = torch.tensor(pick([True, False])).expand(case.fn.batch_shape)
    return replace(case, fn=case.fn.mask(shown), masks=[shown.numpy(), *case.masks])


def plate(case: Case, pick: Any) -> Case:
    if case.fn.event_dim + len(case.fn.batch_shape) > 4:
        return case
    fn = case.fn.expand((2, *case.fn.batch_shape))
    answers = {name: np.stack([getattr(case, name)] * 2) for name in ("mean", "mode", "typical")}
    masks = [np.broadcast_to(m, (2, *m.shape)) for m in case.masks]
    return replace(case, fn=fn, masks=masks, **answers)


def transform(case: Case, pick: Any) -> Case:
    affine = dist.transforms.AffineTransform(0.5, 0.2)
    transforms = pick([[affine], [affine, dist.transforms.ExpTransform()]])
    fn = dist.TransformedDistribution(case.fn, transforms)

    def image(value: Any) -> Any:
        with np.errstate(over="ignore"):
            return 0.5 + 0.2 * value if len(transforms) == 1 else np.exp(0.5 + 0.2 * value)

    mean, mode = image(case.mean), image(case.mode)
    return replace(case, fn=fn, mean=mean, mode=mode, typical=mean, is_transformed=True)


WRAPPERS = {"event": event, "mask": mask, "plate": plate, "transform": transform}


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.sampled_from(sorted(LEAVES)), st.lists(st.sampled_from(sorted(WRAPPERS)), max_size=6), st.data())
def test_wrappers_in_any_order_carry_the_answers(leaf, wrappers, data):
    case = LEAVES[leaf](torch.tensor(LOW))
    for name in wrappers:
        case = WRAPPERS[name](case, lambda options: data.draw(st.sampled_from(options)))
    fn = case.fn
    answers = {"mean": mean_of(fn, "z"), "mode": mode_of(fn, "z"), "typical": typical_of(fn, "z")}
    for name, found in answers.items():
        assert found.shape == fn.batch_shape + fn.event_shape
        np.testing.assert_allclose(found.numpy(), getattr(case, name), err_msg=name)
    assert is_point(fn) == case.is_point
    for (shown, event_dim), expected in zip(masks_of(fn), case.masks, strict=True):
        assert shown.dim() + event_dim <= fn.event_dim + len(fn.batch_shape)
        assert shown.all() == expected.all()
    assert any(type(layer) is type(case.leaf) for layer in layers(fn))
    law = base_of(fn)
    assert not isinstance(law, Independent | dist.MaskedDistribution | ExpandedDistribution)
    assert (type(law) is type(case.leaf)) != case.is_transformed
    assert [(None, law)] == list(laws_of(fn))


def test_blocks_in_blocks_tell_the_law_of_each_column():
    rows = torch.zeros(4, 2)
    inner = Blocks([[1], [0]], [dist.Normal(rows[:, :1], 1.0).to_event(1), dist.Poisson(rows[:, :1]).to_event(1)])
    codes = ColumnCategorical(torch.zeros(4, 1, 3), torch.tensor([3])).to_event(1)
    straight, turned = Blocks([[2], [0, 1]], [codes, inner]), Blocks([(2,), (1, 0)], [codes, inner])
    for fn, expected in (
        (straight, {2: ColumnCategorical, 1: dist.Normal, 0: dist.Poisson}),
        (observed(turned), {2: ColumnCategorical, 0: dist.Normal, 1: dist.Poisson}),
    ):
        assert {c: type(family_of(law)) for columns, law in laws_of(fn) for c in columns} == expected
        assert typical_of(fn.mask(torch.tensor(True))).shape == (4, 3)


def test_a_distribution_with_a_base_of_its_own_is_no_wrapper():
    """A Poisson with surplus zeros is no Poisson, and a point with surplus zeros no point."""
    fn = dist.ZeroInflatedDistribution(dist.Delta(torch.tensor(3.0)), gate=torch.tensor(0.5))
    assert not is_point(fn)
    assert base_of(fn.mask(True)) is fn
    assert [type(layer) for layer in layers(fn)] == [type(fn), dist.Delta]


def test_categories_are_at_the_most_probable_and_what_has_no_mean_says_so():
    law = dist.Categorical(torch.tensor([0.2, 0.5, 0.3])).expand([4])
    for fn in (law, law.to_event(1), law.mask(torch.tensor(True)), law.to_event(1).mask(torch.tensor(True))):
        assert typical_of(fn).tolist() == [1, 1, 1, 1]

    class Meanless(Strange):
        mean = property(lambda self: super(Strange, self).mean)

    for fn in (Meanless(torch.ones(2)), Meanless(torch.ones(2)).mask(torch.tensor([True, False])).to_event(1)):
        with pytest.raises(pc.ContractError, match="distribution of site 'z', Meanless, has no mean; give it"):
            mean_of(fn, "z")
        with pytest.raises(pc.ContractError, match=r"^Meanless has no mean; give it"):
            typical_of(fn)


def test_masked_counts_are_asked_at_their_own_totals():
    law, value = Multinomial(3, mean_total=50.0)(torch.zeros(4, 3)), torch.arange(12.0).reshape(4, 3)
    mixed = Blocks([[2, 0, 1], [3]], [law.mask(torch.tensor(True)), dist.Normal(value[:, :1], 1.0).to_event(1)])
    for fn in (law, law.mask(torch.tensor([True, False, True, True])), mixed.mask(torch.tensor(False))):
        mean = typical_of(given_totals(fn, torch.cat([value, value], 1)[:, : fn.event_shape[0]]))
        torch.testing.assert_close(mean[:, :3].sum(1), value.sum(1))
        [(_, totals)] = totals_in(fn, mean)
        torch.testing.assert_close(totals, value.sum(1))
