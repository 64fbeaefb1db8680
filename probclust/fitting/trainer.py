"""The training loop of one step: minibatches, fused Adam, Lightning Fabric."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn

from probclust.data.batches import shuffled
from probclust.errors import NonFiniteError
from probclust.fitting.devices.group import Devices
from probclust.fitting.devices.shared_draws import Share, SharedDraws
from probclust.fitting.engine.eager import Eager, chosen_engine
from probclust.fitting.learning_rate import usual_learning_rate
from probclust.fitting.loss import StepLoss
from probclust.fitting.precision import matrix_products, without_denormals
from probclust.locking import alone
from probclust.objectives.bounds import Objective
from probclust.objectives.monitor import Monitor
from probclust.story.chunks import chunks, evaluating
from probclust.story.finite import blame
from probclust.story.joint import programs, trace_joint
from probclust.story.module_parameters import module_local_parameters
from probclust.story.recipe import SVI, Batch, Run, Step, Train
from probclust.story.story import Story

log = logging.getLogger(__name__)


class Trainer:
    """Runs the epochs of a `Train` step.

    Args:
        story: the story to train; it is moved to the device.
        steps: of the fit; networks that they train beside the story's own are moved and kept with it.
        devices: to train on.
        batch_size: rows per batch and device where the step does not say how many a batch has.
        engine: "auto", "eager", "staged" or "compiled".
        precision: of matrix products, as `probclust.fitting.precision` names it.
    """

    step: Train
    optimizer: Any

    def __init__(
        self,
        story: Story,
        steps: Sequence[Step],
        *,
        devices: Devices,
        batch_size: int,
        engine: str = "eager",
        precision: str = "32-true",
    ) -> None:
        self.story, self.batch_size, self.engine, self.precision = story, batch_size, engine, precision
        self.noticed: set[str] = set()
        self.staged: dict[str, Any] = {}
        self.devices, self.fabric, self.device = devices, devices.fabric, devices.device
        own = set(story.modules())
        trained = [module for step in steps if isinstance(step, Train) for module in step.modules or ()]
        others = [module.to(story.dtype) for module in dict.fromkeys(trained) if module not in own]
        self.modules = nn.ModuleList([story, *others]).to(self.device)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around each piece of a fit's work, which no other thread may disturb, and whose draws are its own."""
        cuda = [self.device] if self.device.type == "cuda" else []
        with (
            alone,
            module_local_parameters,
            torch.random.fork_rng(cuda),
            matrix_products(self.precision),
            without_denormals(),
        ):
            yield

    def start(self, step: Train, run: Run) -> int:
        """Prepare for a step; returns its number of epochs."""
        self.step, self.run = step, run
        self.loss = StepLoss(step, run)
        parameters = [p for module in step.modules or [self.story] for p in module.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError(f"step '{step.name}' has no parameters to train; check the story's parameters")
        self.learning_rate = usual_learning_rate(self.story) if step.learning_rate is None else step.learning_rate
        adam = torch.optim.Adam(dict.fromkeys(parameters), lr=self.learning_rate, fused=True)
        self.module, self.optimizer = self.fabric.setup(self.loss, adam)
        self.is_shared = self.devices.n > 1 and self.loss.is_separable
        n_rows = run.x.shape[0]
        n_batches = math.ceil(n_rows / (step.batch_size or self.batch_size * self.devices.n))
        self.n_batches = min(n_batches, n_rows // self.devices.n)  # each device has a row of each
        self.epochs = step.n_epochs(self.n_batches)
        self.eager = Eager(self.fabric, self.module, self.optimizer)
        self.runs = self._engine()
        return self.epochs

    def _engine(self) -> Eager:
        name = self.step.name
        engine = chosen_engine(
            self.engine,
            n_steps=self.epochs * self.n_batches,
            n_parameters=sum(p.numel() for group in self.optimizer.param_groups for p in group["params"]),
            device=self.device.type,
        )
        if engine != "eager" and (self.devices.n > 1 or self.fabric.strategy.precision.precision == "16-mixed"):
            self._notice(f"step '{name}' runs eagerly: several devices and scaled losses (16-mixed) need it")
            engine = "eager"
        log.info("step '%s': engine %s", name, engine)
        if engine == "eager":
            return self.eager
        from probclust.fitting.engine.staged import Staged

        if name in self.staged:
            self.staged[name].restart(self.module, self.optimizer, self.loss)
        else:
            self.staged[name] = Staged(
                self.fabric,
                self.module,
                self.optimizer,
                loss=self.loss,
                modules=self.modules,
                compiled=engine == "compiled",
                notice=self._notice,
            )
        return self.staged[name]

    def _notice(self, message: str) -> None:
        """Log, once a fit, why a step does not run as it was asked to; where nothing was asked, for those who look."""
        if message not in self.noticed:
            log.log(logging.INFO if self.engine == "auto" else logging.WARNING, message)
        self.noticed.add(message)

    def epoch(self, epoch: int, seed: int, *, checked: bool = False) -> dict[str, Any] | None:
        """One pass over the rows, or the part of it before the step ended.

        Args:
            epoch: its number, for the schedule.
            seed: of the order of the rows and of the draws.
            checked: look at every loss and gradient, and name the cause of the first that is not finite.

        Returns:
            The loss (mean over the rows), the learning rate, what the monitor saw, and "ended" where the step ended
            itself; None where it did so before any row was seen.

        Raises:
            NonFiniteError: the epoch's loss is NaN or infinite, or a matrix could not be factorised.
        """
        try:
            with self.working():
                return self._epoch(epoch, seed, checked)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise NonFiniteError(
                f"step '{self.step.name}', epoch {epoch}: {error}. Lower the learning rate, or bound scales from below"
            ) from error

    def _epoch(self, epoch: int, seed: int, checked: bool) -> dict[str, Any] | None:
        run, y = self.run, self.loss.y
        torch.manual_seed(seed)
        self.modules.train()
        self.loss.monitor = monitor = Monitor()
        found = self.devices.once(lambda: self.loss.begin(epoch), run.memory)
        total, seen, ended = torch.zeros((), device=self.device), 0, False
        own = torch.zeros(run.x.shape[0] if self.is_shared else 0, dtype=torch.bool, device=self.device)
        engine = self.eager if checked else self.runs
        engine.start_epoch()
        with pyro.validation_enabled(False):
            for number, (index, rows, share) in enumerate(self._batches(seed)):
                if ended := self._before(epoch * self.n_batches + number):
                    break
                self._set_learning_rate(epoch + number / self.n_batches)
                random_state = torch.get_rng_state() if checked else None
                known = None if y is None else y[index]
                if share is None:
                    loss = engine.gradients(rows, index, known)
                else:  # the mean over the devices, which Fabric takes, is to count each row alike
                    with SharedDraws(share):
                        loss = engine.gradients(rows, index, known, share.n_rows * self.devices.n / share.n_total)
                if random_state is not None:
                    self._check(epoch, number, rows, loss, random_state)
                if self.step.clip is not None:  # what is not finite is found at the epoch's end, without a wait here
                    self.fabric.clip_gradients(
                        self.module, self.optimizer, max_norm=self.step.clip, error_if_nonfinite=False
                    )
                self.optimizer.step()
                self.step.after(Batch(rows, index, run))
                total += loss * len(index)
                seen += len(index)
                if self.is_shared:
                    own[index] = True
        if not seen:
            return None
        if self.is_shared:
            total, seen = self._put_together(total, monitor, own)
        mean = float(total) / seen
        if not math.isfinite(mean):
            raise NonFiniteError(f"step '{self.step.name}', epoch {epoch}: the loss is {mean}")
        facts = {"loss": mean, "learning_rate": self.optimizer.param_groups[0]["lr"], **monitor.summary(), **found}
        return facts | {"ended": True} if ended else facts

    def _batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor, Share | None]]:
        """Numbers and rows of this device's batches, and what part of the whole batch they are.

        Several devices draw the order, and the whole batch's latents, from generators in the same state.
        """
        if self.devices.n > 1:
            self.devices.agree_on_randomness()
        if not self.is_shared:
            for index, rows in shuffled(self.run.x, self.n_batches):
                yield index, rows, None
            return
        number, n = self.devices.number, self.devices.n
        generators = self.devices.generators()
        torch.manual_seed(derived_seed(seed, number))
        n_rows, n_batches = self.run.x.shape[0], self.n_batches
        batches = shuffled(self.run.x, n_batches, share=(number, n), generator=generators["cpu"])
        for batch, (index, rows) in enumerate(batches):
            n_total = n_rows // n_batches + (batch < n_rows % n_batches)
            start = number * (n_total // n) + min(number, n_total % n)
            yield index, rows, Share(start, len(index), n_total, generators)

    def _before(self, n_batches: int) -> bool:
        if type(self.step).before is Train.before:
            return False
        ended: bool = self.devices.once(lambda: self.step.before(self.run, n_batches), self.run.memory)
        return ended

    def _put_together(self, total: Tensor, monitor: Monitor, own: Tensor) -> tuple[Tensor, int]:
        """The loss summed over all rows and their number, from the devices' own; monitor and memory are completed."""
        counts = [torch.tensor(count, device=self.device) for count in (int(own.sum()), monitor.rows)]
        total, seen, monitored, *sums = self.devices.sums([total, *counts, *monitor.sums.values()])
        monitor.rows, monitor.sums = int(monitored), dict(zip(monitor.sums, sums, strict=True))
        objective = getattr(self.loss, "objective", None)
        for name in objective.per_row_memory if isinstance(objective, Objective) else ():
            if name in self.run.memory:
                found = self.run.memory[name]
                mine = own.view(-1, *[1] * (found.dim() - 1))
                [self.run.memory[name]] = self.devices.sums([torch.where(mine, found, 0)])
        return total, int(seen)

    @property
    def is_comparable(self) -> bool:
        """Whether the step maximises a bound and nothing else, so that weights can be compared by it."""
        loss, step = self.loss, self.step
        if not isinstance(step, SVI) or step.to_start or step.loss is not None or self.run.pairs is not None:
            return False
        if type(step).after is not Train.after:
            return False
        return not isinstance(loss.objective, Objective) or type(loss.objective).penalty is Objective.penalty

    def bound(self) -> float:
        """The bound of an SVI step, mean over all rows, in nats, in evaluation mode and under draws of its own."""
        run, y, memory = self.run, self.loss.y, dict(self.run.memory)
        total = torch.zeros((), dtype=torch.float64)
        is_ours = isinstance(self.loss.objective, Objective)  # Pyro's ask for a graph, whatever is done with it
        with evaluating(self.story, 0), torch.set_grad_enabled(not is_ours):
            self.loss.training = False  # of itself alone
            try:
                self.loss.begin(0)
                for part, rows in chunks(self.story, run.x):
                    index = torch.arange(part.start, part.stop, device=self.device)
                    total -= self.loss(rows, index, None if y is None else y[index]).detach().cpu() * len(rows)
            finally:
                self.loss.training = True
                run.memory.clear()
                run.memory.update(memory)
        return float(total) / len(run.x)

    def snapshot(self) -> Any:
        """A copy of the weights and the optimizer's state, for `restore`."""
        optimizer = self.optimizer.state_dict()
        copies = {i: {k: _copy(v) for k, v in s.items()} for i, s in optimizer["state"].items()}
        weights = {name: value.clone() for name, value in self.modules.state_dict().items()}
        return weights, {**optimizer, "state": copies}

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot, which may be used again."""
        weights, optimizer = snapshot
        copies = {i: {k: _copy(v) for k, v in s.items()} for i, s in optimizer["state"].items()}
        self.modules.load_state_dict(weights)
        self.optimizer.load_state_dict({**optimizer, "state": copies})

    def _set_learning_rate(self, epoch: float) -> None:
        rate = self.learning_rate
        if self.step.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _check(self, epoch: int, number: int, rows: Tensor, loss: Tensor, random_state: Tensor) -> None:
        where = f"step '{self.step.name}', epoch {epoch}, batch {number}"
        wrong = None if torch.isfinite(loss) else self._blame_loss(rows, random_state)
        if wrong := self.devices.first_of(wrong or self._blame_gradient()):
            raise NonFiniteError(f"{where}: {wrong}")

    def _blame_loss(self, rows: Tensor, random_state: Tensor) -> str:
        cause = "the step's own loss function gave it"
        if self.step.loss is None:
            torch.set_rng_state(random_state)
            with torch.no_grad():
                cause = blame(trace_joint(*programs(self.story.model, self.story.guide), rows))
        return (
            f"the loss is not finite; {cause}. Lower the learning rate, check the data's scale, or bound scales and "
            "log-variances from below"
        )

    def _blame_gradient(self) -> str | None:
        for name, parameter in self.modules.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                return (
                    f"the gradient of parameter '{name}' is not finite although the loss is; look for a square root or "
                    "a logarithm at 0"
                )
        return None


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def derived_seed(*numbers: int) -> int:
    """One seed from several numbers, without a chance of two alike in practice."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
