"""What the speed benchmark rests on: the limit counts the networks' own products, and contenders take turns."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import probclust as pc
from benchmarks.speed.products import layers, products
from benchmarks.speed.quality import accuracy
from benchmarks.speed.race import race, ratio
from benchmarks.speed.summary import slope
from probclust.objectives.bounds import Exact
from probclust.story.registry import story_class


def flops(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("vade", {"hidden": (12, 7)}), ("mixture-of-vaes", {"hidden": (6,)}), ("idec", {"hidden": (12, 7)})],
)
def test_the_limit_has_the_products_of_a_training_step(name, arguments):
    x = torch.rand(16, 20)
    story = story_class(name)(20, n_clusters=3, latent_dim=4, **arguments)

    def step():
        if name == "idec":  # its clustering step, whose loss is not the bound
            (story.codec.rebuilt(story.codec.mean(x)) - x).square().mean().backward()
        else:
            Exact().differentiable_loss(story.model, story.guide, x).backward()

    def limit():
        for product in products(3 if name == "mixture-of-vaes" else 0, 16, layers(name, 20, 4, arguments)):
            product()

    assert flops(limit) == flops(step)


def test_contenders_take_turns():
    setting = {"contender": "products", "method": "vade", "latent": 2, "arguments": {"hidden": (4,)}, "batch_size": 8}
    setting |= {"clusters": 2, "threads": 1}
    found = race({"a": setting, "b": setting}, np.zeros((20, 3), dtype=np.float32), {}, rounds=3)
    assert all(len(found[name]["cpu"]) == 3 and found[name]["peak_mb"] > 50 for name in "ab")
    assert ratio(found, "a", "a") == 1


def test_a_contender_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"(?s)nobody ended early.*KeyError"):
        race({"a": {"contender": "nobody", "threads": 1}}, np.zeros((2, 2), dtype=np.float32), {}, rounds=1)


def test_the_slope_is_the_exponent_of_a_power_law():
    assert slope([(n, 3 * n**1.5, 0.0) for n in (1, 10, 40)]) == pytest.approx(1.5)


def test_accuracy_is_that_of_the_library():
    y, labels = np.random.default_rng(0).integers(0, [[4], [6]], (2, 200))
    assert accuracy(y, labels) == pytest.approx(pc.metrics.accuracy(y, labels))
