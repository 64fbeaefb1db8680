"""Dissimilarities V(x, theta_k) as densities of a cluster's rows: parts of stories.

Each turns clusters into distributions with

    log p(x | cluster = k) = -alpha_k V(x, theta_k) - log beta_k,

beta_k being the integral of exp(-alpha_k V(x, theta_k)) over x, in closed form. So mixtures over different
dissimilarities can be compared by likelihood, and drawn from.

Source: J. S. Lara, F. A. Gonzalez, "Dissimilarity mixture autoencoder for deep clustering", 2020, equations 3 and 14.
The paper leaves beta_k open, and learns its product with the weights instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.distributions import NormExponential, Score, VonMisesFisher, p_norm
from probclust.recorded import Part
from probclust.warm_start import inverse_softplus

LearnAlpha = bool | Literal["shared", "cluster"]
MIN_ALPHA, MAX_ALPHA = 1e-10, 1e10


class Dissimilarity(Part):
    """Base of the dissimilarities: a centre for each cluster, and the inverse temperature alpha.

    A subclass defines `between` and `density`.

    Args:
        n_features: D, columns of x (or of the code).
        n_clusters: K.
        alpha: at the start; between 1e-10 and 1e10.
        learn_alpha: False to hold it fixed; "shared" (the same as True), one for all clusters, or "cluster", one for
            each.

    Attributes:
        is_density: whether `density` has its normaliser.
        on_sphere: whether rows must have length 1, and densities are with respect to the sphere's surface measure.
        degree: V grows by c to this power where x - theta_k does by c; so alpha V(x, theta_k) ~ Gamma(D / degree, 1).
        start_by: the start that the paper uses for it.
        unit: (D,) spread of the columns of the rows that it was started from; centres are kept in it, so that Adam's
            steps have the size of the data.
    """

    is_density: ClassVar[bool] = True
    on_sphere: ClassVar[bool] = False
    degree: ClassVar[int] = 1
    start_by: ClassVar[Literal["k-means", "k-medoids"]] = "k-medoids"
    unit: Tensor

    def __init__(self, n_features: int, n_clusters: int, alpha: float = 1.0, learn_alpha: LearnAlpha = True) -> None:
        super().__init__()
        if not MIN_ALPHA <= alpha <= MAX_ALPHA:
            raise ValueError(f"alpha must lie between {MIN_ALPHA:g} and {MAX_ALPHA:g}, got {alpha!r}")
        if learn_alpha not in (True, False, "shared", "cluster"):
            raise ValueError(f"learn_alpha must be True, False, 'shared' or 'cluster', got {learn_alpha!r}")
        self.n_features, self.n_clusters = n_features, n_clusters
        self.raw_loc = nn.Parameter(torch.randn(n_clusters, n_features))
        n_alphas = n_clusters if learn_alpha == "cluster" else 1
        self.log_alpha = nn.Parameter(torch.full((n_alphas,), math.log(alpha)), requires_grad=bool(learn_alpha))
        self.register_buffer("unit", torch.ones(n_features))

    @property
    def loc(self) -> Tensor:
        """(K, D) centres."""
        return self.unit * self.raw_loc

    @property
    def alpha(self) -> Tensor:
        """(K,) inverse temperatures."""
        bounded = self.log_alpha.clamp(math.log(MIN_ALPHA), math.log(MAX_ALPHA))
        return bounded.exp().expand(self.n_clusters)

    @property
    def theta(self) -> tuple[Tensor, ...]:
        """The clusters' parameters, each (K, ...): the centres, and what else `between` takes."""
        return (self.loc,)

    def between(self, x: Tensor, *theta: Tensor) -> Tensor:
        """V(x, theta): (...) from (..., D) rows and parameters that broadcast against them."""
        raise NotImplementedError(f"{type(self).__name__} must define between(self, x, *theta)")

    def forward(self, x: Tensor) -> Tensor:
        """(rows, K) dissimilarities of (rows, D) rows to all clusters, equation 9 of the paper."""
        return self.between(x[:, None], *self.theta)

    def density(self, cluster: Tensor) -> Any:
        """p(x | cluster): batch (K, 1) or (rows,) as `cluster` has it, and event (D,)."""
        raise NotImplementedError(f"{type(self).__name__} must define density(self, cluster)")

    @torch.no_grad()
    def start(self, x: Tensor, labels: Tensor) -> None:
        """Centres, and alpha where it is learned, from rows (rows, D) and their starting clusters (rows,)."""
        self.unit.copy_(_spread(x))
        groups = [x[labels == k] if (labels == k).any() else x for k in range(self.n_clusters)]
        self.place(groups)
        if self.log_alpha.requires_grad:
            own = torch.stack([self.between(g, *(t[k] for t in self.theta)).mean() for k, g in enumerate(groups)])
            if len(self.log_alpha) == 1:
                sizes = own.new_tensor([len(group) for group in groups])
                own = (sizes * own).sum(0, keepdim=True) / sizes.sum()
            self.log_alpha.copy_(self.alpha_of(own).clamp(MIN_ALPHA, MAX_ALPHA).log())

    def place(self, groups: list[Tensor]) -> None:
        """Set the clusters' parameters from each one's rows."""
        self.raw_loc.copy_(torch.stack([self.centre(group) for group in groups]) / self.unit)

    def centre(self, rows: Tensor) -> Tensor:
        """(D,) the centre of some rows."""
        return rows.mean(0)

    def alpha_of(self, mean: Tensor) -> Tensor:
        """The most likely alpha where the dissimilarities have this mean."""
        return self.n_features / self.degree / mean.clamp(min=1e-30)


