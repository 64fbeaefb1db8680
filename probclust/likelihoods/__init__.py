"""Likelihoods p(x | decoder outputs): parts that turn a decoder's outputs into a distribution of one row.

`interface` says what a story asks of one, ours or the user's; each of the other files has those of one kind of data.
"""

from __future__ import annotations

from probclust.likelihoods.base import FeatureLikelihood, Likelihood, encoder_inputs, n_inputs, n_outputs, n_view, view
from probclust.likelihoods.categorical import Categorical
from probclust.likelihoods.counts import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from probclust.likelihoods.missing import Missing
from probclust.likelihoods.mixed import Mixed
from probclust.likelihoods.multinomial import Multinomial
from probclust.likelihoods.named import likelihood_named
from probclust.likelihoods.real import Gaussian, Laplace, LogNormal, StudentT
from probclust.likelihoods.unit_interval import Bernoulli, ContinuousBernoulli

__all__ = [
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "FeatureLikelihood",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "LogNormal",
    "Missing",
    "Mixed",
    "Multinomial",
    "NegativeBinomial",
    "Poisson",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
    "encoder_inputs",
    "likelihood_named",
    "n_inputs",
    "n_outputs",
    "n_view",
    "view",
]
