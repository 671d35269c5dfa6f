"""The check itself: what is predicted, what is measured, and the verdict on each pair."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Iterator, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.algebra.size import Size
from tpcalc.calculus.facts import Fact
from tpcalc.calculus.laws import propagate
from tpcalc.calculus.weights import weight_orders
from tpcalc.check import PARAMETRIZATIONS
from tpcalc.check.effects import Use, binding, predicted, uses
from tpcalc.check.optimizers import NEGLIGIBLE, Build, built
from tpcalc.check.rates import BENT, STRAIGHT, bearable
from tpcalc.check.result import Entry, Result
from tpcalc.check.slopes import Slope, fit
from tpcalc.check.training import Batch, Exponents, Loss, Probe, Recipe, Run, Trained, Trainer
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.result import Parametrization
from tpcalc.derive.solve import Solution, solve
from tpcalc.dynamics.training import Given, analyse
from tpcalc.errors import TpcalcError
from tpcalc.lower.lowered import Lowered
from tpcalc.optimizers import Recipe as Optimizers
from tpcalc.optimizers import UpdateLaw, WeightView
from tpcalc.program.ir import Program, Weight
from tpcalc.rules.structures import Gather, Normalise, Power, View

#: A mean this much smaller than what it averages is rounding: of n numbers with random signs it is n^-1/2.
CANCELS = 1e-6
#: A learning rate of n to minus this is smaller than any power of n that the calculus makes.
INFINITESIMAL = Fraction(10**6)
#: A gradient this many times Adam's epsilon, or less, makes updates that epsilon holds back.
DROWNED = 100.0
PICKED = "rows of a weight picked by a trained index trade places, which is no update; what counts is their product"
ROUNDED = "its exact gradient is zero; what is measured is rounding, which Adam enlarges"
CANCELLED = "a mean of entries that cancel (of what is centred already): what is measured is rounding"
THIN = "a norm before it divides by less than its order says at these widths; take larger ones"
CROWDED = "as many samples share its update as it has inputs at these widths; take larger widths, or fewer samples"
DROWSY = "its gradient starts small and has yet to grow at these widths, and its update with it"
UNSURE = "off by more than the tolerance, but by no more than its noise; more seeds would tell"


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
    laws = {weight.name: how.by_name[rules[weight.name].optimizer] for weight in program.weights}
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
        expected = _in_width(Prediction(facts, effects, _gradients(program, facts)))
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
    if settings.lr is None:
        # under the derived rules the base model speaks for all; one rate for all widths is hardest on the widest
        tried, astray = ((0,), BENT) if exponents is not None else ((0, -1), STRAIGHT)
        slower = bearable(trainer, [program.widths[i] for i in tried], settings.seeds[0], astray)
        trainer.recipe = training = replace(training, slower=slower)
    runs = _run_all(trainer, settings, program.widths, progress)
    judge = _Judge(solution, laws, settings, program.widths, wanted, expected, chosen, runs, trainer)
    notes = [f"a site needs a multiplier in the code: {site.message}" for site in rules.sites]
    notes += [law.note for law in {law.name: law for law in laws.values()}.values() if law.note]
    if warm_up:
        notes.append(f"steps before those asked for: {warm_up}; the first ones of {how.name} do not follow its law")
    if training.slower != 1:
        notes.append(
            f"learning rates are 1/{1 / training.slower:g} of the usual ones: at larger ones the loss leaves its gradient"
        )
    return Result(
        entries=tuple(judge.entries()),
        parametrization=settings.parametrization,
        optimizer=how.name,
        widths=program.widths,
        seeds=settings.seeds,
        steps=training.steps,
        tolerance=settings.tolerance,
        slower=training.slower,
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
    orders = {w.name: weight_orders(w, rules[w.name].A, rules[w.name].C) for w in lowered.program.weights}
    for leaf in lowered.leaves:
        for piece in rules[leaf.weight.name].slices:
            if leaf.start == piece.start:
                orders[leaf.name] = replace(orders[leaf.weight.name], A=piece.A)
    return propagate(lowered, orders)


def standard_facts(lowered: Lowered, laws: Mapping[str, UpdateLaw]) -> Mapping[int, Fact]:
    """Facts under the code's own init and a small learning rate that does not depend on the width.

    Small: smaller than any power of n.  The trained order of what starts at zero, and every change, is then that of
    its lowest power of the learning rate, and goes together with a multiple of ``INFINITESIMAL``.
    """
    given = {w.name: Given(ZERO, own_init_order(w), INFINITESIMAL) for w in lowered.program.weights}
    return analyse(lowered, given, laws).facts


def in_width(order: Order) -> Order:
    """The power of n of an order that holds a power of an infinitesimal learning rate."""
    if order is MINUS_INFINITY:
        return order
    return order - round(order / INFINITESIMAL) * INFINITESIMAL


def _in_width(found: Prediction) -> Prediction:
    facts = {
        vid: fact._replace(
            init=in_width(fact.init),
            trained=in_width(fact.trained),
            change=in_width(fact.change),
            deviation=None if fact.deviation is None else in_width(fact.deviation),
        )
        for vid, fact in found.facts.items()
    }
    effects, gradients = (
        {name: in_width(order) for name, order in orders.items()} for orders in (found.effects, found.gradients)
    )
    return Prediction(facts, effects, gradients)


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
    chosen: Mapping[str, list[Use]]
    runs: Mapping[tuple[int, int], Run]
    trainer: Trainer

    def entries(self) -> Iterator[Entry]:
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
            if name in self.chosen:
                place["where"] = self.chosen[name][0].node.where
                want, see = self.wanted.effects[name], self.expected.effects[name]
                yield self.entry("effect", name, want, see, floor=self.floor(weight, self.chosen[name]), **place)

    def floor(self, weight: Weight, found: list[Use]) -> Order:
        """The effect that an update must have: its predicted one, for what it meets as large as it starts."""
        effect = max_order(*(predicted(self.solution.lowered, self.wanted.facts, use, initial=True) for use in found))
        return effect + self.lag(weight)

    def lag(self, weight: Weight) -> Order:
        """How much smaller the first updates of a weight are than its largest.

        An update proportional to the gradient is at first as much smaller as the gradient at init is than the largest;
        and some are smaller on data that was seen before, which the data of a check may be.
        """
        law, axes = self.laws[weight.name], tuple(size.growth for size in weight.shape)
        gradient = self.wanted.facts[weight.grad]
        at_init, largest = (law.update(WeightView(order, ZERO, axes)) for order in (gradient.init, gradient.trained))
        if law.least is not None:
            at_init = law.least(WeightView(gradient.init, ZERO, axes))
        return ZERO if at_init >= largest else at_init - largest

    def entry(
        self, quantity: str, key: Any, wanted: Order, expected: Order, floor: Optional[Order] = None, **place: str
    ) -> Entry:
        sizes = self.sizes(quantity, key)
        slope = fit(self.widths, sizes)
        verdict, reason = self.judge(slope, sizes, wanted)
        if verdict == "above" and quantity == "change" and key in self.picked:
            verdict, reason = "skipped", PICKED
        if verdict == "above" and slope is not None and self.thinned(quantity, key):
            verdict, reason = "skipped", THIN
        if verdict == "above" and quantity in ("init", "change") and self.cancels(quantity, key):
            verdict, reason = "skipped", CANCELLED
        if verdict == "ok" and floor not in (None, MINUS_INFINITY):
            if self.misses(slope, key, float(floor)):
                verdict, reason = self.below(slope, key, float(floor))
            elif self.misses(slope, key, float(floor), sure=False):
                reason = UNSURE
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

    def cancels(self, quantity: str, vid: int) -> bool:
        """Whether a value is a mean that is rounding at some width."""
        averaged = self.solution.lowered.means.get(vid)
        if averaged is None:
            return False
        pairs = zip(self.sizes(quantity, vid), self.sizes("init", averaged), strict=True)
        return any(size < CANCELS * entry for row in pairs for size, entry in zip(*row, strict=True))

    @cached_property
    def picked(self) -> frozenset[int]:
        """Rows of a weight picked by an index that training changes (a router's experts), and views of them."""
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

    def thinned(self, quantity: str, key: Any) -> bool:
        """Whether a thin norm may have made a slope larger: of what comes after it, of gradients and what they move."""
        if not self.after_thin:
            return False
        moved = quantity == "change" and any(law.follows_others for law in self.laws.values())
        return isinstance(key, str) or key in self.after_thin or moved

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
                x, order = lowered.before_centring(s.x), facts[s.x].init
                size = "init" if x == s.x else "deviation"
                slope = fit(self.widths, self.sizes(size, x)) if order is not MINUS_INFINITY else None
                thin = slope is not None and slope.value < float(order) - self.settings.tolerance
                if thin or (facts[s.x].change > order and self.still_small(x, size)):
                    stack.append(atom.out)
        found: set[int] = set()
        while stack:
            vid = stack.pop()
            if vid not in found:
                found.add(vid)
                stack.extend(atom.out for atom in lowered.forward_uses.get(vid, ()))
        return frozenset(found)

    def still_small(self, vid: int, size: str) -> bool:
        """Whether at some width a value has changed by no more than its size (or its deviation) was at init."""
        pairs = zip(self.sizes("change", vid), self.sizes(size, vid), strict=True)
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
        if off - slope.margin > self.settings.tolerance:
            return "above", ""
        return "ok", UNSURE if off > self.settings.tolerance else ""

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

    def below(self, slope: Slope, name: str, floor: float) -> tuple[str, str]:
        """The verdict on an effect below its ``floor``: where these widths can't show it, skipped."""
        if self.drowned(name):
            return "skipped", "its gradient is no larger than epsilon"
        if not self.misses(slope, name, floor + self.crowding(name)):
            return "skipped", CROWDED
        if not self.misses(slope, name, floor + self.crowding(name) + self.drowsiness(name)):
            return "skipped", DROWSY
        return "below", "its update has less effect than it should"

    def misses(self, slope: Slope, name: str, floor: float, sure: bool = True) -> bool:
        """Whether the effect of a weight stays below ``floor``, in the mean and at its peak; ``sure``: beyond noise."""
        peak = fit(self.widths, self.sizes("peak", name))
        return all(
            floor - s.value - (s.margin if sure else 0) > self.settings.tolerance
            for s in (slope, peak)
            if s is not None
        )

    def drowsiness(self, name: str) -> float:
        """How far the gradient of a weight is below what it may be at init (at most 0), where its update lags behind.

        The order at init is a bound. That of a gradient that training makes larger (keys meet values that start at
        n^(-1/2), and these keys) is often that of random signs, until the first updates align them.
        """
        (weight,) = (weight for weight in self.solution.lowered.program.weights if weight.name == name)
        gradient = fit(self.widths, self.sizes("gradient", name))
        if self.lag(weight) == 0 or gradient is None:
            return 0.0
        return min(0.0, gradient.value - float(self.wanted.facts[weight.grad].init))

    def crowding(self, name: str) -> float:
        """How much of the slope of an effect is due to samples that share one update (at most 0).

        With ``K`` inputs, each of ``T`` samples meets its own share of the update aligned (K) and those of the others
        at random (square root of K each): the effect is larger by ``sqrt(1 + T / K)``, which fades where K grows.
        T / K is the number of values that the weight makes for each of its entries.
        """
        program = self.solution.lowered.program
        shapes = [(program.values[use.out].shape, use.weight.shape) for use in self.chosen[name]]
        extra = []
        for width in self.widths:
            shares = [_entries(made, width) / _entries(own, width) for made, own in shapes]
            extra.append(math.sqrt(1 + sum(shares) / len(shares)))
        return min(0.0, fit(self.widths, [extra]).value)


def _entries(shape: Sequence[Size], width: int) -> int:
    return math.prod(size.at(width) for size in shape)


def _average(sizes: list[float]) -> float:
    if any(math.isnan(size) or math.isinf(size) for size in sizes):
        return math.nan
    if any(size <= 0 for size in sizes):
        return sum(sizes) / len(sizes)
    return math.exp(sum(math.log(size) for size in sizes) / len(sizes))