def _spread(x: Tensor) -> Tensor:
    """(D,) standard deviations, at least a hundredth of their root mean square; 1 where nothing varies."""
    variance = x.var(0, correction=0)
    spread = variance.clamp(min=1e-4 * variance.mean().item()).sqrt()
    return torch.where(spread > 0, spread, torch.ones_like(spread))


class Norm(Dissimilarity):
    """V(x, m) = ||x - m||_p, equation 14 of the paper; beta = D! vol(B_p) / alpha^D, with B_p the unit ball."""

    p: float

    def between(self, x: Tensor, *theta: Tensor) -> Tensor:
        """||x - m||_p."""
        return p_norm(x - theta[0], self.p)

    def density(self, cluster: Tensor) -> Any:
        """`probclust.distributions.NormExponential`."""
        return NormExponential(self.loc[cluster], self.alpha[cluster], self.p)


class Manhattan(Norm):
    """V(x, m) = sum_d |x_d - m_d|: independent Laplace columns; beta = (2 / alpha)^D."""

    p = 1.0

    def centre(self, rows: Tensor) -> Tensor:
        """The median of each column."""
        return rows.median(0).values


class Euclidean(Norm):
    """V(x, m) = sqrt(sum_d (x_d - m_d)^2), not squared: a peak at the centre, and heavier tails than a Gaussian's."""

    p = 2.0
    start_by = "k-means"


class Chebyshev(Norm):
    """V(x, m) = max_d |x_d - m_d|; beta = D! (2 / alpha)^D."""

    p = math.inf


class Minkowski(Norm):
    """V(x, m) = ||x - m||_p for any p.

    Args:
        n_features: see `Dissimilarity`.
        n_clusters: see `Dissimilarity`.
        p: at least 1, `math.inf` included.
        alpha: see `Dissimilarity`.
        learn_alpha: see `Dissimilarity`.
    """

    def __init__(
        self, n_features: int, n_clusters: int, p: float = 3.0, alpha: float = 1.0, learn_alpha: LearnAlpha = True
    ) -> None:
        super().__init__(n_features, n_clusters, alpha, learn_alpha)
        if not p >= 1:
            raise ValueError(f"p must be at least 1 (below, there is no norm), got {p!r}")
        self.p = float(p)


class SquaredEuclidean(Dissimilarity):
    """V(x, m) = sum_d (x_d - m_d)^2: a spherical Gaussian of variance 1 / (2 alpha)."""

    degree = 2
    start_by = "k-means"

    def between(self, x: Tensor, *theta: Tensor) -> Tensor:
        """||x - m||^2."""
        return (x - theta[0]).square().sum(-1)

    def density(self, cluster: Tensor) -> Any:
        """A normal distribution."""
        scale = (2 * self.alpha[cluster]).rsqrt()
        return dist.Normal(self.loc[cluster], scale[..., None]).to_event(1)


