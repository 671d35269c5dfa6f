"""Real training of one model at one width and seed, with everything the check compares measured on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import cycle
from typing import Any, Optional, Union

import torch
import torch.nn.functional as F

from tpcalc.check.effects import Use, measured
from tpcalc.errors import TpcalcError
from tpcalc.lowering import Lowered
from tpcalc.parametrization import SliceRule
from tpcalc.program import Program
from tpcalc.trace._outputs import find_loss, primary_outputs
from tpcalc.trace.recorder import observe
from tpcalc.trace.target import call_factory

Batch = Union[Callable[[int], Any], Iterable[Any]]
Loss = Callable[[Any], torch.Tensor]

#: Entries this large are masks, not values.
MASKING = 1e9
#: A change this much smaller than the value itself is rounding.
ROUNDING = 3e-6


@dataclass(frozen=True)
class Exponents:
    """Of one weight: std ``~ n^-b`` (relative to the code's own at the base width), lr ``~ n^-c``, decay and eps ``~
    n^x``."""

    b: Fraction
    c: Fraction
    weight_decay: Fraction
    eps: Optional[Fraction]
    slices: tuple[SliceRule, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How every run trains.  ``exponents`` None: the code's own init and one learning rate at every width."""

    optimizer: str
    lr: float
    weight_decay: float
    eps: float
    steps: int
    base: int
    exponents: Optional[Mapping[str, Exponents]]
    slower: float = 1.0
    """Every learning rate times this."""


@dataclass
class Run:
    """What was measured: rms by (quantity, value id or weight name)."""

    sizes: dict[tuple[str, Any], float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)


# -- parts of a run --------------------------------------------------------------------------------


def rms(tensor: torch.Tensor) -> float:
    """Root mean square over the entries that are finite and no masks; 0 without any."""
    x = tensor.detach()
    if x.is_complex():
        x = torch.view_as_real(x)
    if x.numel() == 0:
        return 0.0
    total = float(torch.linalg.vector_norm(x, dtype=torch.float64))
    if math.isfinite(total) and total < MASKING:
        return total / math.sqrt(x.numel())
    kept = x[torch.isfinite(x) & (x.abs() < MASKING)].double()
    return float(torch.linalg.vector_norm(kept)) / math.sqrt(kept.numel()) if kept.numel() else 0.0


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


def _apply(model: torch.nn.Module, inputs: Any) -> Any:
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def _as_inputs(batch: Any) -> Any:
    if isinstance(batch, torch.Tensor):
        return (batch,)
    return dict(batch) if hasattr(batch, "keys") else tuple(batch)


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


def initialise(model: torch.nn.Module, program: Program, recipe: Recipe, width: int) -> None:
    """Turn the code's own init at ``width`` into the wanted one, in place."""
    if recipe.exponents is None:
        return
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for weight in program.weights:
            laws = dict(weight.init)
            here, base = laws.get(width), laws.get(recipe.base)
            if here is None or base is None or "unknown" in (here.kind, base.kind):
                raise TpcalcError(
                    f"the init of {weight.name} can't be read from the code at widths {recipe.base} and {width}; "
                    f"initialise it with "
                    f"torch.nn.init"
                )
            own, wanted = math.hypot(here.std, here.mean), math.hypot(base.std, base.mean)
            if own:
                exponents = recipe.exponents[weight.name]
                blocks = [(parameters[weight.name], exponents.b)]
                if exponents.slices:
                    blocks = [
                        (parameters[weight.name].narrow(s.dim, s.start.at(width), s.length.at(width)), s.A)
                        for s in exponents.slices
                    ]
                for block, b in blocks:
                    block.mul_((width / recipe.base) ** -float(b) * wanted / own)


def make_optimizer(model: torch.nn.Module, program: Program, recipe: Recipe, width: int) -> torch.optim.Optimizer:
    """The optimizer, with one group for each set of equal hyperparameters."""
    ratio = width / recipe.base
    parameters = dict(model.named_parameters(remove_duplicate=False))
    groups: dict[tuple, list[torch.nn.Parameter]] = {}
    for weight in program.weights:
        parameter = parameters[weight.name]
        if not parameter.requires_grad:
            continue
        lr, decay, eps = recipe.lr * recipe.slower, recipe.weight_decay, recipe.eps
        if recipe.exponents is not None:
            own = recipe.exponents[weight.name]
            lr *= ratio ** -float(own.c)
            decay *= ratio ** float(own.weight_decay)
            eps *= ratio ** float(own.eps or 0)
        groups.setdefault((lr, decay, eps), []).append(parameter)
    names = ("lr", "weight_decay") if recipe.optimizer == "sgd" else ("lr", "weight_decay", "eps")
    listed = [{"params": group, **dict(zip(names, key, strict=False))} for key, group in groups.items()]
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[recipe.optimizer](listed, lr=recipe.lr)


# -- one run ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """What to look at: forward ``values`` by id, and the ``uses`` of each weight's own effect."""

    lowered: Lowered
    values: frozenset[int]
    uses: Mapping[str, list[Use]]

    @property
    def program(self) -> Program:
        return self.lowered.program


class Trainer:
    """Runs of one factory.  Inputs are those of the smallest width wherever they have the same shape."""

    def __init__(
        self, factory: Callable[[int], Any], probe: Probe, recipe: Recipe, batch: Optional[Batch], loss: Optional[Loss]
    ) -> None:
        self.factory, self.probe, self.recipe, self.batch, self.loss = factory, probe, recipe, batch, loss
        self._listed = None if batch is None or callable(batch) else [_as_inputs(item) for item in batch]
        if self._listed is not None and not self._listed:
            raise TpcalcError("batch= is empty; give at least one batch of inputs")
        self._first: Any = None

    def inputs(self, width: int, own: Any) -> list[Any]:
        """The batches of a run at ``width``; the first is the probe."""
        if self._listed is not None:
            return self._listed
        if callable(self.batch):
            own = _as_inputs(self.batch(width))
        if own is None:
            raise TpcalcError("the factory returns no example inputs; return (model, inputs), or give batch=")
        if self._first is None:
            self._first = own
        return [self._first if _same_shapes(self._first, own) else own]

    def run(self, width: int, seed: int) -> Run:
        program, recipe = self.probe.program, self.recipe
        with _seeded(seed):
            model, own = call_factory(self.factory, width)
        batches = self.inputs(width, own)
        initialise(model, program, recipe, width)
        parameters = dict(model.named_parameters(remove_duplicate=False))
        before = {weight.name: parameters[weight.name].detach().clone() for weight in program.weights}
        loss = self.loss or default_loss(program, seed)
        run = Run()
        initial: dict[int, torch.Tensor] = {}

        def first(vid: int, tensor: torch.Tensor) -> None:
            initial[vid] = tensor.detach().clone()
            run.sizes["init", vid] = rms(tensor)

        self._observe(model, batches[0], width, seed, first)
        optimizer = make_optimizer(model, program, recipe, width)
        for step, inputs in zip(range(recipe.steps), cycle(batches)):
            optimizer.zero_grad(set_to_none=True)
            with _seeded(10_000 * seed + step):
                value = loss(_apply(model, inputs))
            value.backward()
            if step in (
                0,
                recipe.steps - 1,
            ):  # of the first and the last the larger: at the end little may be left to learn
                for weight in program.weights:
                    grad, key = parameters[weight.name].grad, ("gradient", weight.name)
                    run.sizes[key] = max(run.sizes.get(key, 0.0), 0.0 if grad is None else rms(grad))
            run.losses.append(float(value.detach()))
            optimizer.step()
        held: dict[int, torch.Tensor] = {}
        needed = frozenset(vid for found in self.probe.uses.values() for use in found for vid in use.held)

        def last(vid: int, tensor: torch.Tensor) -> None:
            if vid in initial:
                start = initial.pop(vid)
                change = rms(tensor.detach() - start) if start.shape == tensor.shape else math.nan
                size = max(run.sizes["init", vid], rms(tensor))
                run.sizes["change", vid] = change if change > ROUNDING * size else 0.0
            if vid in needed:
                held[vid] = tensor.detach().clone()

        self._observe(model, batches[0], width, seed, last, needed)
        for name, found in self.probe.uses.items():
            after = parameters[name].detach()
            pairs = [measured(self.probe.lowered, use, before[name], after, held, width) for use in found]
            run.sizes["effect", name] = math.sqrt(sum(effect**2 for effect, _ in pairs) / len(pairs))
            run.sizes["peak", name] = max(peak for _, peak in pairs)
        return run

    def descent(self, slower: float, width: int, seed: int) -> tuple[float, float, float]:
        """With learning rates times ``slower``, summed over the steps of a run: how far the loss of its batch falls, how
        far its gradients say that it falls, and how large it is."""
        recipe = replace(self.recipe, slower=slower)
        with _seeded(seed):
            model, own = call_factory(self.factory, width)
        batches = self.inputs(width, own)
        initialise(model, self.probe.program, recipe, width)
        loss = self.loss or default_loss(self.probe.program, seed)
        optimizer = make_optimizer(model, self.probe.program, recipe, width)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        fell = foretold = size = 0.0
        for step, inputs in zip(range(recipe.steps), cycle(batches)):
            before = [parameter.detach().clone() for parameter in parameters]
            buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
            optimizer.zero_grad(set_to_none=True)
            with _seeded(10_000 * seed + step):
                start = loss(_apply(model, inputs))
            start.backward()
            optimizer.step()
            with torch.no_grad():
                for buffer, old in buffers:
                    buffer.copy_(old)
            with _seeded(10_000 * seed + step):
                end = loss(_apply(model, inputs))
            fell += float(start.detach()) - float(end.detach())
            size += abs(float(start.detach()))
            for parameter, old in zip(parameters, before, strict=True):
                if parameter.grad is not None:
                    foretold += float((parameter.grad * (old - parameter.detach())).sum())
        return fell, foretold, size

    def _observe(
        self, model: torch.nn.Module, inputs: Any, width: int, seed: int, look: Callable, also: frozenset = frozenset()
    ) -> None:
        """Show ``look`` the values of one forward pass; the model's buffers stay as they were."""
        values = self.probe.program.values
        wanted = self.probe.values | also

        def callback(vid: int, tensor: torch.Tensor) -> None:
            if vid not in wanted:
                return
            value = values.get(vid)
            if value is None or len(value.shape) != tensor.dim():
                raise TpcalcError(
                    f"the model run for real at width {width} takes another path than the traced one; make its "
                    f"graph independent of the data"
                )
            look(vid, tensor)

        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        with _seeded(seed):
            observe(model, inputs, callback, loss=self.loss)
        with torch.no_grad():
            for buffer, old in buffers:
                buffer.copy_(old)


def _same_shapes(a: Any, b: Any) -> bool:
    xs, ys = (list(x.values()) if isinstance(x, dict) else list(x) for x in (a, b))
    return len(xs) == len(ys) and all(
        isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) and x.shape == y.shape and x.dtype == y.dtype
        for x, y in zip(xs, ys, strict=True)
    )
