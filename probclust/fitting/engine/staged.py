"""Staged training steps: the loss and its gradients as a tensor graph, traced once through Pyro's handlers.

A story's structure does not change from batch to batch, so that what it computes can be recorded once and run without
Pyro. Parameters, buffers, rows, known clusters and what the steps keep in memory are inputs of the graph; draws are
made anew at each step, in the order in which the story makes them, so that one seed gives the same ones. A story whose
course depends on values cannot be recorded, and is found out: by the trace itself where it asks for a value, else by
what its first runs change outside of tensors, and by runs of the story beside the graph, at first and ever less often.

Numbers that stand outside of tensors are part of the graph. All that the story's code can read of them is compared at
each epoch's start (`probclust.fitting.engine.reach`); where any has changed, the story is recorded anew.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from probclust.fitting.engine.code import captured, compiled_function, graph_function
from probclust.fitting.engine.eager import Eager
from probclust.fitting.engine.graph import NotStaged, Outcome, Recorded, Rows, Structure, Whole
from probclust.fitting.engine.reach import Reach
from probclust.fitting.engine.simplify import simplify
from probclust.fitting.engine.state import RandomState, Tensors, agree, place_of
from probclust.fitting.engine.why import first_line, why
from probclust.objectives.monitor import Monitor
from probclust.story.recipe import Train

MOST_TRACES = 8
"""Traces that changes of plain state may cost before a step goes on eagerly."""

CHECK_EVERY = 200
"""Batches after which the story runs beside its graph again, at the next epoch's start: a hundredth of the time."""

TOLERANCE = {"staged": 1e-3, "compiled": 1e-2}
"""Of the difference between graph and story, as a share of the norm; rounding stays far below."""


