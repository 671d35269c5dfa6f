"""What a check along several scales trains and expects: each on a ray of its own, everything else at the base.

One derivation of all scales gives the multipliers between any two places (:mod:`tpcalc.scaling.many`).  On the ray of a
scale, models are trained with those from the base to each of its places, and each slope over the values of the scale is
compared with the power of that scale alone in the order that is predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import hypot
from typing import Any, Optional, Union

from tpcalc.algebra.fan import Cell
from tpcalc.algebra.fit import half_power
from tpcalc.algebra.form import Compass
from tpcalc.algebra.order import ONE, ZERO, Order
from tpcalc.algebra.scales import Point, Scale, ray
from tpcalc.algebra.size import turned
from tpcalc.algebra.text import product_text
from tpcalc.calculus.alignment import FULL
from tpcalc.calculus.laws import propagate
from tpcalc.check.effects import Use
from tpcalc.check.fading import Fading
from tpcalc.check.plan import Plan
from tpcalc.check.predict import INFINITESIMAL, Prediction, first_order, greatest
from tpcalc.check.repeated import Kinds, Repeated
from tpcalc.check.seen import Probe
from tpcalc.check.settings import WIDTHS, Ray, Settings
from tpcalc.derive.api import depth_exponent
from tpcalc.derive.solve import as_trained
from tpcalc.dynamics.training import Given
from tpcalc.errors import TpcalcError
from tpcalc.lower.depth import Depth
from tpcalc.lower.flatten import lower
from tpcalc.lower.lowered import Lowered
from tpcalc.optimizers import UpdateLaw
from tpcalc.scaling.many import ManyScales
from tpcalc.scaling.numbers import Derived
from tpcalc.scaling.result import Unscaled, one
from tpcalc.scaling.runtime import Multipliers
from tpcalc.scaling.several import many_scales, numbers_alone

#: Values of each scale; of one that does not move, one.
Scales = Mapping[str, Union[int, Sequence[int]]]


def moving(scales: Scales) -> dict[str, tuple[int, ...]]:
    """Each scale with its values, ascending: those of one stay at it.  Beside depths alone there is a width, fixed.

    Raises TpcalcError unless one scale at least has three values, and each that moves.
    """
    given = {name: {values} if isinstance(values, int) else set(values) for name, values in scales.items()}
    found: dict[str, tuple[int, ...]] = {name: tuple(sorted(values)) for name, values in given.items()}
    for name, values in found.items():
        if not values or any(isinstance(x, bool) or not isinstance(x, int) or x <= 0 for x in values):
            raise TpcalcError(f"scale {name} of a check takes positive whole numbers; give {name}=2,4,8")
        if len(values) == 2:
            raise TpcalcError(
                f"scale {name} has two values, through which any power goes; give three or more to train at, or one to "
                f"keep it there"
            )
    if all(len(values) == 1 for values in found.values()):
        raise TpcalcError("no scale of this check moves; give one of them three or more values, as depth=2,4,8,16")
    if all(name.endswith("depth") for name in found):
        found = {"width": WIDTHS[:1], **found}
    return found


def along_rays(
    factory: Callable[..., Any],
    scales: Mapping[str, tuple[int, ...]],
    settings: Settings,
    depth_alpha: Any,
    loss: Optional[Callable[..., Any]],
) -> Iterator[Plan]:
    """The check of each scale that moves.

    Raises TpcalcError where the model can't be traced, has no rules, or rules with a kink on a ray.
    """
    traced = {
        name: values if len(values) > 1 else (values[0], 2 * values[0], 4 * values[0])
        for name, values in scales.items()
    }
    model = many_scales(factory, traced, settings.optimizers, "init", depth_alpha, loss)
    names = model.program.widths[0].names
    base = Point(names, (scales[name][0] for name in names))
    for name, values in scales.items():
        if len(values) > 1:
            points = tuple(base.with_(**{name: value}) for value in values)
            yield _Along(factory, model, Ray(name, points), depth_exponent(depth_alpha), loss).plan(settings)


class _Along:
    """The check of one ray."""

    def __init__(
        self,
        factory: Callable[..., Any],
        model: ManyScales,
        ray: Ray,
        alpha: Order,
        loss: Optional[Callable[..., Any]],
    ) -> None:
        self.factory, self.model, self.ray, self.alpha, self.loss = factory, model, ray, alpha, loss
        self._check_periods()
        self.cell = self._cell()
        self.deep = any(scale.depth and scale.name == ray.name for scale in model.program.scales)
        self.fades = self.deep and alpha == ONE
        self.lowered = self._lowered()
        self.program = self.lowered.program

    def plan(self, settings: Settings) -> Plan:
        rules, how = self.cell.found.rules, settings.optimizers
        laws = {weight.name: how.by_name[rules[weight.name].optimizer] for weight in self.program.weights}
        kinds = Kinds(self.program, self.model.alike)
        promised, chosen = greatest(self.lowered, self._facts())
        multipliers: dict[Point, Multipliers]
        expected = promised
        if settings.derived:
            base = self.ray.points[0].by_name
            multipliers = {point: numbers_alone(self.model, base, point.by_name) for point in self.ray.points}
        else:
            rate, inits = self._rate(), self._own_inits()
            given = {weight.name: Given(ZERO, inits[weight.name], rate) for weight in self.program.weights}
            expected = first_order(self.lowered, laws, chosen, given, rate)
            multipliers = {point: self._unscaled(point) for point in self.ray.points}
        repeated = None
        if self.program.repeats:
            promised, expected = (kinds.prediction(self.lowered, each) for each in (promised, expected))
            chosen = {name: found for name, found in chosen.items() if name not in promised.repeated}
        values = frozenset(promised.shown(self.lowered))
        if self.program.repeats:
            repeated = Repeated(self.factory, self.model, self.lowered, kinds, values, chosen, self.loss)
        fading = None
        if self.fades and settings.derived:
            streams = frozenset(kinds.value[vid] for vid in self._streams() if vid in kinds.value) & values

            def faded(by: Order) -> Prediction:
                return kinds.prediction(self.lowered, self._faded(by, laws, chosen))

            fading = Fading(streams, faded)
        settings = replace(settings, widths=self.ray.values, ray=self.ray)
        sites = tuple(site.message for site in rules.sites)
        probe = Probe(self.lowered, values, chosen, repeated)
        return Plan(settings, laws, multipliers, promised, expected, probe, sites, fading)

    def _check_periods(self) -> None:
        """Refuse a depth that starts from a single period, which has no middle."""
        program, base = self.model.program, self.ray.points[0].by_name
        for loop in Kinds(program, self.model.alike).stacks:
            step = self.model.periods.steps[loop.scale]
            periods = loop.count + (base[loop.scale] - program.widths[0].by_name[loop.scale]) // step
            if loop.scale == self.ray.name and periods < 2:
                raise TpcalcError(
                    f"at {loop.scale}={base[loop.scale]} the model has one period of its blocks, and so no middle to "
                    f"compare that of deeper ones with; begin at {loop.scale}={base[loop.scale] + step} or more"
                )

    def _cell(self) -> Cell[Derived]:
        """The cone in which the ray lies."""
        found = self.model.cell_of(self.ray.points)
        if found is None:
            first = self.model.cell_of(self.ray.points[:1])
            assert first is not None
            scales, (low, *_, high) = self.model.program.scales, self.ray.values
            kinks = " and ".join(
                " = ".join(product_text(scales, [Fraction(max(sign * x, 0)) for x in wall]) for sign in (1, -1))
                for wall in first.walls
            )
            raise TpcalcError(
                f"from {self.ray.name}={low} to {high} rules pass a kink ({kinks}), where slopes are between two "
                f"powers; keep it on one side, by other values of {self.ray.name} or of another scale at the base"
            )
        return found

    def _lowered(self) -> Lowered:
        """Along a depth all else is a constant: any power of it outweighs any of a width, other than in the limit in
        which rules are derived."""
        old, scales = self.cell.found.solution.lowered.program.compass, self.model.program.scales
        assert old is not None
        compass = old
        if self.deep:
            compass = Compass([Scale(scale.name, depth=not scale.depth) for scale in scales], old.direction)
        depths = {scale.name: compass.unit(index) for index, scale in enumerate(scales) if scale.depth}
        program = self.model.program.along(compass)
        return lower(program, depth=Depth(depths, self.alpha) if depths else None)

    def _facts(self) -> dict[int, Any]:
        """Under the derived rules as they are applied."""
        orders = {
            name: replace(own, A=self._turned(own.A), C=self._turned(own.C))
            for name, own in self.cell.found.solution.orders.items()
        }
        return as_trained(self.lowered, orders, propagate(self.lowered, orders, FULL), FULL)

    def _turned(self, order: Any) -> Any:
        """An order of the rules as one of the ray's program."""
        assert self.program.compass is not None
        return None if order is None else turned(Order(order), self.program.compass)

    def _rate(self) -> Order:
        """An infinitesimal learning rate."""
        assert self.program.compass is not None
        return self.program.compass.form([INFINITESIMAL] * len(self.program.scales))

    def _streams(self) -> frozenset[int]:
        return frozenset().union(*(stack.stream.values for stack in self.lowered.stacks))

    def _faded(self, by: Order, laws: Mapping[str, UpdateLaw], chosen: Mapping[str, list[Use]]) -> Prediction:
        """What the derived rules do to first order in the learning rate where streams start from L^-``by``."""
        compass, rules = self.program.compass, self.cell.found.rules
        assert compass is not None
        less = compass.unit([scale.name for scale in compass.scales].index(self.ray.name)) * by
        start = self._starts()
        given: dict[str, Given] = {}
        for leaf in self.lowered.leaves:
            name, rule = leaf.weight.name, rules[leaf.weight.name]
            A = self._turned(self.cell.found.solution.orders[leaf.name].A)
            A = A + less if A is not None and leaf.value in start else A
            given[leaf.name] = Given(ZERO, A, self._turned(rule.c) + self._rate())
            given.setdefault(name, given[leaf.name])
        return first_order(self.lowered, laws, chosen, given, self._rate())

    def _starts(self) -> frozenset[int]:
        """The weights, or blocks of them, of which streams are made before the first period adds to them."""
        facts, stacks = self.cell.found.solution.facts, self.lowered.stacks
        inside = frozenset().union(*(stack.cones.inside | stack.cones.tied for stack in stacks))
        bits = 0
        for stack in stacks:
            for vid in stack.stream.enters:
                bits |= facts[vid].depends
        return frozenset(
            leaf.value
            for index, leaf in enumerate(self.lowered.leaves)
            if bits >> index & 1 and leaf.value not in inside
        )

    def _own_inits(self) -> dict[str, Optional[Order]]:
        """``b`` of the code's own init of each weight, to the nearest half; None for a zero init."""
        compass, points = self.program.compass, self.program.widths
        assert compass is not None
        there = [self._sizes(point) for point in self.ray.points[-2:]]
        found: dict[str, Optional[Order]] = {}
        for weight in self.program.weights:
            sizes = {place: hypot(law.std, law.mean) for place, law in weight.init}
            powers = []
            for scale in compass.scales:
                samples = [(x, sizes[point]) for x, point in ray(points, scale.name) if point in sizes][-2:]
                if scale.name == self.ray.name:
                    samples = [(value, own[weight.name]) for value, own in zip(self.ray.values[-2:], there)]
                zero = any(size == 0 for _, size in samples)
                powers.append(ZERO if zero or len(samples) < 2 else -half_power(*samples))
            found[weight.name] = None if not all(own[weight.name] for own in there) else compass.form(powers)
        return found

    def _sizes(self, point: Point) -> dict[str, float]:
        """Of each weight of the program the size that the code itself gives it there."""
        built = self.model.built(point)
        found: dict[str, float] = {}
        for name, source in self.model.periods.sources(built).items():
            law = built.law(name)
            found.setdefault(source, hypot(law.std, law.mean))
        return found

    def _unscaled(self, point: Point) -> Unscaled:
        built, rules = self.model.built(point), self.cell.found.rules
        sources = self.model.periods.sources(built)
        return Unscaled(
            one(names[0], built.shape(names[0]), rules[sources[names[0]]], names[1:]) for names in built.tied.values()
        )


__all__ = ["along_rays", "moving"]
