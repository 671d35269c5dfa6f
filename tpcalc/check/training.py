"""Real training of one model at one place and seed, with everything the check compares measured on the way.

A place is a width, or a point of several scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle
from typing import Any, Optional, Protocol, Union

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map

from tpcalc.algebra.scales import Place, Point, place_text
from tpcalc.check.effects import measured, overwrites
from tpcalc.check.inputs import apply, as_inputs, same_shapes
from tpcalc.check.optimizers import Built
from tpcalc.check.seen import Probe, Seen, root_mean_square, together
from tpcalc.check.settings import Settings
from tpcalc.check.sizes import Sizes, rms
from tpcalc.errors import TpcalcError
from tpcalc.program.ir import Program
from tpcalc.scaling.runtime import Multipliers
from tpcalc.trace.record import Attributes, Files, decomposed, find_loss, observe, primary_outputs
from tpcalc.trace.target import call_factory

#: Models whose values and weights have no more entries than this run on one thread: to hand out so little work costs
#: more than to do it, many times more where other processes keep the cores busy.
SMALL_VALUE, SMALL_WEIGHT = 2**17, 2**20
#: A gradient this many times smaller in float64 than in float32 is zero.
VANISHED = 1e-3
#: A loss that becomes this many times larger runs away; so do weights that move the square of it times their size.
RUNAWAY = 10.0

Batch = Union[Callable[..., Any], Iterable[Any]]
Loss = Callable[[Any], torch.Tensor]


#: A model, its inputs, and what makes the optimizers that train it.
Start = tuple[torch.nn.Module, Any, Callable[[], Sequence[Any]]]


@dataclass(frozen=True)
class Training:
    """How every run trains: as a user of the ``multipliers`` (of each place) does who tuned at the first of them.

    ``makers``: by the name of an update law, how its optimizer is made.  ``slower``: every learning rate times this.
    """

    multipliers: Mapping[Any, Multipliers]
    makers: Mapping[str, Built]
    settings: Settings
    slower: float = 1.0

    @property
    def warm_up(self) -> int:
        """How many of the ``steps`` come before those of interest."""
        return max(maker.warm_up for maker in self.makers.values())

    @property
    def steps(self) -> int:
        return self.settings.steps + self.warm_up

    def slowed(self, slower: float) -> Training:
        return replace(self, slower=slower)

    def start(self, factory: Callable[..., Any], place: Place) -> Start:
        """A model with the wanted init, its inputs, and one optimizer for each law that trains a parameter."""
        model, inputs = call_factory(factory, place)
        self.multipliers[place].init_(model)
        return model, inputs, partial(self.optimizers, model, place)

    def optimizers(self, model: torch.nn.Module, place: Place) -> list[torch.optim.Optimizer]:
        given, found = self.settings, []
        for law, maker in self.makers.items():
            lr = (maker.rate if given.lr is None else given.lr) * self.slower
            eps = maker.eps if given.eps is None else given.eps
            groups = self.multipliers[place].param_groups(model, lr, given.weight_decay, eps, optimizer=law)
            if groups:
                found.append(maker.make(groups, model))
        for optimizer in found:
            take_fused_kernels(optimizer)
        return found


class Trains(Protocol):
    """How every run trains."""

    @property
    def warm_up(self) -> int: ...

    @property
    def steps(self) -> int: ...

    def start(self, factory: Callable[..., Any], place: Any) -> Start: ...

    def slowed(self, slower: float) -> "Trains": ...


@dataclass
class Run:
    """What was measured: rms by (quantity, value id or weight name)."""

    sizes: dict[tuple[str, Any], float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    trouble: str = ""
    """What makes it no training at all."""


# -- parts of a run --------------------------------------------------------------------------------


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from ``seed`` on the CPU, and give back the state after (torch.manual_seed looks at every device, and is
    slow).
    """
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def default_loss(program: Program, seed: int) -> Loss:
    """Cross-entropy against fixed random classes on a finite last axis, else the mean squared distance to fixed random
    numbers."""
    growth = {
        path: program.values[vid].shape[-1].growth if program.values[vid].shape else 0 for path, vid in program.outputs
    }

    def loss(output: Any) -> torch.Tensor:
        own = find_loss(output)
        if own is not None:
            return own
        total: Any = 0
        with _seeded(1000 + seed):
            for path, out in primary_outputs(output):
                if out.dim() > 1 and out.shape[-1] > 1 and growth.get(path, 0) == 0:
                    classes = torch.randint(out.shape[-1], out.shape[:-1])
                    total = total + F.cross_entropy(out.flatten(0, -2), classes.flatten())
                else:
                    total = total + F.mse_loss(out, torch.randn(out.shape))
        return total

    return loss


def take_fused_kernels(optimizer: torch.optim.Optimizer) -> None:
    """Let a new optimizer that has a fused kernel use it: the same rule in one pass over memory, up to rounding."""
    if optimizer.state or optimizer.defaults.get("fused", False) is not None:
        return
    for group in optimizer.param_groups:
        if all(p.is_floating_point() and p.device.type == "cpu" for p in group["params"]):
            group["fused"] = True


