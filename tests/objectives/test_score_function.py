"""Latents without a pathwise gradient, against the gradient of the bound by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, special
from torch import nn

import probclust as pc
from probclust.objectives.bounds import Exact, Hard, ImportanceWeighted

pytestmark = pytest.mark.usefixtures("float64")


class Angles(pc.Story):
    """x = (cos a, sin a) with noise, its radius by the cluster; the guide has one von Mises for all rows."""

    radii = (1.0, 2.0)

    def __init__(self, loc=0.7, log_concentration=1.0):
        super().__init__(n_features=2, n_clusters=2)
        self.loc, self.log_concentration = (nn.Parameter(torch.tensor(value)) for value in (loc, log_concentration))

    def model(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(2) / 2), infer={"enumerate": "parallel"})
            a = pyro.sample("a", dist.VonMises(torch.tensor(0.0), torch.tensor(0.1)))
            mean = torch.stack([a.cos(), a.sin()], -1) * torch.tensor(self.radii)[k][..., None]
            pyro.sample("x", dist.Normal(mean, 0.5).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("a", dist.VonMises(self.loc, self.log_concentration.exp()))


class AnglesByCluster(Angles):
    """An angle for each cluster, as a mixture of VAEs has it."""

    def guide(self, x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(2)))
            pyro.sample("a", dist.VonMises(self.loc + 0.3 * k, self.log_concentration.exp()))


ROW = (0.9, 0.8)


def log_q(a, loc, concentration):
    return concentration * np.cos(a - loc) - np.log(2 * np.pi * special.ive(0, concentration)) - concentration


def columns(a):
    """log p(x, a, cluster = k) of `ROW`, for k = 0, 1."""
    prior = log_q(a, 0.0, 0.1)
    for radius in Angles.radii:
        off = (ROW[0] - radius * np.cos(a)) ** 2 + (ROW[1] - radius * np.sin(a)) ** 2
        yield prior - math.log(2) - off / (2 * 0.25) - np.log(2 * np.pi * 0.25)


def bound(reduce, loc=0.7, log_concentration=1.0):
    """E_q[reduce_k log p(x, a, k) - log q(a)] by quadrature."""
    c = math.exp(log_concentration)

    def integrand(a):
        return np.exp(log_q(a, loc, c)) * (reduce(*columns(a)) - log_q(a, loc, c))

    return integrate.quad(integrand, -np.pi, np.pi, epsabs=1e-10)[0]


def bound_by_cluster(loc=0.7, log_concentration=1.0):
    """The exact bound of `AnglesByCluster`: over both angles."""
    c, grid = math.exp(log_concentration), np.linspace(-np.pi, np.pi, 400, endpoint=False)
    own = [log_q(grid, loc + 0.3 * k, c) for k in range(2)]
    table = [column - q for column, q in zip(columns(grid), own, strict=True)]
    weights = np.exp(own[0])[:, None] * np.exp(own[1])[None, :]
    return float((weights * np.logaddexp(table[0][:, None], table[1][None, :])).sum() * (2 * np.pi / 400) ** 2)


def slope(f, **at):
    """Central differences of f in both parameters."""
    found = []
    for name, value in (("loc", 0.7), ("log_concentration", 1.0)):
        found.append((f(**{name: value + 1e-4}) - f(**{name: value - 1e-4})) / 2e-4)
    return torch.tensor(found)


@pytest.mark.parametrize(
    ("objective", "story", "truth"),
    [
        (Exact(), Angles, lambda **at: bound(np.logaddexp, **at)),
        (Hard(), Angles, lambda **at: bound(np.maximum, **at)),
        (ImportanceWeighted(1), Angles, lambda **at: bound(np.logaddexp, **at)),
        (Exact(), AnglesByCluster, bound_by_cluster),
    ],
    ids=["exact", "hard", "importance", "by cluster"],
)
def test_gradients_are_those_of_the_bound(objective, story, truth):
    """The mean of 40 gradients from 2,000 rows each lies within 5 standard errors: wrong in one run of a million."""
    told, x = story(), torch.tensor([ROW]).expand(2000, 2)
    gradients = []
    for _ in range(40):
        loss = objective.differentiable_loss(told.model, told.guide, x) / len(x)
        gradients.append(torch.stack(torch.autograd.grad(-loss, [told.loc, told.log_concentration])))
    found = torch.stack(gradients)
    error = found.std(0) / math.sqrt(len(found))
    expected = slope(truth)
    assert (error < 0.05 * expected.abs().max()).all(), (error, expected)
    assert ((found.mean(0) - expected).abs() < 5 * error).all(), (found.mean(0), expected, error)


def test_several_particles_follow_the_slope_of_their_own_bound():
    """Against differences of the importance-weighted bound by common draws, reweighted: 5 standard errors."""
    told, x = Angles(), torch.tensor([ROW]).expand(2000, 2)
    objective = ImportanceWeighted(4)
    gradients = []
    for _ in range(40):
        loss = objective.differentiable_loss(told.model, told.guide, x) / len(x)
        gradients.append(torch.stack(torch.autograd.grad(-loss, [told.loc, told.log_concentration])))
    found = torch.stack(gradients)
    grid = np.linspace(-np.pi, np.pi, 40, endpoint=False)

    def truth(loc=0.7, log_concentration=1.0):
        c = math.exp(log_concentration)
        q = np.exp(log_q(grid, loc, c)) * 2 * np.pi / len(grid)
        w = np.exp(np.logaddexp(*columns(grid)) - log_q(grid, loc, c))
        total = np.add.outer(np.add.outer(w, w), np.add.outer(w, w))
        chance = np.multiply.outer(np.multiply.outer(q, q), np.multiply.outer(q, q))
        return float((chance * np.log(total / 4)).sum())

    expected, error = slope(truth), found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - expected).abs() < 5 * error).all(), (found.mean(0), expected, error)


def test_values_are_as_they_were():
    told, x = Angles(), torch.tensor([ROW]).expand(50, 2)
    for objective in (Exact(), ImportanceWeighted(3)):
        pyro.set_rng_seed(0)
        value = float(objective.differentiable_loss(told.model, told.guide, x).detach())
        pyro.set_rng_seed(0)
        assert objective.loss(told.model, told.guide, x) == pytest.approx(value)


class Shared(Angles):
    """One angle for all rows."""

    def model(self, x):
        a = pyro.sample("a", dist.VonMises(torch.tensor(0.0), torch.tensor(0.1)))
        with pyro.plate("data", len(x)):
            k = pyro.sample("cluster", dist.Categorical(torch.ones(2) / 2))
            mean = torch.stack([a.cos(), a.sin()]) * torch.tensor(self.radii)[k][..., None]
            pyro.sample("x", dist.Normal(mean, 0.5).to_event(1), obs=x)

    def guide(self, x):
        pyro.sample("a", dist.VonMises(self.loc, self.log_concentration.exp()))


def test_a_global_latents_gradient_is_that_of_the_bound():
    """The mean of 1,500 gradients lies within 5 standard errors."""
    told, x = Shared(), torch.tensor([ROW]).expand(4, 2)

    def truth(loc=0.7, log_concentration=1.0):
        c = math.exp(log_concentration)

        def integrand(a):
            rows = 4 * (np.logaddexp(*columns(a)) - log_q(a, 0.0, 0.1))
            return np.exp(log_q(a, loc, c)) * (rows + log_q(a, 0.0, 0.1) - log_q(a, loc, c)) / 4

        return integrate.quad(integrand, -np.pi, np.pi, epsabs=1e-10)[0]

    gradients = []
    for _ in range(1500):
        loss = Exact().differentiable_loss(told.model, told.guide, x) / len(x)
        gradients.append(torch.stack(torch.autograd.grad(-loss, [told.loc, told.log_concentration])))
    found = torch.stack(gradients)
    expected, error = slope(truth), found.std(0) / math.sqrt(len(found))
    assert (error < 0.2 * expected.abs().max()).all(), (error, expected)
    assert ((found.mean(0) - expected).abs() < 5 * error).all(), (found.mean(0), expected, error)


@pytest.mark.parametrize("parameter", ["loc", "log_concentration"])
def test_an_angle_of_nan_is_refused_by_name_where_drawing_would_not_end(parameter):
    told, x = Angles(), torch.tensor([ROW]).expand(5, 2)
    pc.elbo(told, x)
    getattr(told, parameter).data.fill_(math.nan)
    with pytest.raises(pc.NonFiniteError, match=r"site 'a': the (loc|concentration) of VonMises is NaN"):
        pc.elbo(told, x)


def test_a_fit_finds_the_rows_angle():
    told, x = Angles(loc=2.0, log_concentration=0.0), torch.tensor([[1.0, 0.1], [1.0, -0.1]]).repeat(128, 1)
    pc.fit(told, x, epochs=150, learning_rate=0.05)
    assert float(told.loc.detach()) == pytest.approx(0.0, abs=0.1)