class Mahalanobis(Dissimilarity):
    """V(x, (m, S)) = (x - m)' S^-1 (x - m) with S = L L' full: a Gaussian of covariance S / (2 alpha).

    Its alpha is fixed, as S learns the scale: one half makes S the covariance.

    Args:
        n_features: see `Dissimilarity`.
        n_clusters: see `Dissimilarity`.
        alpha: fixed.
        floor: lower bound of the diagonal of L, in units of the column's spread.
    """

    degree = 2
    start_by = "k-means"

    def __init__(self, n_features: int, n_clusters: int, alpha: float = 0.5, floor: float = 1e-2) -> None:
        super().__init__(n_features, n_clusters, alpha, learn_alpha=False)
        if not floor > 0:
            raise ValueError(f"floor must be positive, got {floor!r}")
        self.floor = floor
        self.raw_diagonal = nn.Parameter(torch.full((n_clusters, n_features), 0.5))
        self.lower = nn.Parameter(torch.zeros(n_clusters, n_features, n_features))

    @property
    def factor(self) -> Tensor:
        """(K, D, D) Cholesky factors L."""
        diagonal = self.floor + functional.softplus(self.raw_diagonal)
        return self.unit[:, None] * (self.lower.tril(-1) + torch.diag_embed(diagonal))

    @property
    def theta(self) -> tuple[Tensor, ...]:
        """Centres (K, D) and Cholesky factors (K, D, D)."""
        return self.loc, self.factor

    def between(self, x: Tensor, *theta: Tensor) -> Tensor:
        """||L^-1 (x - m)||^2."""
        loc, factor = theta
        if factor.dim() > x.dim():  # each row has a factor of its own
            solved = torch.linalg.solve_triangular(factor, (x - loc)[..., None], upper=False)
            return solved.square().sum((-2, -1))
        inverse = torch.linalg.solve_triangular(factor, torch.eye(self.n_features).to(factor), upper=False)
        return torch.einsum("...ij,...j->...i", inverse, x - loc).square().sum(-1)  # copies no factor for each row

    def density(self, cluster: Tensor) -> Any:
        """A multivariate normal distribution."""
        factor = self.factor * (2 * self.alpha).rsqrt()[:, None, None]
        return dist.MultivariateNormal(self.loc[cluster], scale_tril=factor[cluster])

    def place(self, groups: list[Tensor]) -> None:
        """Means and covariances."""
        super().place(groups)
        for k, rows in enumerate(groups):
            centred = (rows - rows.mean(0)).double() / self.unit
            covariance = 2 * self.alpha[k] * centred.T @ centred / len(rows)
            ridge = (1.01 * self.floor) ** 2 * torch.eye(self.n_features).to(covariance)
            factor = torch.linalg.cholesky(covariance + ridge).to(self.lower)
            self.lower[k] = factor.tril(-1)
            self.raw_diagonal[k] = inverse_softplus(factor.diagonal() - self.floor)


class Cosine(Dissimilarity):
    """V(x, m) = 1 - cos(x, m): a von Mises-Fisher distribution of directions, of concentration alpha.

    Rows must have length 1, and the density is with respect to the sphere's surface measure: it cannot be ranked
    against a density of rows in space. beta = (2 pi)^(D/2) I_{D/2-1}(alpha) exp(-alpha) / alpha^(D/2-1), with I the
    modified Bessel function.
    """

    on_sphere = True

    def __init__(self, n_features: int, n_clusters: int, alpha: float = 1.0, learn_alpha: LearnAlpha = True) -> None:
        super().__init__(n_features, n_clusters, alpha, learn_alpha)
        if n_features < 2:
            raise ValueError(f"cosine dissimilarity needs at least 2 features, got n_features={n_features}")

    @property
    def loc(self) -> Tensor:
        """(K, D) mean directions, of length 1."""
        return functional.normalize(self.raw_loc, dim=-1)

    def between(self, x: Tensor, *theta: Tensor) -> Tensor:
        """1 - cos(x, m), for rows of any length."""
        return 1 - (functional.normalize(x, dim=-1) * functional.normalize(theta[0], dim=-1)).sum(-1)

    def density(self, cluster: Tensor) -> Any:
        """`probclust.distributions.VonMisesFisher`."""
        return VonMisesFisher(self.loc[cluster], self.alpha[cluster])

    def place(self, groups: list[Tensor]) -> None:
        """Mean directions, kept at length sqrt(D), so that the entries have the size that Adam's steps suit."""
        means = torch.stack([functional.normalize(rows, dim=-1).mean(0) for rows in groups])
        self.raw_loc.copy_(functional.normalize(means, dim=-1) * math.sqrt(self.n_features))

    def alpha_of(self, mean: Tensor) -> Tensor:
        """Nearly the most likely one. Source: Banerjee and others, "Clustering on the unit hypersphere", 2005."""
        length = (1 - mean).clamp(1e-6, 1 - 1e-6)
        return length * (self.n_features - length.square()) / (1 - length.square())