class Staged(Eager):
    """Runs a step's loss and gradients from graphs, one for each shape of batch.

    Args:
        fabric: Lightning Fabric's.
        module: the step's loss, as Fabric set it up.
        optimizer: whose parameters get gradients.
        loss: the step's loss itself, which has the run and the monitor.
        modules: all modules of the fit.
        compiled: compile the graphs too.
        notice: is told once why the step goes on eagerly, or uncompiled.
    """

    def __init__(
        self,
        fabric: Any,
        module: Any,
        optimizer: Any,
        *,
        loss: Any,
        modules: nn.Module,
        compiled: bool,
        notice: Callable[[str], None],
    ) -> None:
        super().__init__(fabric, module, optimizer)
        self.loss, self.compiled, self.notice = loss, compiled, notice
        self.whole = Whole(modules, self._call)
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        named = dict(self.whole.named_parameters())
        self.names = [name for name, p in named.items() if id(p) in trained]
        self.parameters = [named[name] for name in self.names]
        self.places = [(name, *place_of(self.whole, name)) for name in (*named, *dict(self.whole.named_buffers()))]
        step = type(loss.step)
        self.acts_between = step.before is not Train.before or step.after is not Train.after
        self.recorded: dict[Any, Recorded] = {}
        self.reach: Reach | None = None
        self.structure = Structure(modules)
        self.n_traces, self.epoch, self.looks, self.gave_up = 0, 0, True, False

    def restart(self, module: Any, optimizer: Any, loss: Any) -> None:
        """Go on with the same step of another restart; each graph is compared with the story again."""
        self.module, self.optimizer, self.loss = module, optimizer, loss
        for graph in self.recorded.values():
            graph.calls = 0

    def start_epoch(self) -> None:
        """Look, before the next batch, whether the graphs still stand."""
        self.epoch += 1
        self.looks = True

    def _look(self) -> None:
        """Forget the graphs where plain state is no longer what they were recorded with."""
        self.looks = self.acts_between
        changed = self.structure.changed()
        if changed:
            raise NotStaged(f"{self._what()} {changed}")
        if self.reach is not None and self.reach.changed():
            self.recorded.clear()
            self.reach = None

    def gradients(self, x: Tensor, index: Tensor, y: Tensor | None, weight: float = 1.0) -> Tensor:
        """The batch's loss, a scalar; its gradients are left in the parameters."""
        if self.gave_up or weight != 1.0:
            return super().gradients(x, index, y, weight)
        for parameter in self.parameters:  # its memory serves the next gradients
            parameter.grad = None
        try:
            if self.looks:
                self._look()
            graph, outcome = self._outcome((x, index, y))
        except NotStaged as reason:
            self.gave_up = True
            self.recorded.clear()
            self.notice(f"step '{self.loss.step.name}' runs eagerly: {reason}")
            return super().gradients(x, index, y)
        for parameter, gradient in zip(self.parameters, outcome.gradients, strict=True):
            parameter.grad = gradient
        for place in graph.to_copy:
            parameter = self.parameters[place]
            parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)  # type: ignore[arg-type]
        self.loss.monitor.add_sums(graph.rows, graph.sums, outcome.sums)
        return outcome.loss

    def _outcome(self, batch: Rows) -> tuple[Recorded, Outcome]:
        key = (batch[0].shape, batch[2] is None)
        graph = self.recorded.get(key)
        is_due = graph is not None and self._is_due(graph)
        if graph is None or is_due:
            self._look()
            graph = self.recorded.get(key)
        inputs = self._inputs(batch)
        if graph is None or not graph.fits(inputs):
            graph, outcome = self._first(batch)
            graph.epoch = self.epoch
            self.recorded[key] = graph
            return graph, outcome
        return graph, self._checked(graph, batch) if is_due else graph.outcome(inputs)

    def _is_due(self, graph: Recorded) -> bool:
        """Whether the story is to run beside its graph: ever less often, and as an epoch starts where there is need."""
        graph.calls += 1
        starts, graph.epoch = graph.epoch != self.epoch, self.epoch
        is_power_of_two = not graph.calls & (graph.calls - 1)
        overdue = graph.calls - graph.checked >= CHECK_EVERY or (self.reach is not None and not self.reach.is_complete)
        return is_power_of_two or (starts and overdue)

    def _inputs(self, batch: Rows) -> dict[str, Tensor]:
        """All that a graph may read, by name."""
        run, (x, index, y) = self.loss.run, batch
        inputs = {name: store[key] for name, store, key in self.places}
        inputs |= {f"memory.{name}": tensor for name, tensor in run.memory.items()}
        inputs |= {"x": x, "index": index}
        if isinstance(run.x, Tensor):  # stored rows are read outside of graphs only
            inputs["run.x"] = run.x
        if y is not None:
            inputs["y"] = y
        if run.y is not None:
            inputs["run.y"] = run.y
        return inputs

    def _first(self, batch: Rows) -> tuple[Recorded, Outcome]:
        """Record the loss for batches of a shape, beside a run of the story, to which it must come equal."""
        self.n_traces += 1
        if self.n_traces > MOST_TRACES:
            raise NotStaged(f"{self._what()} reads plain numbers, or the shapes in run.memory, that change too often")
        tensors, random = Tensors(self.whole), RandomState(batch[0].device)
        before = Reach(self._roots())
        try:
            expected = self._eagerly(batch, tensors, random)
            moved = Tensors(self.whole)
            tensors.restore()
            random.restore()
            between = Reach(self._roots())
            inputs = self._inputs(batch)
            graph = self._record(inputs)
            changed = between.changed()
            between.restore()
            if changed:
                raise self._changes(changed)
            try:
                outcome = graph.outcome(inputs)
            except Exception as error:
                raise NotStaged(f"the graph of {self._what()} fails ({first_line(error)})") from error
            self._compare(outcome, expected, moved)
            graph.to_copy = self._to_copy(outcome, inputs)
        except BaseException:
            before.restore()
            tensors.restore()
            random.restore()
            raise
        self.reach = between
        return graph, outcome

    def _checked(self, graph: Recorded, batch: Rows) -> Outcome:
        """The graph's outcome, once the story has given the same."""
        tensors, random = Tensors(self.whole), RandomState(batch[0].device)
        outcome = graph.outcome(self._inputs(batch))
        moved, random_after = Tensors(self.whole), RandomState(batch[0].device)
        reach = self.reach or Reach(self._roots())
        tensors.restore()
        random.restore()
        graph.checked = graph.calls
        try:
            expected = self._eagerly(batch, tensors, random)
            changed = reach.changed()
            if changed:
                raise self._changes(changed)
            self._compare(outcome, expected, moved)
        except NotStaged:
            reach.restore()
            tensors.restore()
            random.restore()
            raise
        moved.restore()
        random_after.restore()
        return outcome

    def _eagerly(self, batch: Rows, tensors: Tensors, random: RandomState) -> Outcome:
        """The outcome by the story itself, which may not change what a graph cannot."""
        monitor, self.loss.monitor = self.loss.monitor, Monitor()
        try:
            loss = self._call(*batch)
            gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        finally:
            sums, self.loss.monitor = self.loss.monitor.sums, monitor
        if random.drawn_outside_torch():
            raise NotStaged(f"{self._what()} draws from numpy's or Python's random numbers, which a graph would repeat")
        replaced = tensors.replaced()
        if replaced:
            raise NotStaged(f"{self._what()} replaces the tensor '{replaced.removeprefix('parts.')}' while it runs")
        return Outcome(loss.detach(), gradients, list(sums.values()))

    def _compare(self, outcome: Outcome, expected: Outcome, moved: Tensors) -> None:
        tolerance = TOLERANCE["compiled" if self.compiled else "staged"]
        now = Tensors(self.whole)
        same = (
            agree([outcome.loss], [expected.loss], tolerance)
            and agree(outcome.gradients, expected.gradients, tolerance)
            and agree(list(now.copies.values()), list(moved.copies.values()), tolerance)
        )
        if not same:
            raise NotStaged(
                f"{self._what()} gives other values than its graph: it holds numbers that change from batch to batch"
            )

    def _call(self, x: Tensor, index: Tensor, y: Tensor | None) -> Tensor:
        """The loss under Fabric's precision."""
        precision = self.fabric.strategy.precision
        x, index, y = precision.convert_input((x, index, y))
        with precision.forward_context():
            loss = self.loss(x, index, y)
        return precision.convert_output(loss)

    def _record(self, inputs: dict[str, Tensor]) -> Recorded:
        loss, seen = self.loss, Monitor()
        run, monitor = loss.run, loss.monitor

        def program(tensors: list[Tensor]) -> list[Tensor | None]:
            given = dict(zip(inputs, tensors, strict=True))
            memory = {name: given[f"memory.{name}"] for name in run.memory}
            loss.run = dataclasses.replace(run, x=given.get("run.x", run.x), y=given.get("run.y"), memory=dict(memory))
            own = {name: given[name] for name, _, _ in self.places}
            value = functional_call(self.whole, own, (given["x"], given["index"], given.get("y")))
            if loss.run.memory.keys() != memory.keys() or any(loss.run.memory[k] is not v for k, v in memory.items()):
                raise NotStaged(f"{self._what()} writes to run.memory at every batch")
            gradients = torch.autograd.grad(value, [own[name] for name in self.names], allow_unused=True)
            return [value.detach(), *gradients, *seen.sums.values()]

        loss.monitor = seen
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                traced = make_fx(program, tracing_mode="fake", _allow_non_fake_inputs=True)(list(inputs.values()))
            simplify(traced)
        except NotStaged:
            raise
        except Exception as error:
            raise NotStaged(why(error)) from error
        finally:
            loss.run, loss.monitor = run, monitor
        if any(value is p for p in self.parameters for value in captured(traced)):
            raise NotStaged(f"{self._what()} reads a parameter other than through its module")
        places = [node for node in traced.graph.nodes if node.op == "placeholder"]
        used = [name for name, node in zip(inputs, places, strict=True) if node.users]
        memory = {name: (inputs[name].shape, inputs[name].dtype) for name in used if name.startswith("memory.")}
        function = self._function(traced, [inputs[name] for name in used])
        return Recorded(function, used, len(self.names), tuple(seen.sums), seen.rows, memory)

    def _function(self, traced: GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        if self.compiled:
            try:
                return compiled_function(traced, inputs)
            except Exception as error:
                self.compiled = False
                self.notice(
                    f"step '{self.loss.step.name}' runs staged, not compiled: torch.compile failed "
                    f"({first_line(error)}); it needs a C++ compiler"
                )
        return graph_function(traced)

    def _to_copy(self, outcome: Outcome, inputs: dict[str, Tensor]) -> tuple[int, ...]:
        """Numbers of the gradients that are laid out unlike their parameter, or share memory with an input."""
        held = {tensor.untyped_storage().data_ptr() for tensor in inputs.values()}
        return tuple(
            number
            for number, (parameter, gradient) in enumerate(zip(self.parameters, outcome.gradients, strict=True))
            if gradient is not None
            and (gradient.stride() != parameter.stride() or gradient.untyped_storage().data_ptr() in held)
        )

    def _roots(self) -> list[Any]:
        """What the loss gets to read from."""
        loss = self.loss
        return [*self.whole.parts.modules(), loss.step, getattr(loss, "objective", None), loss.run.pairs, *_PYRO_STACK]

    def _changes(self, what: str) -> NotStaged:
        return NotStaged(f"{self._what()} changes {what} while it runs, so that it gives other values than its graph")

    def _what(self) -> str:
        """The story, or the step's own loss, and where it stands."""
        step, story = self.loss.step, self.loss.story
        function = story.model if step.loss is None else step.loss
        name = type(story).__name__ if step.loss is None else getattr(function, "__qualname__", repr(function))
        try:
            return f"{name} ({inspect.getsourcefile(function)}:{inspect.getsourcelines(function)[1]})"
        except (OSError, TypeError):
            return name
