"""DAMIC, deep autoencoder mixture clustering: a gate chooses one of K autoencoders, the experts.

Generative story, for each row, given the row itself (`conditional`: no density of x):

    h = embedding(x)
    cluster | h ~ Categorical(softmax(gate(h)))                                    equation 1
    x | cluster = k ~ Normal(f_k(x), I),    f_k(x) = decoder_k(encoder_k(x))

so that the log joint of row x and cluster k is

    log p(k | x) - 1/2 ||x - f_k(x)||^2 - D/2 log(2 pi).

Minus its logsumexp over k is the paper's loss, equation 3, plus the constant D/2 log(2 pi): the exact objective. Its
softmax over k is the soft assignment, equation 5, which weights the gradients, equation 4: `pc.responsibilities`.
`assign` has the paper's own two rules, and `pc.embed` gives h(x), the paper's embedding (figure 2). Without the gate
(`gate=False`) the hard objective is equation 7, a k-DAE, plus constants, and with constant f_k all of it is k-means.

Unlike the paper, which draws no samples, `pc.sample` draws from a Gaussian of each expert's codes (`CodeSampler`).

Source: S. E. Chazan, S. Gannot, J. Goldberger, "Deep clustering based on a mixture of autoencoders", 2019, equations
1-7 and table 1; architecture in its section 3.4. Unlike the paper, codes, h(x) and outputs are linear, for rows of any
range (there: ReLU, ReLU and sigmoid), and no layer is batch-normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.arguments import positive
from probclust.generate.code_sampler import CodeSampler
from probclust.likelihoods import Gaussian, Likelihood, encoder_inputs, likelihood_named, n_inputs
from probclust.networks import ExpertCodecs, check_sizes, mlp
from probclust.priors import CodeDensity, GaussianCodes
from probclust.starts import Start, keep_known, own_rows
from probclust.story import SVI, Batch, Compute, Pass, Run, Step, Train, admit, evaluating, predict
from probclust.story.chunks import chunks


class DAMIC(CodeSampler):
    """A gate network and K autoencoders, the autoencoders run as one stacked network.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim, hidden: of each expert's code, see `probclust.networks.ExpertCodecs`; None for the paper's size, K.
        gate: False for the variant without a gate, equation 7.
        gate_hidden: sizes of the hidden layers before h(x).
        embedding_dim: size of h(x); None for K, as in the paper.
        likelihood: p(x | f_k(x)), a name or a part; None for the paper's Normal(f_k(x), I).

    Examples:
        >>> import torch, probclust as pc
        >>> pc.log_joint(DAMIC(16, n_clusters=3, latent_dim=2, hidden=(8,), gate_hidden=(8,)), torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    conditional = True
    renamed_state = ExpertCodecs.earlier | CodeDensity.earlier
    uniform: Tensor

    def __init__(
        self,
        n_features: int,
        n_clusters: int,
        latent_dim: int | None = None,
        hidden: Sequence[int] = (1024, 256),
        gate: bool = True,
        gate_hidden: Sequence[int] = (512, 512),
        embedding_dim: int | None = None,
        likelihood: str | Likelihood | None = None,
    ) -> None:
        super().__init__(n_features=n_features, n_clusters=n_clusters)
        check_sizes(1 if latent_dim is None else latent_dim, hidden=hidden, gate_hidden=gate_hidden)
        size = latent_dim or n_clusters
        part = likelihood_named(likelihood or Gaussian(n_features, scale=1.0), n_features)
        self.has_gate = gate
        if gate:
            self.embedding = mlp([n_inputs(part, n_features), *gate_hidden, embedding_dim or n_clusters])
            self.gate = nn.Linear(embedding_dim or n_clusters, n_clusters)
        self.experts = ExpertCodecs(n_clusters, n_features, size, hidden, part, posterior="point")
        self.register_buffer("uniform", torch.zeros(n_clusters), persistent=False)
        self.code_density = CodeDensity(n_clusters, GaussianCodes(n_clusters, size))

    def model(self, x: Tensor) -> None:
        """p(cluster | x) p(x | cluster, x)."""
        with pyro.plate("data", x.shape[0]):
            logits = self.uniform
            if self.has_gate:
                h = pyro.sample("h", dist.Delta(self._embed(x), event_dim=1))
                logits = self.gate(h)
            cluster = pyro.sample("cluster", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            pyro.sample("x", self.experts.decode(self.experts.encode(x, cluster), cluster), obs=x)

    def guide(self, x: Tensor) -> None:
        """The embedding h(x), which is no random variable: a site so that `pc.embed` finds it."""
        if self.has_gate:
            with pyro.plate("data", x.shape[0]):
                pyro.sample("h", dist.Delta(self._embed(x), event_dim=1))

    def code_of(self, x: Tensor, cluster: Tensor) -> Tensor:
        """The code that the cluster's expert gives."""
        return self.experts.encode(x, cluster)

    def row_of(self, code: Tensor, cluster: Tensor) -> Any:
        """p(x | z, cluster), by the cluster's expert."""
        return self.experts.decode(code, cluster)

    def recipe(
        self,
        fit_epochs: int = 10,
        epochs: int = 5,
        start_hidden: Sequence[int] = (500, 500, 2000),
        start_dim: int = 10,
        rounds: int = 1,
        **start: Any,
    ) -> list[Step]:
        """Cluster the codes of one autoencoder, fit gate and experts to the clusters, then train all by equation 3.

        Unlike the paper, the default pre-trains the single autoencoder with neighbours, which mislead where clusters
        are one cloud; the paper's start is pretraining="autoencoder" with some layerwise_epochs. Experts that fit well
        reconstruct their neighbours' rows too, so that borders between clusters rest where they started; fresh ones
        move them on, to where rows are few: some rounds of short training do better than long training.

        Args:
            fit_epochs: of the supervised start.
            epochs: of the joint training.
            start_hidden: sizes of the single autoencoder's hidden layers.
            start_dim: size of its code.
            rounds: supervised starts and joint trainings, each after the paper's one with fresh networks.
            start: see `probclust.starts.Start`.
        """
        training: list[Step] = []
        for number in range(1, positive("rounds", rounds) + 1):
            again = "" if number == 1 else f" {number}"  # names of steps differ
            if again:
                training.append(Compute(name="round" + again, run=self._start_again))
            if self.has_gate:
                gate: Any = {"loss": self._gate_loss, "epochs": fit_epochs, "batch_size": 64, "separable": True}
                training.append(Train(name="gate" + again, **gate))
            joint: Any = {"objective": "exact" if self.has_gate else "hard", "learning_rate": 5e-4, "batch_size": 64}
            training += [
                Train(name="experts" + again, loss=self._experts_loss, epochs=fit_epochs, batch_size=64),
                SVI(name="svi" + again, epochs=epochs, **joint),
            ]
        begin = Start(**start).steps(self, hidden=start_hidden, latent_dim=start_dim)
        return [*begin, *training, *self.fit_codes_steps()]

    def assign(self, x: Any, by: Literal["gate", "reconstruction"] = "gate") -> Tensor:
        """(rows,) clusters of (rows, n_features) by one of the paper's two rules, which `pc.predict` joins.

        Args:
            x: the rows.
            by: "gate" for the largest p(cluster | x), equation 2; "reconstruction" for the expert with the largest
                p(x | f_k(x)), which is the least squared error where the likelihood is the paper's, equation 6.
        """
        if by not in ("gate", "reconstruction"):
            raise ValueError(f"by must be 'gate' or 'reconstruction', got {by!r}")
        if by == "gate" and not self.has_gate:
            raise ValueError("this story was built with gate=False; use by='reconstruction'")
        rows = admit(self, x)
        labels = torch.empty(len(rows), dtype=torch.int64)
        with evaluating(self, 0):
            for part, batch in chunks(self, rows):
                site = Pass().run(self.model, batch)["cluster" if by == "gate" else "x"]
                labels[part] = site.log_prob.argmax(0).cpu()
        return labels

    def _embed(self, x: Tensor) -> Tensor:
        h: Tensor = self.embedding(encoder_inputs(self.experts.likelihood, x))
        return h

    def _start_again(self, run: Run) -> None:
        """The story's own clusters as the start of fresh networks."""
        run.memory.labels = keep_known(predict(self, run.x), run)
        run.memory.forget_labels()
        self.redraw()

    def _gate_loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of p(cluster | x) to the starting clusters, mean over rows."""
        return functional.cross_entropy(self.gate(self._embed(batch.x)), batch.run.memory.labels[batch.index])

    def _experts_loss(self, batch: Batch) -> Tensor:
        """Minus log p(x | f_k(x)) of each expert on rows of its own starting cluster, mean over rows."""
        x = own_rows(batch)
        cluster = torch.arange(self.n_clusters, device=x.device)[:, None]
        return -self.experts.decode(self.experts.encode(x, cluster), cluster).log_prob(x).mean()