class Custom(Dissimilarity):
    """A dissimilarity of the user's, given as a plain function; without a normaliser it is a score and no density.

    So alpha is fixed (the most likely one would be 0), the story that uses it has `is_density = False`, and `sample`
    says that there is nothing to draw from. To save a story, derive a class from `Dissimilarity` instead and register
    it with `probclust.register`: a function cannot be saved.

    Args:
        function: takes (..., D) rows and (..., D) centres that broadcast, to (...) numbers of at least 0; of torch.
        n_features: see `Dissimilarity`.
        n_clusters: see `Dissimilarity`.
        alpha: fixed.

    Example:
        >>> import torch
        >>> part = Custom(lambda x, m: (x - m).abs().sqrt().sum(-1), n_features=2, n_clusters=3)
        >>> part(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
    """

    is_density = False

    def __init__(
        self, function: Callable[[Tensor, Tensor], Tensor], n_features: int, n_clusters: int, alpha: float = 1.0
    ) -> None:
        super().__init__(n_features, n_clusters, alpha, learn_alpha=False)
        if not callable(function):
            raise TypeError(f"function must be callable as function(x, centres), got {type(function).__name__}")
        self.function = function

    def between(self, x: Tensor, *theta: Tensor) -> Tensor:
        """The function's value."""
        return self.function(x, theta[0])

    def density(self, cluster: Tensor) -> Any:
        """`probclust.distributions.Score`."""
        return Score(self.function, self.loc[cluster], self.alpha[cluster])

    def centre(self, rows: Tensor) -> Tensor:
        """Almost the row that is nearest to the others, among the first thousand.

        At the row itself the function may have no gradient.
        """
        rows = rows[:1000]
        medoid = rows[torch.stack([self.between(rows, row).sum() for row in rows]).argmin()]
        return medoid.lerp(rows.mean(0), 0.01)


_BY_NAME: dict[str, type[Dissimilarity]] = {
    "squared_euclidean": SquaredEuclidean,
    "euclidean": Euclidean,
    "manhattan": Manhattan,
    "chebyshev": Chebyshev,
    "minkowski": Minkowski,
    "mahalanobis": Mahalanobis,
    "cosine": Cosine,
}


def dissimilarity_named(
    dissimilarity: str | Dissimilarity,
    n_features: int,
    n_clusters: int,
    alpha: float | None = None,
    learn_alpha: LearnAlpha = True,
) -> Dissimilarity:
    """The dissimilarity of that name; a part is checked and passed through.

    Args:
        dissimilarity: a name, or a part.
        n_features: D.
        n_clusters: K.
        alpha: of a named one; None for its own default.
        learn_alpha: of a named one; Mahalanobis holds alpha fixed, for its covariance learns the scale.

    Raises:
        ValueError: the name is unknown, the part is of another size, or `alpha` is given beside a part.
        TypeError: it is neither a name nor a part.
    """
    if isinstance(dissimilarity, Dissimilarity):
        sizes = dissimilarity.n_features, dissimilarity.n_clusters
        if sizes != (n_features, n_clusters):
            raise ValueError(
                f"the dissimilarity must be built for n_features={n_features} and n_clusters={n_clusters}, got one "
                f"for n_features={sizes[0]} and n_clusters={sizes[1]}"
            )
        if alpha is not None:
            raise ValueError("alpha belongs to the dissimilarity where one is passed in; give it to its constructor")
        return dissimilarity
    if not isinstance(dissimilarity, str):
        raise TypeError(f"expected the name of a dissimilarity or a part, got {type(dissimilarity).__name__}")
    if dissimilarity not in _BY_NAME:
        raise ValueError(
            f"dissimilarity must be one of {sorted(_BY_NAME)} or a part of probclust.dissimilarities, got "
            f"{dissimilarity!r}"
        )
    options: dict[str, Any] = {} if alpha is None else {"alpha": alpha}
    if dissimilarity != "mahalanobis":
        options["learn_alpha"] = learn_alpha
    return _BY_NAME[dissimilarity](n_features, n_clusters, **options)
