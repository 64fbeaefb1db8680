"""The loop of a fit: over restarts, steps and epochs, back to the last good state where an epoch breaks."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probclust.data.stored import StoredRows
from probclust.errors import FitWarning, NonFiniteError
from probclust.fitting.checkpoint import Checkpoint
from probclust.fitting.start_sample import leave_sample, n_start_steps, start_sample
from probclust.fitting.trainer import Trainer, derived_seed
from probclust.locking import alone
from probclust.progress import Progress
from probclust.story.recipe import Compute, Run, Step, Train
from probclust.story.scoring import draws_latents, elbo, predict
from probclust.story.story import frozen_by_the_user, trained_state

log = logging.getLogger(__name__)

SNAPSHOT_SECONDS = 1.0
"""Age at which the copy of the last good state, to which a broken fit goes back, is replaced between epochs."""


@dataclass(frozen=True)
class Ended:
    """A restart that came to its end.

    Attributes:
        bound: on log p(x), mean over the rows, in nats.
        labels: (rows,) clusters; None where there is no other restart to compare with.
        state: of the story.
        memory: what the steps left.
    """

    bound: float
    labels: Tensor | None
    state: Mapping[str, Tensor]
    memory: Mapping[str, Tensor]


Beside = Callable[["FitLoop"], AbstractContextManager[Iterator[Callable[[], Ended]] | None]]
"""Runs the restarts that a loop has not begun elsewhere, and gives in their order what tells how each ended."""


class FitLoop:
    """The loop over restarts, steps and epochs, from wherever the checkpoint stands.

    Args:
        trainer: of the fit.
        steps: of each restart.
        run: what the steps share.
        n_init: restarts.
        keeper: where the fit stands.
        bar: told of progress.
        is_own_recipe: whether the steps are the story's own.
        beside: runs restarts side by side; None to run them here, in turn.
    """

    def __init__(
        self,
        trainer: Trainer,
        steps: Sequence[Step],
        run: Run,
        n_init: int,
        keeper: Checkpoint,
        bar: Progress,
        is_own_recipe: bool = True,
        beside: Beside | None = None,
    ) -> None:
        self.is_own_recipe, self.beside = is_own_recipe, beside
        self.trainer, self.steps, self.run_state, self.n_init = trainer, steps, run, n_init
        self.story, self.devices, self.keeper, self.bar = trainer.story, trainer.devices, keeper, bar
        self.seed = run.seed
        self.n_start = n_start_steps(steps) if isinstance(run.x, StoredRows) else 0
        self.sample: Run | None = None
        self.has_trained = False

    def run(self) -> None:
        """Run what is left of the fit; the story ends with the best restart's weights.

        Where it is cut off, by Ctrl-C say, the story has those of the best restart that ended, if one did.
        """
        keeper, run = self.keeper, self.run_state
        keeper.restore(self.trainer.modules, run.memory)
        before = {name: value.clone() for name, value in self.story.state_dict().items()}
        if self.n_init > 1 and not keeper.given:
            keeper.given = self._not_drawn()
        try:
            with nullcontext() if self.beside is None else self.beside(self) as others:
                self._restarts(others)
        except BaseException as error:
            if keeper.best:
                with alone:
                    self.story.load_state_dict(keeper.best_state())
            elif not self.has_trained and isinstance(error, Exception):
                # bad data or settings, found as the start looked at all rows
                self.story.load_state_dict(before)
                keeper.discard()
            raise
        with alone:
            self.story.load_state_dict(keeper.best_state())

    def _not_drawn(self) -> dict[str, Tensor]:
        """The state of the fit's modules, less what a restart draws anew."""
        drawn = {f"0.{name}" for name in trained_state(self.story)}
        state = self.trainer.modules.state_dict()
        return {name: value.clone() for name, value in state.items() if name not in drawn}

    @property
    def is_amid(self) -> bool:
        """Whether a restart has begun and not ended."""
        return bool(self.keeper.position.step or self.keeper.position.epoch)

    def begin(self) -> None:
        """Put what is given and weights drawn anew in place for the next restart."""
        self.run_state.memory.clear()
        with self.trainer.working():
            self.trainer.modules.load_state_dict(self.keeper.given, strict=False)
            torch.manual_seed(self._restart_seed())
            self.story.redraw()

    def restart(self) -> Ended:
        """Run what is left of a restart."""
        run = self.run_state
        run.seed = self._restart_seed()
        self._steps()
        bound, labels = self.devices.once(self._outcome, run.memory)
        return Ended(bound, labels, self.story.state_dict(), run.memory)

    def _restarts(self, others: Iterator[Callable[[], Ended]] | None) -> None:
        keeper, position, run = self.keeper, self.keeper.position, self.run_state
        failure: Exception | None = None
        while position.restart < self.n_init:
            end = self.restart if others is None or self.is_amid else next(others)
            try:
                ended = end()
            except (NonFiniteError, torch.linalg.LinAlgError, ValueError) as error:  # type: ignore[attr-defined]
                broke = not isinstance(error, ValueError) or bool(keeper.best)  # not by bad data or settings
                if self.n_init == 1 or not broke:
                    raise
                failure = failure or error
                self._give_up(error)
            else:
                log.info("restart %d of %d: bound %.4f nats per row", position.restart + 1, self.n_init, ended.bound)
                keeper.offer(ended.bound, ended.state, ended.memory, ended.labels)
            position.restart, position.step, position.epoch = position.restart + 1, 0, 0
            if position.restart < self.n_init:
                self.begin()
            keeper.save(self.trainer.modules, run.memory)
            if others is not None:
                self.bar.advance(-position.bounds[-1])
        if not keeper.best:
            raise failure or NonFiniteError("every restart failed; see the warnings of this fit for their causes")

    def _steps(self) -> None:
        """The steps that are left of a restart."""
        keeper, position, run = self.keeper, self.keeper.position, self.run_state
        while position.step < len(self.steps):
            self._step(self.steps[position.step])
            position.step, position.epoch = position.step + 1, 0
            if position.step == self.n_start:
                self.devices.once(lambda: leave_sample(run), run.memory)
            keeper.save(self.trainer.modules, run.memory)

    def _give_up(self, error: Exception) -> None:
        """Go on without a restart that failed."""
        self.keeper.failed()
        self._warn(f"restart {self.keeper.position.restart + 1} of {self.n_init} failed, and the others count: {error}")

    def _warn(self, message: str) -> None:
        if self.devices.is_first:
            warnings.warn(message, FitWarning, stacklevel=6)

    def _outcome(self) -> tuple[float, Tensor | None]:
        """The restart's bound and, where there are others, its (rows,) clusters."""
        x = self.run_state.x
        labels = predict(self.story, x) if self.n_init > 1 else None
        return float(elbo(self.story, x, seed=0).mean()), labels

    def _run_of(self, step: int) -> Run:
        """What a step works on: all rows, or in the warm start of rows that exceed memory a sample of them."""
        run = self.run_state
        if step >= self.n_start:
            return run
        if self.sample is None or self.sample.seed != run.seed:
            self.sample = start_sample(run)
        return self.sample

    def _restart_seed(self) -> int:
        restart = self.keeper.position.restart
        return self.seed if restart == 0 else derived_seed(self.seed, restart)

    def _step(self, step: Step) -> None:
        position = self.keeper.position
        run = self._run_of(position.step)
        log.info("step '%s'", step.name)
        if isinstance(step, Compute):
            self.bar.start(step.name, None)
            compute = step.run
            with self.trainer.working():
                torch.manual_seed(derived_seed(run.seed, position.step))
                with self._frozen_stay(step.name):
                    self.devices.once(lambda: compute(run), run.memory, self.trainer.modules)
            return
        with self.trainer.working():
            epochs = self.trainer.start(step, run)
        self.has_trained = True
        self.keeper.restore_optimizer(self.trainer.optimizer, self.trainer.modules)
        if position.step and position.epoch == 0 and self.trainer.is_comparable:
            position.before = self._bound()
            self.keeper.before = {k: v.clone() for k, v in self.trainer.modules.state_dict().items()}
        self.bar.start(step.name, epochs)
        snapshot = self._snapshot()
        while position.epoch < epochs and not _over(position.history, step, position.restart):
            if self.devices.agree(time.perf_counter() - snapshot.time > SNAPSHOT_SECONDS):
                del snapshot  # its memory serves the next one
                snapshot = self._snapshot()
            try:
                facts = self._epoch()
            except BaseException as error:
                failed = position.epoch
                self._back_to(snapshot)
                try:
                    if isinstance(error, Exception):
                        self._explain(snapshot, failed)
                    raise
                except NonFiniteError as cause:
                    if not self._is_refining():
                        raise
                    self._warn(f"{cause}; the step was ended there, and the better of its start and its end is kept")
                    break
            if facts is None:
                break
            position.history.append(facts)
            position.epoch += 1
            self.keeper.save_when_due(self.trainer.modules, run.memory, self.trainer.optimizer)
            self.bar.advance(facts["loss"])
        self._keep_better()

    @contextmanager
    def _frozen_stay(self, name: str) -> Iterator[None]:
        """Parameters that the user froze stay as they were given in a step of the story's own recipe."""
        held = frozen_by_the_user(self.story) if self.is_own_recipe else {}
        before = {key: parameter.clone() for key, parameter in held.items()}
        yield
        changed = [key for key, parameter in held.items() if not torch.equal(parameter, before[key])]
        with torch.no_grad():
            for key in changed:
                held[key].copy_(before[key])
        if changed:
            self._warn(
                f"step '{name}' sets {', '.join(changed)}, which are frozen (requires_grad False) and stay as given; "
                "what else it found went with them. Leave the step out: recipe=[pc.SVI()] trains the rest"
            )

    def _is_refining(self) -> bool:
        """Whether the step goes on from a bound that is exact, so that weights worth keeping came before it."""
        before = self.keeper.position.before
        return before is not None and math.isfinite(before) and not draws_latents(self.story, of_rows=True)

    def _keep_better(self) -> None:
        """Undo an SVI step that ended with a lower bound than it began with, which an earlier step had found."""
        position, keeper = self.keeper.position, self.keeper
        if position.before is None:
            return
        after = self._bound()
        if after < position.before or (math.isnan(after) and not math.isnan(position.before)):
            log.info("step '%s' ended below its start, %.4f nats per row: undone", self.trainer.step.name, after)
            with alone:
                self.trainer.modules.load_state_dict(keeper.before)
            if position.history:
                position.history[-1]["undone"] = True
        position.before, keeper.before = None, {}

    def _bound(self) -> float:
        return float(self.devices.once(self.trainer.bound, self.run_state.memory))

    def _epoch(self, checked: bool = False) -> dict[str, Any] | None:
        position = self.keeper.position
        seed = derived_seed(self.run_state.seed, position.step, position.epoch)
        started = time.perf_counter()
        facts = {"restart": position.restart, "step": self.trainer.step.name, "epoch": position.epoch}
        outcome = self.trainer.epoch(position.epoch, seed, checked=checked)
        return outcome and facts | outcome | {"seconds": time.perf_counter() - started}

    def _snapshot(self) -> _Snapshot:
        position, memory = self.keeper.position, dict(self.run_state.memory)
        return _Snapshot(time.perf_counter(), position.epoch, len(position.history), self.trainer.snapshot(), memory)

    def _back_to(self, snapshot: _Snapshot) -> None:
        position = self.keeper.position
        self._restore(snapshot)
        del position.history[snapshot.n_history :]
        self.keeper.save(self.trainer.modules, self.run_state.memory, self.trainer.optimizer)

    def _explain(self, snapshot: _Snapshot, failed: int) -> None:
        """Repeat the epochs since the snapshot, looking at every step: raises the error that names the cause."""
        position = self.keeper.position
        try:
            while position.epoch <= failed:
                self._epoch(checked=True)
                position.epoch += 1
        finally:
            self._restore(snapshot)

    def _restore(self, snapshot: _Snapshot) -> None:
        self.trainer.restore(snapshot.state)
        self.keeper.position.epoch = snapshot.epoch
        self.run_state.memory.clear()
        self.run_state.memory.update(snapshot.memory)


@dataclass(frozen=True)
class _Snapshot:
    time: float
    epoch: int
    n_history: int
    state: Any
    memory: dict[str, Tensor]


def _over(history: Sequence[Mapping[str, Any]], step: Train, restart: int) -> bool:
    """Whether the step ended itself, or its loss has not improved by its tolerance for its patience."""
    own = [entry for entry in history if entry["step"] == step.name and entry["restart"] == restart]
    if own and own[-1].get("ended"):
        return True
    if step.patience is None:
        return False
    best, since = math.inf, 0
    for entry in own:
        if entry["loss"] < best - step.tolerance:
            best, since = entry["loss"], 0
        else:
            since += 1
    return since >= step.patience
