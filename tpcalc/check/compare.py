"""The check itself: what is predicted, what is measured, and the verdict on each pair."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Iterator, Optional

from tpcalc.check import PARAMETRIZATIONS
from tpcalc.check.effects import Use, binding, predicted, uses
from tpcalc.check.optimizers import NEGLIGIBLE, Build, built
from tpcalc.check.result import Entry, Result
from tpcalc.check.slopes import Slope, fit
from tpcalc.check.training import Batch, Exponents, Loss, Probe, Recipe, Run, Trained, Trainer
from tpcalc.derive import Solution, is_random, parametrize, solve
from tpcalc.errors import TpcalcError
from tpcalc.given import Given, analyse
from tpcalc.lowering import Lowered
from tpcalc.optimizers import Recipe as Optimizers
from tpcalc.optimizers import UpdateLaw, WeightView
from tpcalc.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.parametrization import Parametrization
from tpcalc.program import Program, Weight
from tpcalc.propagate import Fact, WeightOrders, propagate
from tpcalc.regime import excesses
from tpcalc.rules.structures import Gather, Normalise, Power, View

#: A slope must be this many standard errors above its prediction, too, to fail.
SIGMAS = 2.5
#: A gradient this many times Adam's epsilon, or less, makes updates that epsilon holds back.
DROWNED = 100.0
PICKED = "rows of a weight picked by a trained index trade places, which is no update; what counts is their product"
ROUNDED = "its exact gradient is zero; what is measured is rounding, which Adam enlarges"
THIN = "a norm before it divides by less than its order says at these widths; take larger ones"


@dataclass(frozen=True)
class Settings:
    widths: tuple[int, ...]
    optimizers: Optimizers
    steps: int
    seeds: tuple[int, ...]
    parametrization: str
    tolerance: float
    lr: Optional[float]
    weight_decay: float
    eps: Optional[float]

    def __post_init__(self) -> None:
        if self.parametrization not in PARAMETRIZATIONS:
            raise TpcalcError(
                f"parametrization {self.parametrization!r} is unknown; choose one of {', '.join(PARAMETRIZATIONS)}"
            )
        if self.steps < 1 or not self.seeds:
            raise TpcalcError("a check needs at least one step and one seed")


@dataclass(frozen=True)
class Prediction:
    """Orders of everything measured: of the parametrization that runs, and of the derived one."""

    facts: Mapping[int, Fact]
    effects: Mapping[str, Order]
    gradients: Mapping[str, Order]


def run_check(
    factory: Callable[[int], Any],
    settings: Settings,
    *,
    batch: Optional[Batch],
    loss: Optional[Loss],
    build: Optional[Build],
    progress: bool,
) -> Result:
    from tpcalc.trace import trace

    how = settings.optimizers
    makers = {law.name: built(law.name, build) for law in how.laws}  # before anything slow
    program = trace(factory, settings.widths, loss=loss)
    solution = solve(program)
    rules = parametrize(solution, how)
    named = {law.name: law for law in how.laws}
    laws = {weight.name: named[rules[weight.name].optimizer] for weight in program.weights}
    lowered = solution.lowered
    wanted_facts = derived_facts(lowered, rules)
    bound = binding(lowered, wanted_facts, uses(lowered, wanted_facts))
    chosen = {name: found for name, (_, found) in bound.items()}
    wanted = Prediction(
        wanted_facts, {name: order for name, (order, _) in bound.items()}, _gradients(program, wanted_facts)
    )
    exponents = None
    expected = wanted
    if settings.parametrization == "derived":
        exponents = {
            w.name: Exponents(rule.b, rule.c, rule.weight_decay, rule.eps, rule.slices)
            for w in program.weights
            for rule in (rules[w.name],)
        }
    else:
        facts = standard_facts(lowered, laws)
        effects = {name: max(predicted(lowered, facts, use) for use in found) for name, found in chosen.items()}
        expected = Prediction(facts, effects, _gradients(program, facts))
    trained_by = {
        name: Trained(law.name, maker.rate, None if law.eps is None else maker.eps, maker.make)
        for name, law in laws.items()
        for maker in (makers[law.name],)
    }
    warm_up = max(makers[law.name].warm_up for law in laws.values())
    training = Recipe(
        trained_by,
        settings.lr,
        settings.weight_decay,
        settings.eps,
        settings.steps + warm_up,
        program.widths[0],
        exponents,
        warm_up,
    )
    values = frozenset(_compared(lowered, wanted_facts))
    trainer = Trainer(factory, Probe(lowered, values, chosen), training, batch, loss)
    runs = _run_all(trainer, settings, program.widths, progress)
    judge = _Judge(solution, laws, settings, program.widths, wanted, expected, runs, trainer)
    notes = [f"a site needs a multiplier in the code: {site.message}" for site in rules.sites]
    notes += [law.note for law in {law.name: law for law in laws.values()}.values() if law.note]
    if warm_up:
        notes.append(f"steps before those asked for: {warm_up}; the first ones of {how.name} do not follow its law")
    return Result(
        entries=tuple(judge.entries(chosen)),
        parametrization=settings.parametrization,
        optimizer=how.name,
        widths=program.widths,
        seeds=settings.seeds,
        steps=training.steps,
        tolerance=settings.tolerance,
        losses=_losses(runs, program.widths),
        notes=tuple(notes),
    )


def _losses(runs: Mapping[tuple[int, int], Run], widths: tuple[int, ...]) -> dict[int, tuple[float, ...]]:
    """Loss at each step, averaged over the seeds."""
    table = {}
    for width in widths:
        rows = [run.losses for (w, _), run in runs.items() if w == width]
        table[width] = tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
    return table


def _run_all(
    trainer: Trainer, settings: Settings, widths: tuple[int, ...], progress: bool
) -> dict[tuple[int, int], Run]:
    runs = {}
    with _bar(progress, len(widths) * len(settings.seeds)) as advance:
        for width in widths:
            for seed in settings.seeds:
                runs[width, seed] = trainer.run(width, seed)
                advance()
    return runs


@contextmanager
def _bar(wanted: bool, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr, where that is a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("training", total=total)
        yield lambda: progress.advance(task)


# -- predictions -----------------------------------------------------------------------------------


def derived_facts(lowered: Lowered, rules: Parametrization) -> dict[int, Fact]:
    """Facts under the rules as applied: each block of a packed weight has its own init, all share the safe update."""
    orders = {
        w.name: WeightOrders(rules[w.name].A, rules[w.name].C if w.trainable else None, is_random(w))
        for w in lowered.program.weights
    }
    for leaf in lowered.leaves:
        for piece in rules[leaf.weight.name].slices:
            if leaf.start == piece.start:
                orders[leaf.name] = replace(orders[leaf.weight.name], A=piece.A)
    return propagate(lowered, orders)


def standard_facts(lowered: Lowered, laws: Mapping[str, UpdateLaw]) -> Mapping[int, Fact]:
    """Facts under the code's own init and a learning rate that does not depend on the width.

    Those of the first training step at which something is too large, if there is one: after it orders may grow without
    end.
    """
    given = {w.name: Given(ZERO, own_init_order(w), ZERO) for w in lowered.program.weights}
    trail = analyse(lowered, given, laws).trail
    return next((step.facts for step in trail[1:] if excesses(lowered, step.facts)), trail[-1].facts)


def own_init_order(weight: Weight) -> Optional[Fraction]:
    """``b`` of the code's own init, to the nearest half; None for a zero init."""
    sizes = [(width, math.hypot(law.std, law.mean)) for width, law in weight.init]
    if not sizes or any(size == 0 for _, size in sizes):
        return None if sizes else ZERO
    (n0, s0), (n1, s1) = sizes[-2], sizes[-1]
    return Fraction(-round(2 * math.log(s1 / s0) / math.log(n1 / n0)), 2)


