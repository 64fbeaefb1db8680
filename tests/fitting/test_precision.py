"""Half precision is for matrix products: densities, their sums and the bound stay in float32."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from torch.distributions import Distribution

import probclust as pc
from probclust.story.joint import trace_joint
from probclust.story.recipe import Compute
from probclust.story.registry import story_class, story_names

pytestmark = pytest.mark.filterwarnings("ignore::probclust.errors.FitWarning")

X = torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
MIXED = torch.autocast("cpu", dtype=torch.bfloat16)


def small(name: str) -> pc.Story:
    cls = story_class(name)
    sizes = {"hidden": (8,), "latent_dim": 2}
    known = inspect.signature(cls.__init__).parameters
    return cls(n_features=4, n_clusters=3, **{key: value for key, value in sizes.items() if key in known})


def in_double(fn: Distribution) -> Distribution:
    """The same distribution with its parameters, as they are, in float64."""
    for name, value in vars(fn).items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            vars(fn)[name] = value.double()
        if isinstance(value, Distribution):
            in_double(value)
    return fn


@pytest.mark.parametrize("name", story_names())
def test_densities_are_those_of_float64_to_the_rounding_of_float32(name):
    with MIXED, torch.no_grad():
        joint = trace_joint(*(lambda story: (story.model, story.complete_guide))(small(name)), X)
        assert joint.table.dtype == torch.float32
        for site in (*joint.model.values(), *joint.guide.values()):
            assert site.log_prob.dtype == torch.float32
    for site in (*joint.model.values(), *joint.guide.values()):
        value = site.value.double() if site.value.is_floating_point() else site.value.clone()
        exact = in_double(site.fn).log_prob(value)
        if site.mask is not False:
            torch.testing.assert_close(site.log_prob.double(), exact.expand_as(site.log_prob), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", ["eager", "staged"])
def test_a_fit_in_mixed_precision_goes_as_one_in_float32(engine):
    losses = []
    for precision in (None, "bf16-mixed"):
        torch.manual_seed(0)
        record = pc.fit(small("vade"), X, recipe=[pc.SVI(epochs=5)], precision=precision, engine=engine)
        losses.append(record.losses())
    np.testing.assert_allclose(*losses, rtol=0.01)
    assert losses[0] != losses[1]


def test_tf32_holds_for_the_fit_alone():
    seen = []
    step = pc.Compute(name="look", run=lambda run: seen.append(torch.get_float32_matmul_precision()))
    pc.fit(small("gmm"), X, recipe=[step, pc.SVI(epochs=1)], precision="tf32")
    assert seen == ["high"]
    assert torch.get_float32_matmul_precision() == "highest"

    def fails(run):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        pc.fit(small("gmm"), X, recipe=[pc.Compute(name="fail", run=fails)], precision="tf32")
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", 8, ["bf16"]])
def test_other_precisions_are_refused(precision):
    with pytest.raises(ValueError, match=r"precision must be '32-true', 'tf32', 'bf16-mixed' or '16-mixed', got"):
        pc.fit(small("gmm"), X, precision=precision)


@pytest.mark.parametrize("before", [False, True])
def test_a_fit_takes_denormals_for_zero_and_puts_the_setting_back(before):
    seen = []

    def is_zero() -> bool:
        return float(torch.tensor(1e-40) * 1) == 0

    torch.set_flush_denormal(before)
    try:
        pc.fit(small("gmm"), X, recipe=[Compute(name="look", run=lambda run: seen.append(is_zero()))], progress=False)
        assert seen == [True]
        assert is_zero() == before
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "function",
    [pc.log_joint, pc.fit, lambda story, _: pc.sample(story, 3), lambda story, _: pc.modes(story), pc.impute],
)
def test_stories_in_half_precision_are_refused(dtype, function):
    story = pc.models.GaussianMixture(3, 2).to(dtype)
    with pytest.raises(ValueError, match=rf"GaussianMixture has parameters of {dtype}.*expected torch.float32 or"):
        function(story, torch.randn(10, 3))
