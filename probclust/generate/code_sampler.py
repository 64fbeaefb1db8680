"""Rows drawn from a density of codes, for stories whose model has none: the base of DAMIC, DCN and DMAE."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from torch import Tensor

from probclust.priors.codes import CodeDensity
from probclust.story.chunks import chunks, evaluating
from probclust.story.recipe import Compute, Step
from probclust.story.rows import admit
from probclust.story.scoring import predict
from probclust.story.story import Story


class CodeSampler(Story):
    """A story that draws rows cluster by cluster from a density fitted to its codes, once it is trained.

    A subclass sets `self.code_density`. Where it has no `codec` it says what a row's code is, and what a code's row.

    Attributes:
        code_density: p(cluster) p(code | cluster).
        code_site: name under which `pc.sample` gives the codes.
    """

    codec: Any
    code_density: CodeDensity
    code_site = "z"

    def code_of(self, x: Tensor, cluster: Tensor) -> Tensor:
        """(rows, L) codes of (rows, D), each as its (rows,) cluster has it: the codec's, unless overridden."""
        return self.codec.mean(x)

    def row_of(self, code: Tensor, cluster: Tensor) -> Any:
        """p(x | code, cluster), event (D,): the codec's, unless overridden."""
        return self.codec.decode(code)

    def generative(self, x: Tensor) -> None:
        """p(cluster) p(code | cluster) p(x | code, cluster): what `pc.sample` draws from.

        Raises:
            ValueError: `fit_codes` has not run, or there is no density of such codes.
        """
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", self.code_density.clusters())
            code = pyro.sample(self.code_site, self.code_density(cluster))
            pyro.sample("x", self.row_of(code, cluster), obs=x)

    @torch.no_grad()
    def fit_codes(self, x: Any) -> None:
        """Fit the density to the codes that rows have in their own clusters, for `pc.sample`.

        Args:
            x: (rows, n_features).

        Raises:
            ValueError: there is no density of such codes.
        """
        self.code_density.require_normaliser()
        rows = admit(self, x)
        labels = predict(self, rows).to(self.device)
        with evaluating(self, 0):
            codes = torch.cat([self.code_of(batch, labels[part]) for part, batch in chunks(self, rows)])
        self.code_density.fit(codes, labels)

    def fit_codes_steps(self) -> list[Step]:
        """The last step of a recipe, `fit_codes`; none where there is no density of such codes."""
        if not self.code_density.part.is_density:
            return []
        return [Compute(name="codes", run=lambda run: self.fit_codes(run.x))]