def _gradients(program: Program, facts: Mapping[int, Fact]) -> dict[str, Order]:
    return {w.name: facts[w.grad].trained for w in program.weights if w.grad is not None}


def _compared(lowered: Lowered, facts: Mapping[int, Fact]) -> Iterator[int]:
    """Forward values that depend on weights and data, and have numbers to average."""
    program = lowered.program
    for node in program.nodes:
        if node.phase != "forward":
            return
        for out in node.outputs:
            if out is None:
                continue
            fact, value = facts[out], program.values[out]
            if ("float" in value.dtype or "complex" in value.dtype) and fact.data and _follows_weights(fact):
                yield out


def _follows_weights(fact: Fact) -> bool:
    return bool(fact.depends) or fact.change is not MINUS_INFINITY


# -- verdicts --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Judge:
    solution: Solution
    laws: Mapping[str, UpdateLaw]
    settings: Settings
    widths: tuple[int, ...]
    wanted: Prediction
    expected: Prediction
    runs: Mapping[tuple[int, int], Run]
    trainer: Trainer

    def entries(self, chosen: Mapping[str, list[Use]]) -> Iterator[Entry]:
        lowered = self.solution.lowered
        program = lowered.program
        for vid in _compared(lowered, self.wanted.facts):
            node = program.producers[vid]
            place = dict(subject=program.value_name(vid), module=node.module, where=node.where, op=node.op)
            want, see = self.wanted.facts[vid], self.expected.facts[vid]
            yield self.entry("init", vid, want.init, see.init, **place)
            yield self.entry("change", vid, want.change, see.change, **place)
        for weight in program.weights:
            if not weight.trainable or weight.grad is None:
                continue
            name = weight.name
            place = dict(subject=name, module=name.rpartition(".")[0], where="", op="")
            yield self.entry("gradient", name, self.wanted.gradients[name], self.expected.gradients[name], **place)
            if name in chosen:
                place["where"] = chosen[name][0].node.where
                want = self.wanted.effects[name]
                yield self.entry(
                    "effect", name, want, self.expected.effects[name], floor=self.floor(weight, chosen[name]), **place
                )

    def floor(self, weight: Weight, found: list[Use]) -> Order:
        """The effect that an update must have: its predicted one, for what it meets as large as it starts.

        An update proportional to the gradient is at first as much smaller as the gradient at init is than the largest;
        and some are smaller on data that was seen before, which the data of a check may be.
        """
        facts, law = self.wanted.facts, self.laws[weight.name]
        effect = max_order(*(predicted(self.solution.lowered, facts, use, initial=True) for use in found))
        gradient, axes = facts[weight.grad], tuple(size.growth for size in weight.shape)
        at_init, largest = (law.update(WeightView(order, ZERO, axes)) for order in (gradient.init, gradient.trained))
        if law.least is not None:
            at_init = law.least(WeightView(gradient.init, ZERO, axes))
        return effect if at_init >= largest else effect - largest + at_init

    def entry(
        self, quantity: str, key: Any, wanted: Order, expected: Order, floor: Optional[Order] = None, **place: str
    ) -> Entry:
        sizes = self.sizes(quantity, key)
        slope = fit(self.widths, sizes)
        verdict, reason = self.judge(slope, sizes, wanted)
        if verdict == "above" and quantity == "change" and key in self.picked:
            verdict, reason = "skipped", PICKED
        if (
            verdict == "above"
            and slope is not None
            and (key in self.after_thin or (isinstance(key, str) and self.after_thin))
        ):
            verdict, reason = "skipped", THIN
        if verdict == "ok" and floor not in (None, MINUS_INFINITY) and self.misses(slope, key, floor):
            if self.drowned(key):
                verdict, reason = "skipped", "its gradient is no larger than epsilon"
            else:
                verdict, reason = "below", "its update has less effect than it should"
        if verdict in ("above", "below") and slope is not None and quantity in ("gradient", "effect"):
            if self.is_rounding(key):
                verdict, reason = "skipped", ROUNDED
        shown = tuple(_average([row[j] for row in sizes]) for j in range(len(self.widths)))
        return Entry(
            quantity,
            predicted=expected,
            wanted=wanted,
            slope=slope,
            sizes=shown,
            verdict=verdict,
            reason=reason,
            floor=floor,
            **place,
        )

    @cached_property
    def picked(self) -> frozenset[int]:
        """Rows of a weight picked by an index that training changes (the matrices of a router's experts), and views of them."""
        lowered, facts = self.solution.lowered, self.wanted.facts
        found: set[int] = set()
        for atom in lowered.atoms[: lowered.forward]:
            s = atom.structure
            if isinstance(s, Gather) and facts[atom.out].weight:
                indices = (ref for ref in lowered.node(atom).refs if ref != s.x)
                if any(facts[index].change is not MINUS_INFINITY for index in indices):
                    found.add(atom.out)
            elif isinstance(s, View) and s.x in found:
                found.add(atom.out)
        return frozenset(found)

    @cached_property
    def after_thin(self) -> frozenset[int]:
        """Values after a norm or an inverse of something that is smaller, at these widths, than its order says.

        The inverse of an upper bound is none: where a sum is still ruled by its smaller order, what is divided
        by it, its relative change, and the gradients that come back through it are larger than predicted.  So it is with
        what starts small: until its change has outgrown it, the relative change is still on its way up to order 0.
        """
        lowered, facts = self.solution.lowered, self.wanted.facts
        stack = []
        for atom in lowered.atoms[: lowered.forward]:
            s = atom.structure
            if (isinstance(s, Power) and s.k < 0) or isinstance(s, Normalise):
                slope = fit(self.widths, self.sizes("init", s.x)) if facts[s.x].init is not MINUS_INFINITY else None
                thin = slope is not None and slope.value < float(facts[s.x].init) - self.settings.tolerance
                if thin or (facts[s.x].change > facts[s.x].init and self.still_small(s.x)):
                    stack.append(atom.out)
        found: set[int] = set()
        while stack:
            vid = stack.pop()
            if vid not in found:
                found.add(vid)
                stack.extend(atom.out for atom in lowered.forward_uses.get(vid, ()))
        return frozenset(found)

    def still_small(self, vid: int) -> bool:
        """Whether at some width a value has changed by no more than it was at init."""
        pairs = zip(self.sizes("change", vid), self.sizes("init", vid), strict=True)
        return any(change <= init for row in pairs for change, init in zip(*row, strict=True))

    def sizes(self, quantity: str, key: Any) -> list[list[float]]:
        return [
            [self.runs[width, seed].sizes.get((quantity, key), math.nan) for width in self.widths]
            for seed in self.settings.seeds
        ]

    def judge(self, slope: Optional[Slope], sizes: list[list[float]], wanted: Order) -> tuple[str, str]:
        flat = [size for row in sizes for size in row]
        if any(math.isinf(size) or math.isnan(size) for size in flat):
            return "above", "not finite: training blew up"
        if slope is None:
            return "skipped", "zero" if all(size == 0 for size in flat) else "zero at some widths"
        if wanted is MINUS_INFINITY:
            return "above", "predicted to be zero"
        off = slope.value - float(wanted)
        return ("above", "") if off > self.settings.tolerance and off > SIGMAS * slope.error else ("ok", "")

    @cached_property
    def rounded(self) -> Mapping[str, float]:
        return self.trainer.rounding(self.widths[0], self.settings.seeds[0])

    def is_rounding(self, name: str) -> bool:
        """Whether the gradient of a weight is rounding, at init, and no larger later."""
        size = self.runs[self.widths[0], self.settings.seeds[0]].sizes["gradient", name]
        return name in self.rounded and size < 10 * self.rounded[name]

    def drowned(self, name: str) -> bool:
        """Whether epsilon hides the gradient of a weight at some width."""
        eps = NEGLIGIBLE if self.settings.eps is None else self.settings.eps
        return self.laws[name].eps is not None and any(
            size < DROWNED * eps for row in self.sizes("gradient", name) for size in row
        )

    def misses(self, slope: Slope, name: str, floor: Order) -> bool:
        """Whether the effect of a weight stays below ``floor``, in the mean and at its peak."""
        peak = fit(self.widths, self.sizes("peak", name))
        return all(
            float(floor) - s.value > max(self.settings.tolerance, SIGMAS * s.error)
            for s in (slope, peak)
            if s is not None
        )


def _average(sizes: list[float]) -> float:
    if any(math.isnan(size) or math.isinf(size) for size in sizes):
        return math.nan
    if any(size <= 0 for size in sizes):
        return sum(sizes) / len(sizes)
    return math.exp(sum(math.log(size) for size in sizes) / len(sizes))