def trouble(losses: Sequence[float], weights: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> str:
    """What makes a run no training: numbers that are none, a loss that runs away, weights with nothing of their init.

    ``weights``: each at init and after training.
    """
    if not all(map(math.isfinite, losses)) or not all(bool(torch.isfinite(after).all()) for _, after in weights):
        return "its numbers are not finite"
    if losses[-1] > RUNAWAY * max(abs(losses[0]), 1.0):
        return f"its loss runs away from {losses[0]:.3g} to {losses[-1]:.3g}"
    size = math.hypot(*(_norm(before) for before, _ in weights))
    moved = math.hypot(*(_norm(after.detach() - before) for before, after in weights))
    if moved == 0:
        return "no weight moves"
    if moved > RUNAWAY**2 * size > 0:
        return f"its weights move {moved / size:.3g} times as far as they are large"
    return ""


def _norm(weight: torch.Tensor) -> float:
    x = torch.view_as_real(weight.detach()) if weight.is_complex() else weight.detach()
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))


@contextmanager
def _threads(wanted: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- one run ---------------------------------------------------------------------------------------


class Trainer:
    """Runs of one factory.  Inputs are those of the first place wherever they have the same shape.

    ``split``: what a weight's result changes by is split into its own effect and what propagates to it.
    """

    def __init__(
        self,
        factory: Callable[..., Any],
        probe: Probe,
        training: Trains,
        batch: Optional[Batch],
        loss: Optional[Loss],
        split: bool = False,
    ) -> None:
        self.factory, self.probe, self.training, self.batch, self.loss = factory, probe, training, batch, loss
        self._listed = None if batch is None or callable(batch) else [as_inputs(item) for item in batch]
        if self._listed is not None and not self._listed:
            raise TpcalcError("batch= is empty; give at least one batch of inputs")
        self._first: Any = None
        self._files = Files()
        self._seen: dict[Place, Seen] = {}
        self._copied = overwrites(probe.program)
        self._split = frozenset(use.out for found in probe.uses.values() for use in found) if split else frozenset()
        self._shapes = {probe.program.values[vid].shape for vid in probe.values}

    def inputs(self, place: Place, own: Any) -> list[Any]:
        """The batches of a run at ``place``; the first is the probe."""
        if self._listed is not None:
            return self._listed
        if callable(self.batch):
            own = as_inputs(self.batch(**place.by_name) if isinstance(place, Point) else self.batch(place))
        if own is None:
            raise TpcalcError("the factory returns no example inputs; return (model, inputs), or give batch= (--batch)")
        if self._first is None:
            self._first = own
        return [self._first if same_shapes(self._first, own) else own]

    def run(self, place: Place, seed: int) -> Run:
        """Everything measured at one place and seed."""
        with _threads(1 if self._small(place) else torch.get_num_threads()), self._files.without(torch.Tensor):
            return self._run(place, seed)

    def seen(self, place: Place) -> Seen:
        """What is looked at there."""
        if place not in self._seen:
            self._seen[place] = self.probe.at(place)
        return self._seen[place]

    def rounding(self, place: Place, seed: int) -> dict[str, float]:
        """Weights whose gradient at init is all rounding, and its size: in float64 it vanishes.

        Such is that of a bias in front of a batch norm.  Empty where the code can't be run in float64.
        """
        with self._files.without(torch.Tensor):
            own = self._first_gradients(place, seed, exact=False)
        try:
            with self._files.without(torch.Tensor):
                exact = self._first_gradients(place, seed, exact=True)
        except (TpcalcError, RuntimeError, TypeError, ValueError):
            return {}
        counted = self.seen(place).weights
        found = {name: size for name, size in own.items() if exact.get(name, 0.0) < VANISHED * size}
        return {counted.get(name, name): size for name, size in found.items()}

    def _first_gradients(self, place: Place, seed: int, *, exact: bool) -> dict[str, float]:
        model, batches, loss, _ = self._start(self.training, place, seed)
        inputs = batches[0]
        before = torch.get_default_dtype()
        if exact:
            model.double()
            inputs = tree_map(lambda leaf: leaf.double() if _is_float(leaf) else leaf, inputs)
            torch.set_default_dtype(torch.float64)
        try:
            with _seeded(10_000 * seed):
                loss(apply(model, inputs)).backward()
        finally:
            torch.set_default_dtype(before)
        parameters = model.named_parameters(remove_duplicate=False)
        return {name: rms(parameter.grad) for name, parameter in parameters if parameter.grad is not None}

    def _start(
        self, training: Trains, place: Place, seed: int
    ) -> tuple[torch.nn.Module, list[Any], Loss, Callable[[], Sequence[Any]]]:
        """A model with the wanted init, its batches, its loss and what makes its optimizers."""
        with _seeded(seed):
            model, own, optimizers = training.start(self.factory, place)
        batches = self.inputs(place, own)
        modules: Any = model.modules()
        for module in modules:
            if getattr(module, "sparse", False) is True:
                module.sparse = False  # the same gradients, for any optimizer
        return model, batches, self.loss or default_loss(self.probe.program, seed), optimizers

    def _small(self, place: Place) -> bool:
        weights = {weight.shape for weight in self.probe.program.weights}
        limits = ((self._shapes, SMALL_VALUE), (weights, SMALL_WEIGHT))
        return all(math.prod(size.at(place) for size in shape) <= most for shapes, most in limits for shape in shapes)

    def _run(self, place: Place, seed: int) -> Run:
        training, seen = self.training, self.seen(place)
        model, batches, loss, made = self._start(training, place, seed)
        built = Attributes(model, self._files)
        parameters = dict(model.named_parameters(remove_duplicate=False))
        before = {name: parameters[name].detach().clone() for name in seen.weights}
        run = Run()
        sizes = Sizes(seen.arranged, self._copied, seen.centred)
        gradients: dict[str, float] = {}
        starts: dict[int, torch.Tensor] = {}

        def first(vid: int, tensor: torch.Tensor) -> None:
            sizes.first(vid, tensor)
            if vid in self._split:
                starts[vid] = tensor.clone()

        self._observe(model, batches[0], place, seed, seen.values.keys(), first)
        optimizers = made()
        split = -training.warm_up % len(batches)  # so that the first batch, the probe, is new when it counts
        for step, inputs in zip(range(training.steps), cycle(batches[split:] + batches[:split])):
            model.zero_grad(set_to_none=True)
            with _seeded(10_000 * seed + step):
                value = loss(apply(model, inputs))
            value.backward()
            if step in (0, training.steps - 1):  # the larger of both: at the end little may be left to learn
                for name in seen.weights:
                    grad = parameters[name].grad
                    gradients[name] = max(gradients.get(name, 0.0), 0.0 if grad is None else rms(grad))
            run.losses.append(float(value.detach()))
            for optimizer in optimizers:
                optimizer.step()
        held: dict[int, torch.Tensor] = {}

        def last(vid: int, tensor: torch.Tensor) -> None:
            sizes.last(vid, tensor)
            if vid in seen.needed:
                held[vid] = tensor.clone() if self._copied else tensor

        with built.standing():
            self._observe(model, batches[0], place, seed, seen.values.keys() | seen.needed, last)
        for quantity, own in (("init", sizes.init), ("change", sizes.change), ("deviation", sizes.deviation)):
            run.sizes.update({(quantity, vid): size for vid, size in together(own, seen.values).items()})
        run.sizes.update({("gradient", name): size for name, size in together(gradients, seen.weights).items()})
        with decomposed():  # the kernels of the pass just observed
            for name, found in seen.uses.items():
                effects = [
                    measured(use, before[own], parameters[own].detach(), held, place, starts)
                    for use in found
                    for own in (use.weight.name,)
                ]
                run.sizes["effect", name] = root_mean_square([each.own for each in effects])
                run.sizes["peak", name] = max(each.peak for each in effects)
                run.sizes["propagated", name] = root_mean_square([each.propagated for each in effects])
        run.trouble = trouble(run.losses, [(before[name], parameters[name]) for name in seen.weights])
        return run

    def descent(self, slower: float, place: Place, seed: int) -> tuple[float, float, float]:
        """With learning rates times ``slower``, summed over the steps of a run: how far the loss of its batch falls,
        how far its gradients say that it falls, and how large it is."""
        with self._files.without(torch.Tensor):
            return self._descent(self.training.slowed(slower), place, seed)

    def _descent(self, training: Trains, place: Place, seed: int) -> tuple[float, float, float]:
        model, batches, loss, made = self._start(training, place, seed)
        optimizers = made()
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        fell = foretold = size = 0.0
        for step, inputs in zip(range(training.steps), cycle(batches)):
            before = [parameter.detach().clone() for parameter in parameters]
            buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
            model.zero_grad(set_to_none=True)
            with _seeded(10_000 * seed + step):
                start = loss(apply(model, inputs))
            start.backward()
            for optimizer in optimizers:
                optimizer.step()
            with torch.no_grad():
                for buffer, old in buffers:
                    buffer.copy_(old)
            with _seeded(10_000 * seed + step):
                end = loss(apply(model, inputs))
            fell += float(start.detach()) - float(end.detach())
            size += abs(float(start.detach()))
            for parameter, old in zip(parameters, before, strict=True):
                if parameter.grad is not None:
                    foretold += float((parameter.grad * (old - parameter.detach())).sum())
        return fell, foretold, size

    def _observe(
        self, model: torch.nn.Module, inputs: Any, place: Place, seed: int, wanted: Collection[int], look: Callable
    ) -> None:
        """Show ``look`` the ``wanted`` values of one forward pass; the model's buffers stay as they were."""
        dims = self.seen(place).dims

        def callback(vid: int, tensor: torch.Tensor) -> None:
            if vid not in wanted:
                return
            if dims.get(vid) != tensor.dim():
                raise TpcalcError(
                    f"the model run for real at {place_text(place)} takes another path than the traced one; make its "
                    f"graph independent of the data"
                )
            look(vid, tensor)

        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        with _seeded(seed):
            observe(model, inputs, callback, loss=self.loss, files=self._files)
        with torch.no_grad():
            for buffer, old in buffers:
                buffer.copy_(old)


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
