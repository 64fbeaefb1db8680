"""The Gaussian mixture, told as a story: the exact anchor of the deep ones.

Generative story, for each row:

    cluster ~ Categorical(a)
    x | cluster = k ~ Normal(m_k, S_k)

with S_k full, diagonal or spherical. There are no local latents, so the log joint is exact,
log a_k + log Normal(x; m_k, S_k), and `pc.log_likelihood` equals `sklearn.mixture.GaussianMixture.score_samples`.

Source: C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, section 9.2.
"""

from __future__ import annotations

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from sklearn.mixture import GaussianMixture as SklearnMixture
from torch import Tensor, nn
from torch.nn import functional

from probclust.arguments import real
from probclust.distributions import DiagonalNormal
from probclust.distributions.observed import observed
from probclust.distributions.softplus import inverse_softplus
from probclust.priors import Weights, weights_named
from probclust.starts import fitted_gaussians
from probclust.starts.clusterers.gaussian_em import Gaussians
from probclust.story import SVI, Compute, GuideKind, Run, Step, Story


class GaussianMixture(Story):
    """A mixture of Gaussians.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        covariance_type: "full", "diag" or "spherical", as scikit-learn has them.
        reg_covar: added to the variances during EM; standard deviations stay above half its root.
        missing: take NaN entries of x as unobserved: the log joint is that of the others, exactly. EM then takes
            near rows' entries in their place, and SVI, which knows better, runs for longer.
        weights, global_guide: p(cluster), a name or a part of `probclust.weights`, and its posterior, see `Story`.

    Examples:
        >>> import torch, probclust as pc
        >>> pc.log_joint(GaussianMixture(2, 3, covariance_type="diag"), torch.randn(5, 2)).shape
        torch.Size([5, 3])
    """

    any_scale = True

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        covariance_type: Literal["full", "diag", "spherical"] = "full",
        reg_covar: float = 1e-6,
        missing: bool = False,
        weights: str | Weights = "learned",
        global_guide: GuideKind = "conjugate",
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters, global_guide=global_guide)
        self.weights = weights_named(weights, n_clusters)
        if covariance_type not in ("full", "diag", "spherical"):
            raise ValueError(f"covariance_type must be 'full', 'diag' or 'spherical', got {covariance_type!r}")
        self.covariance_type, self.reg_covar, self.missing = covariance_type, real("reg_covar", reg_covar, 0), missing
        self.floor = 0.5 * reg_covar**0.5
        self.loc = nn.Parameter(torch.randn(n_clusters, n_features))
        n_scales = 1 if covariance_type == "spherical" else n_features
        self.raw_scale = nn.Parameter(torch.full((n_clusters, n_scales), 0.5))
        if covariance_type == "full":
            self.lower = nn.Parameter(torch.zeros(n_clusters, n_features, n_features))

    def model(self, x: Tensor) -> None:
        """p(cluster) p(x | cluster)."""
        weights = self.weights()
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", weights, infer={"enumerate": "parallel"})
            pyro.sample("x", self.component(cluster), obs=x)

    def guide(self, x: Tensor) -> None:
        """Nothing is latent but the cluster."""

    @property
    def scale(self) -> Tensor:
        """(K, D) or (K, 1) standard deviations; where full, the diagonal of the Cholesky factors."""
        return self.floor + functional.softplus(self.raw_scale)

    def component(self, cluster: Tensor) -> Any:
        """p(x | cluster)."""
        loc, scale = self.loc[cluster], self.scale[cluster]
        if self.covariance_type == "full":
            factor = self.lower[cluster].tril(-1) + torch.diag_embed(scale)
            fn = dist.MultivariateNormal(loc, scale_tril=factor)
        else:
            fn = DiagonalNormal(loc, scale)
        return observed(fn) if self.missing else fn

    def recipe(self) -> list[Step]:
        """EM from k-means, then SVI; under stick-breaking weights, EM is that of a Dirichlet process mixture."""
        svi = SVI(epochs=100, learning_rate=1e-2) if self.missing else SVI(epochs=20, learning_rate=1e-3)
        return [Compute(name="em", run=self._em), svi]

    def _em(self, run: Run) -> None:
        mixture = fitted_gaussians(run, self.weights, covariance_type=self.covariance_type, reg_covar=self.reg_covar)
        self.set_parameters(mixture, n_rows=len(run.x))

    @torch.no_grad()
    def set_parameters(self, mixture: SklearnMixture | Gaussians, order: Any = None, n_rows: int = 1) -> None:
        """Take the parameters of a fitted `sklearn.mixture.GaussianMixture` of the same covariance type.

        Args:
            mixture: scikit-learn's, or one of its attributes.
            order: (K,) its component for each cluster; None for its own order.
            n_rows: it was fitted to, from which weights that have a prior get their posterior.
        """
        pick = torch.arange(self.n_clusters) if order is None else torch.as_tensor(order)
        shares, loc, covariance = (
            torch.as_tensor(value).double()[pick] for value in (mixture.weights_, mixture.means_, mixture.covariances_)
        )
        self.start_weights(shares.to(self.loc), n_rows)
        self.loc.copy_(loc)
        if self.covariance_type == "full":
            factor = torch.linalg.cholesky(covariance)
            self.lower.copy_(factor.tril(-1))
            scale = factor.diagonal(dim1=-2, dim2=-1)
        else:
            scale = covariance.reshape(self.raw_scale.shape).sqrt()
        self.raw_scale.copy_(inverse_softplus(scale - self.floor))
