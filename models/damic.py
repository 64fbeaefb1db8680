"""DAMIC, deep autoencoder mixture clustering: a gate chooses one of K autoencoders, the experts.

Generative story, for each row, given the row itself (`conditional`: no density of x):

    h = embedding(x)
    cluster | h ~ Categorical(softmax(gate(h)))                                    equation 1
    x | cluster = k ~ Normal(f_k(x), I),    f_k(x) = decoder_k(encoder_k(x))

so that the log joint of row x and cluster k is

    log p(k | x) - 1/2 ||x - f_k(x)||^2 - D/2 log(2 pi).

Minus its logsumexp over k is the paper's loss, equation 3, plus the constant D/2 log(2 pi): the exact objective. Its
softmax over k is the soft assignment, equation 5, which weights the gradients, equation 4: `pc.responsibilities`, and
`pc.predict` takes the largest. `assign` has the paper's own two rules: the gate alone, equation 2, and the least
reconstruction error, equation 6. `pc.embed` gives h(x), the paper's embedding (figure 2).

Without the gate (`gate=False`) the hard objective is equation 7, a k-DAE, plus constants; then `pc.predict` is
equation 6, and with constant f_k all of it is k-means.

Samples: the story has no p(x), but each expert's decoder turns codes into rows. `fit_codes`, the recipe's last step,
fits a Gaussian to the codes that each expert gives its own rows; `pc.sample` draws from those (Unlike the paper,
which draws no samples).

Source: S. E. Chazan, S. Gannot, J. Goldberger, "Deep clustering based on a mixture of autoencoders", 2019, equations
1-7 and table 1; architecture in its section 3.4. Unlike the paper, codes, h(x) and outputs are linear, for rows of any
range (there: ReLU, ReLU and sigmoid), and no layer is batch-normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from probclust.arguments import positive
from probclust.data.kinds import ImageShape
from probclust.likelihoods import Gaussian, Likelihood, encoder_inputs, likelihood_named, n_inputs, n_outputs, view
from probclust.networks.experts import run_experts
from probclust.networks.stacked import Autoencoder, StackedMLP, check_sizes, mlp, redraw
from probclust.priors.codes import CodeDensity
from probclust.starts.experts import MEMBERS, SIZES, own_rows
from probclust.starts.labels import keep_known
from probclust.starts.start import FROM_ROWS, chosen_pretraining, pretrained_start, start_from_rows
from probclust.story.chunks import chunks, evaluating
from probclust.story.joint import Pass
from probclust.story.recipe import CANDIDATES, START, SVI, Batch, Compute, Run, Step, Train
from probclust.story.rows import admit
from probclust.story.scoring import predict
from probclust.story.story import Story


class DAMIC(Story):
    """A gate network and K autoencoders, the autoencoders run as one stacked network.

    Args:
        n_features: D, columns of x.
        n_clusters: K.
        latent_dim: size of each expert's code; None for K, as in the paper.
        hidden: sizes of each expert's encoder; the decoders mirror them.
        gate: False for the variant without a gate, equation 7.
        gate_hidden: sizes of the hidden layers before h(x).
        embedding_dim: size of h(x); None for K, as in the paper.
        likelihood: p(x | f_k(x)): None for the paper's Normal(f_k(x), I), "gaussian" for one learned scale,
            "bernoulli", or an object like those in `probclust.likelihoods`.

    Examples:
        >>> import torch, probclust as pc
        >>> story = DAMIC(16, n_clusters=3, latent_dim=2, hidden=(8,), gate_hidden=(8,))
        >>> pc.log_joint(story, torch.rand(5, 16)).shape
        torch.Size([5, 3])
    """

    conditional = True
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
        self.latent_dim = latent_dim or n_clusters
        part = likelihood_named(likelihood or Gaussian(n_features, scale=1.0), n_features)
        n_seen = n_inputs(part, n_features)
        self.has_gate = gate
        if gate:
            self.embedding = mlp([n_seen, *gate_hidden, embedding_dim or n_clusters])
            self.gate = nn.Linear(embedding_dim or n_clusters, n_clusters)
        self.likelihood = part
        self.encoders = StackedMLP(n_clusters, [n_seen, *hidden, self.latent_dim])
        self.decoders = StackedMLP(
            n_clusters, [self.latent_dim, *reversed(hidden), n_outputs(self.likelihood, n_features)]
        )
        self.register_buffer("uniform", torch.zeros(n_clusters), persistent=False)
        self.codes = CodeDensity(n_clusters, self.latent_dim)

    def model(self, x: Tensor) -> None:
        """p(cluster | x) p(x | cluster, x)."""
        seen = encoder_inputs(self.likelihood, x)
        with pyro.plate("data", x.shape[0]):
            logits = self.uniform
            if self.has_gate:
                h = pyro.sample("h", dist.Delta(self.embedding(seen), event_dim=1))
                logits = self.gate(h)
            cluster = pyro.sample("cluster", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            code = run_experts(self.encoders, seen, cluster)
            pyro.sample("x", self.likelihood(run_experts(self.decoders, code, cluster)), obs=x)

    def guide(self, x: Tensor) -> None:
        """The embedding h(x), which is no random variable: a site so that `pc.embed` finds it."""
        if self.has_gate:
            with pyro.plate("data", x.shape[0]):
                pyro.sample("h", dist.Delta(self.embedding(encoder_inputs(self.likelihood, x)), event_dim=1))

    def generative(self, x: Tensor) -> None:
        """p(cluster) p(z | cluster) p(x | z, cluster), z the code of the cluster's expert: what `pc.sample` draws from.

        Raises:
            ValueError: `fit_codes` has not run.
        """
        with pyro.plate("data", x.shape[0]):
            cluster = pyro.sample("cluster", self.codes.clusters())
            z = pyro.sample("z", self.codes(cluster))
            pyro.sample("x", self.likelihood(run_experts(self.decoders, z, cluster)), obs=x)

    def recipe(
        self,
        pretraining: Literal["neighbours", "embedding", "words", "sequence", "autoencoder", "none"] | None = None,
        pretrain_epochs: int | None = None,
        fit_epochs: int = 10,
        epochs: int = 5,
        start_hidden: Sequence[int] = (500, 500, 2000),
        start_dim: int = 10,
        layerwise_epochs: int = 0,
        rounds: int = 1,
        image_shape: ImageShape | None = None,
        lengths: Sequence[int] | None = None,
        documents: bool = False,
    ) -> list[Step]:
        """Cluster the codes of one autoencoder, fit gate and experts to the clusters, then train all by equation 3.

        Unlike the paper, the default pre-trains the single autoencoder with neighbours. The paper's start is
        pretraining="autoencoder" with some layerwise_epochs.

        Where clusters overlap so that their rows are one cloud, as in the paper's synthetic set, neighbours mislead:
        take another start there. Experts that fit well reconstruct their neighbours' rows too, so that borders between
        clusters come to rest where they started; fresh ones move them on, to where rows are few. Some rounds of short
        training then do better than long training, which the bound does not show.

        Args:
            pretraining: "neighbours"; "embedding" for clusters of a neighbour embedding; "words" for those of documents
                by their words' vectors; "sequence" for those of rows in order that last; "autoencoder" for the paper's
                start, k-means on the codes of an autoencoder that reconstructs; or "none" for k-means on x itself. None
                for "embedding" where `image_shape` is given, "words" of `documents`, "sequence" where `lengths` are,
                else "neighbours".
            pretrain_epochs: of the single autoencoder; None for 50 of one that only reconstructs, else 15 but at least
                1,500 batches.
            fit_epochs: of the supervised start.
            epochs: of the joint training.
            start_hidden: sizes of the single autoencoder's hidden layers.
            start_dim: size of its code.
            layerwise_epochs: epochs for each layer of the single autoencoder on its own, before it is trained whole,
                with pretraining="autoencoder" only; 0 for none.
            rounds: supervised starts and joint trainings; from the second on, fresh gate and experts start from the
                clusters that the last round ended with. The paper has one.
            image_shape: height and width where rows are images, whose neighbours the image distortion model then finds.
            lengths: rows of each recording where rows are in order of time, recording after recording.
            documents: whether rows are documents, and columns their words' weights.
        """
        chosen = chosen_pretraining(self, pretraining, image_shape, lengths, documents)
        seen = partial(view, self.likelihood)
        single = Autoencoder(n_inputs(self.likelihood, self.n_features), start_hidden, start_dim)
        networks = lambda x: single.encoder(seen(x)), single.decoder, [single]
        objective = "exact" if self.has_gate else "hard"

        def draw_weights(run: Run) -> None:
            self.redraw()
            redraw(single)

        training: list[Step] = []
        for number in range(1, positive("rounds", rounds) + 1):
            again = "" if number == 1 else f" {number}"  # names of steps differ
            if again:
                training.append(Compute(name="round" + again, run=self._start_again))
            if self.has_gate:
                gate: Any = {"loss": self._gate_loss, "epochs": fit_epochs, "batch_size": 64, "separable": True}
                training.append(Train(name="gate" + again, **gate))
            training += [
                Train(name="experts" + again, loss=self._experts_loss, epochs=fit_epochs, batch_size=64),
                SVI(name="svi" + again, epochs=epochs, learning_rate=5e-4, batch_size=64, objective=objective),
            ]
        if chosen in FROM_ROWS:  # which needs no codes
            start: list[Step] = [start_from_rows(chosen, view=seen, image_shape=image_shape, lengths=lengths)]
        else:
            start = pretrained_start(
                chosen,
                *networks,
                pretrain_epochs,
                view=seen,
                image_shape=image_shape,
                layerwise_epochs=layerwise_epochs,
                perceptrons=(single.encoder, single.decoder),
            )
        return [
            Compute(name="weights", run=draw_weights),
            *start,
            *training,
            Compute(name="codes", run=lambda run: self.fit_codes(run.x)),
        ]

    def assign(self, x: Any, by: Literal["gate", "reconstruction"] = "gate") -> Tensor:
        """(rows,) clusters by one of the paper's two rules, which `pc.predict` joins.

        Args:
            x: (rows, n_features).
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

    @torch.no_grad()
    def fit_codes(self, x: Any) -> None:
        """Fit a Gaussian to the codes that each expert gives its own rows, and the clusters' weights, for `pc.sample`.

        Args:
            x: (rows, n_features).
        """
        rows = admit(self, x)
        labels = predict(self, rows).to(self.device)
        with evaluating(self, 0):
            codes = torch.cat(
                [
                    run_experts(self.encoders, encoder_inputs(self.likelihood, batch), labels[part])
                    for part, batch in chunks(self, rows)
                ]
            )
        self.codes.fit(codes, labels)

    def _start_again(self, run: Run) -> None:
        """The story's own clusters as the start of fresh networks."""
        run.memory[START] = keep_known(predict(self, run.x), run)
        for name in (MEMBERS, SIZES, CANDIDATES):  # of the last round's clusters
            run.memory.pop(name, None)
        self.redraw()

    def _gate_loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of p(cluster | x) to the starting clusters, mean over rows."""
        h = self.embedding(encoder_inputs(self.likelihood, batch.x))
        return functional.cross_entropy(self.gate(h), batch.run.memory[START][batch.index])

    def _experts_loss(self, batch: Batch) -> Tensor:
        """Minus log p(x | f_k(x)) of each expert on rows of its own starting cluster, mean over rows."""
        x = own_rows(batch)
        return -self.likelihood(self.decoders(self.encoders(encoder_inputs(self.likelihood, x)))).log_prob(x).mean()
