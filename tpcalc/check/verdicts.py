"""The verdict on each measured slope: above or below its prediction, ok, or, where it can tell nothing, skipped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, max_order
from tpcalc.algebra.scales import Place
from tpcalc.algebra.size import Size
from tpcalc.check.effects import Use, predicted
from tpcalc.check.optimizers import NEGLIGIBLE
from tpcalc.check.predict import Prediction
from tpcalc.check.result import FADES, UNSURE, Entry
from tpcalc.check.settings import Settings
from tpcalc.check.slopes import Slope, fit
from tpcalc.check.training import Run
from tpcalc.lower.lowered import Lowered
from tpcalc.optimizers import UpdateLaw, WeightView, finite
from tpcalc.program.ir import Weight
from tpcalc.rules.structures import Gather, Normalise, Power, View, operands

#: A mean this much smaller than what it averages is rounding: of n numbers with random signs it is n^-1/2.
CANCELS = 1e-6
#: A gradient this many times Adam's epsilon, or less, makes updates that epsilon holds back.
DROWNED = 100.0
PICKED = "rows of a weight picked by a trained index trade places, which is no update; what counts is their product"
ROUNDED = "its exact gradient is zero; what is measured is rounding, which Adam enlarges"
CANCELLED = "a mean of entries that cancel (of what is centred already): what is measured is rounding"
THIN = "a norm before it divides by less than its order says at these widths; take larger ones"
CROWDED = "as many samples share its update as it has inputs at these widths; take larger widths, or fewer samples"
DROWSY = "its gradient starts small and has yet to grow at these widths, and its update with it"


@dataclass(frozen=True)
class Judge:
    """Compares what was measured in ``runs``, by place and seed, with what is ``wanted`` (and tells what is
    ``expected``).

    ``chosen``: the uses at which the effect of each weight was measured.  ``rounding(place, seed)``: weights whose
    gradient is all rounding, and its size.  ``split``: what propagates to the result of a weight is compared too.
    ``faded``: what is promised before slopes settle (:mod:`tpcalc.check.fading`).
    """

    lowered: Lowered
    laws: Mapping[str, UpdateLaw]
    settings: Settings
    wanted: Prediction
    expected: Prediction
    chosen: Mapping[str, list[Use]]
    runs: Mapping[Any, Run]
    rounding: Callable[[Place, int], Mapping[str, float]]
    split: bool = False
    faded: Optional[Prediction] = None

    def entries(self) -> Iterator[Entry]:
        program = self.lowered.program
        for vid in self.wanted.shown(self.lowered):
            node = program.producers[vid]
            place = dict(subject=program.value_name(vid), module=node.module, where=node.where, op=node.op)
            want, see = self.wanted.facts[vid], self.expected.facts[vid]
            yield self.entry("init", vid, want.init, see.init, place)
            yield self.entry("change", vid, want.change, see.change, place)
        for weight in program.weights:
            if not weight.trainable or weight.grad is None or weight.name in self.wanted.repeated:
                continue
            name = weight.name
            place = dict(subject=name, module=name.rpartition(".")[0], where="")
            want, see = self.wanted.gradient(weight), self.expected.gradient(weight)
            yield self.entry("gradient", name, want.trained, see.trained, place)
            if name in self.chosen:
                place["where"] = self.chosen[name][0].node.where
                effects = self.wanted.effects[name], self.expected.effects[name]
                yield self.entry("effect", name, *effects, place, self.floor(weight))
                outs = [use.out for use in self.chosen[name]]
                if self.split and not self.picked.intersection(outs):
                    most, given = (
                        max_order(*(x.facts[out].change for out in outs)) for x in (self.wanted, self.expected)
                    )
                    yield self.entry("propagated", name, most, given, place)

    def entry(
        self,
        quantity: str,
        key: Any,
        wanted: Order,
        expected: Order,
        place: Mapping[str, str],
        floor: Optional[Order] = None,
    ) -> Entry:
        sizes = self.sizes(quantity, key)
        slope = fit(self.settings.widths, sizes)
        verdict, reason = self.judge(slope, sizes, wanted)
        before = self.before_it_settles(quantity, key)
        off = verdict == "above" or reason == UNSURE
        if off and slope is not None and before is not None and not self.exceeds(slope, before, sure=reason != UNSURE):
            verdict, reason = "ok", FADES
        if verdict == "above" and quantity == "change" and key in self.picked:
            verdict, reason = "skipped", PICKED
        if verdict == "above" and slope is not None and self.thinned(quantity, key):
            verdict, reason = "skipped", THIN
        if verdict == "above" and quantity in ("init", "change") and self.cancels(quantity, key):
            verdict, reason = "skipped", CANCELLED
        if verdict == "ok" and slope is not None and floor is not None and floor is not MINUS_INFINITY:
            least = self.number(floor)
            if self.misses(slope, key, least):
                verdict, reason = self.below(slope, key, least)
                if before is not None and not self.misses(slope, key, self.number(before)):
                    verdict, reason = "ok", FADES
            elif self.misses(slope, key, least, sure=False):
                reason = UNSURE
        if verdict in ("above", "below") and slope is not None and quantity in ("gradient", "effect"):
            if self.is_rounding(key):
                verdict, reason = "skipped", ROUNDED
        return Entry(
            quantity,
            predicted=self.settings.exponent(expected),
            wanted=self.settings.exponent(wanted),
            slope=slope,
            sizes=tuple(_average(column) for column in zip(*sizes, strict=True)),
            verdict=verdict,
            reason=reason,
            floor=None if floor is None else self.settings.exponent(floor),
            **place,
        )

    def number(self, order: Order) -> float:
        """The slope that something of this order has."""
        return float(self.settings.exponent(finite(order)))

    def sizes(self, quantity: str, key: Any) -> list[list[float]]:
        """By seed, then by width."""
        return [
            [self.runs[place, seed].sizes.get((quantity, key), math.nan) for place in self.settings.places]
            for seed in self.settings.seeds
        ]

    def judge(self, slope: Optional[Slope], sizes: list[list[float]], wanted: Order) -> tuple[str, str]:
        flat = [size for row in sizes for size in row]
        if not all(map(math.isfinite, flat)):
            return "above", "not finite: training blew up"
        if slope is None:
            return "skipped", "zero" if all(size == 0 for size in flat) else "zero at some widths"
        if wanted is MINUS_INFINITY:
            return "above", "predicted to be zero"
        if self.exceeds(slope, wanted):
            return "above", ""
        return "ok", UNSURE if self.exceeds(slope, wanted, sure=False) else ""

    def exceeds(self, slope: Slope, wanted: Order, sure: bool = True) -> bool:
        """Whether a slope is above an order; ``sure``: beyond noise."""
        return slope.value - self.number(wanted) - (slope.margin if sure else 0) > self.settings.tolerance

    def before_it_settles(self, quantity: str, key: Any) -> Optional[Order]:
        """The order of a slope that has not settled yet; None where there is no other."""
        if self.faded is None or quantity == "propagated":
            return None
        if quantity == "effect":
            return self.faded.effects[key]
        if quantity == "gradient":
            weight = next(weight for weight in self.lowered.program.weights if weight.name == key)
            return self.faded.gradient(weight).trained
        return getattr(self.faded.facts[key], quantity)

    # -- what an update has to reach --

    def floor(self, weight: Weight) -> Order:
        """The effect that an update must have: its predicted one, for what it meets as large as it starts."""
        lowered, facts, found = self.lowered, self.wanted.facts, self.chosen[weight.name]
        return (
            max_order(*(predicted(lowered, facts, use, initial=True) for use in found))
            + self.lag(weight)
            - self.rare(weight)
        )

    def rare(self, weight: Weight) -> Order:
        """By how much the rms over all entries is less than that of the few that a picked row or column moves."""
        few = min(leaf.few for leaf in self.lowered.leaves_of[weight.name])
        kept = max(self.lowered.program.values[use.out].growth for use in self.chosen[weight.name])
        return min(few, kept) / 2

    def lag(self, weight: Weight) -> Order:
        """How much smaller the first updates of a weight are than its largest.

        An update proportional to the gradient is at first as much smaller as the gradient at init is than the largest;
        and some are smaller on data that was seen before, which the data of a check may be.
        """
        law, axes = self.laws[weight.name], tuple(size.growth for size in weight.shape)
        gradient = self.wanted.gradient(weight)
        at_init = (law.least or law.update)(WeightView(gradient.init, ZERO, axes))
        largest = law.update(WeightView(gradient.trained, ZERO, axes))
        return ZERO if at_init >= largest else Order(at_init) - largest

    def misses(self, slope: Slope, name: str, floor: float, sure: bool = True) -> bool:
        """Whether the effect of a weight stays below ``floor``, in the mean and at its peak; ``sure``: beyond noise."""
        peak = fit(self.settings.widths, self.sizes("peak", name))
        return all(
            floor - s.value - (s.margin if sure else 0) > self.settings.tolerance
            for s in (slope, peak)
            if s is not None
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

    def drowned(self, name: str) -> bool:
        """Whether epsilon hides the gradient of a weight at some width."""
        eps = NEGLIGIBLE if self.settings.eps is None else self.settings.eps
        return self.laws[name].eps is not None and any(
            size < DROWNED * eps for row in self.sizes("gradient", name) for size in row
        )

    def crowding(self, name: str) -> float:
        """How much of the slope of an effect is due to samples that share one update (at most 0).

        With ``K`` inputs, each of ``T`` samples meets its own share of the update aligned (K) and those of the others
        at random (square root of K each): the effect is larger by ``sqrt(1 + T / K)``, which fades where K grows.
        T / K is the number of values that the weight makes for each of its entries.
        """
        values = self.lowered.program.values
        shapes = [(values[use.out].shape, use.weight.shape) for use in self.chosen[name]]
        extra = []
        for place in self.settings.places:
            shares = [_entries(made, place) / _entries(own, place) for made, own in shapes]
            extra.append(math.sqrt(1 + sum(shares) / len(shares)))
        slope = fit(self.settings.widths, [extra])
        return 0.0 if slope is None else min(0.0, slope.value)

    def drowsiness(self, name: str) -> float:
        """How far the gradient of a weight is below what it may be at init (at most 0), where its update lags behind.

        The order at init is a bound. That of a gradient that training makes larger (keys meet values that start at
        n^(-1/2), and these keys) is often that of random signs, until the first updates align them.
        """
        weight = self.lowered.leaves_of[name][0].weight
        gradient = fit(self.settings.widths, self.sizes("gradient", name))
        if self.lag(weight) == 0 or gradient is None:
            return 0.0
        return min(0.0, gradient.value - self.number(self.wanted.gradient(weight).init))

    # -- slopes that tell nothing --

    def cancels(self, quantity: str, vid: int) -> bool:
        """Whether a value is a mean that is rounding at some width."""
        averaged = self.lowered.means.get(vid)
        if averaged is None:
            return False
        pairs = zip(self.sizes(quantity, vid), self.sizes("init", averaged), strict=True)
        return any(size < CANCELS * entry for row in pairs for size, entry in zip(*row, strict=True))

    @cached_property
    def picked(self) -> frozenset[int]:
        """Rows of a weight picked by an index that training changes (a router's experts), and views of them."""
        lowered, facts = self.lowered, self.wanted.facts
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
        by it, its relative change, and the gradients that come back through it are larger than predicted.  So it is
        with what starts small: until its change has outgrown it, the relative change is still on its way up to order 0.
        """
        lowered, facts, widths = self.lowered, self.wanted.facts, self.settings.widths
        sizes = facts if self.faded is None else self.faded.facts
        stack = []
        for atom in lowered.atoms[: lowered.forward]:
            s = atom.structure
            if (isinstance(s, Power) and s.k < 0) or isinstance(s, Normalise):
                (divided,) = operands(s)
                x, order = lowered.before_centring(divided), facts[divided].init
                size = "init" if x == divided else "deviation"
                slope = fit(widths, self.sizes(size, x)) if order is not MINUS_INFINITY else None
                thin = slope is not None and slope.value < self.number(sizes[divided].init) - self.settings.tolerance
                if thin or (facts[divided].change > order and self.still_small(x, size)):
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

    @cached_property
    def rounded(self) -> Mapping[str, float]:
        return self.rounding(self.settings.places[0], self.settings.seeds[0])

    def is_rounding(self, name: str) -> bool:
        """Whether the gradient of a weight is rounding, at init, and no larger later."""
        size = self.sizes("gradient", name)[0][0]
        return name in self.rounded and size < 10 * self.rounded[name]


def _entries(shape: Sequence[Size], place: Place) -> int:
    return math.prod(size.at(place) for size in shape)


def _average(sizes: Sequence[float]) -> float:
    if not all(map(math.isfinite, sizes)):
        return math.nan
    if any(size <= 0 for size in sizes):
        return sum(sizes) / len(sizes)
    return math.exp(sum(math.log(size) for size in sizes) / len(sizes))
