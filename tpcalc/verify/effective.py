"""Effective exponents: what the code gives each weight, as exact powers of the width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Optional

from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, order
from tpcalc.algebra.scales import place_text
from tpcalc.calculus.weights import growths
from tpcalc.dynamics.training import Given
from tpcalc.errors import FitError
from tpcalc.lower.lowered import Lowered
from tpcalc.optimizers import UpdateLaw
from tpcalc.probe import Kind, Unprobable, by_width, options, strength
from tpcalc.program.ir import InitLaw, Weight
from tpcalc.verify.findings import EPSILON, INIT_STD, RATE, WEIGHT_DECAY, Fix
from tpcalc.verify.gather import Gathered
from tpcalc.verify.live import Settings
from tpcalc.verify.numbers import NEAR, Numbers
from tpcalc.verify.optimizers import Trained, with_rates_apart

#: Order of the rms entry at init, whether entries are of zero mean to leading order, and what had to be assumed.
Initial = tuple[Order, bool, str]
Laws = tuple[tuple[Any, InitLaw], ...]

#: Quantity -> its field, and the sign of that in "quantity ~ n^x".
FIELDS = {INIT_STD: ("b", -1), RATE: ("c", -1), WEIGHT_DECAY: ("weight_decay", 1), EPSILON: ("eps", 1)}

UNTRAINABLE = "requires no gradient"
STUCK = "it starts at zero, and its optimizer scales updates to its size"


@dataclass(frozen=True)
class Effective:
    """The exponents of one weight as the setup gives them.

    std ~ n^-b, lr ~ n^-c, weight_decay ~ n^weight_decay, eps ~ n^eps.  ``b`` None: it starts at zero.  ``c`` None: it
    does not train (``why`` says why).  ``weight_decay`` or ``eps`` None: it is 0 or there is none.  ``law`` None: no
    optimizer holds it.  ``random``: zero-mean entries.  ``assumption``: what had to be assumed about its init.
    ``trained``: how its law was found.
    """

    b: Optional[Order]
    c: Optional[Order]
    weight_decay: Optional[Order]
    eps: Optional[Order]
    law: Optional[UpdateLaw]
    optimizer: str = ""
    random: bool = True
    why: str = ""
    assumption: str = ""
    trained: Optional[Trained] = None

    @property
    def given(self) -> Given:
        return Given(ZERO, self.b, self.c, None, self.random)

    def fixed(self, fix: Fix) -> Effective:
        """With one quantity changed."""
        field, sign = FIELDS[fix.quantity]
        before: Optional[Order] = getattr(self, field)
        after = before
        if fix.to is not None:
            after = sign * order(fix.to)
        elif fix.by is not None and before is not None:
            after = before + sign * order(fix.by)
        changed: dict[str, Any] = {field: after}
        return replace(self, **changed)


def effective(gathered: Gathered, lowered: Lowered) -> dict[str, Effective]:
    """Weight name -> its exponents, and the name of each block of a packed weight -> those with its own init.

    The init of a packed weight as a whole is that of its largest block.
    Raises FitError where a number is no power of the width, naming it.
    """
    table: dict[str, Effective] = {}
    for weight in gathered.program.weights:
        leaves = lowered.leaves_of[weight.name]
        laws = {leaf.name: gathered.init_of(leaf) for leaf in leaves}
        if all(_sizes(own) == _sizes(weight.init) for own in laws.values()):
            table[weight.name] = own = _of(weight, gathered)
            table.update({leaf.name: own for leaf in leaves})
            continue
        blocks = {}
        for leaf in leaves:
            named = replace(weight, name=leaf.name, shape=leaf.shape, init=laws[leaf.name])
            blocks[leaf.name] = _initial(named, weight.name in gathered.measured, gathered.numbers)
        largest = max(blocks.values(), key=lambda block: block[0])
        assumed = "; ".join(dict.fromkeys(text for _, _, text in blocks.values() if text))
        table[weight.name] = whole = _of(weight, gathered, (*largest[:2], assumed))
        for name, (size, random, text) in blocks.items():
            table[name] = replace(whole, b=_negated(size), random=random, assumption=text)
    return table


def _sizes(laws: Laws) -> list[tuple[Any, float, float]]:
    return [(width, law.std, law.mean) for width, law in laws]


def exact(order: Order) -> Optional[Order]:
    """None for the order of zero."""
    return None if order is MINUS_INFINITY else order


def _negated(order: Order) -> Optional[Order]:
    number = exact(order)
    return None if number is None else -number


def _of(weight: Weight, gathered: Gathered, initial: Optional[Initial] = None) -> Effective:
    numbers = gathered.numbers
    size, random, assumption = initial or _initial(weight, weight.name in gathered.measured, numbers)
    b = _negated(size)
    settings = {}
    for width, live in gathered.live.items():
        own = next((live.settings[name] for name in weight.names if name in live.settings), None)
        if own is None:
            why = "no optimizer holds it" if weight.trainable else UNTRAINABLE
            return Effective(b, None, None, None, None, random=random, why=why, assumption=assumption)
        settings[width] = own
    first = next(iter(settings.values()))
    narrowest = min(settings)
    kind = Kind(numbers.growths(growths(weight)), tuple(size.at(narrowest) for size in weight.shape))
    trained = first.trained(kind)
    if trained.one_rate and any(own.apart for own in settings.values()):
        raise with_rates_apart(first.optimizer, trained.one_rate)
    law = trained.law

    def fitted(samples: Mapping[Any, float], quantity: str) -> Order:
        return numbers.power(samples, f"the {quantity} of {weight.name} ({first.place})", weight.shape)

    faster, shrinks = _changes(settings, trained, kind, weight.name, numbers)
    try:
        lr = fitted({width: own.lr for width, own in settings.items()}, "learning rate")
    except FitError:
        scheduled = _before_schedules(weight, gathered)
        if not scheduled:
            raise
        lr = fitted(scheduled, "learning rate")  # what a scheduler makes of it is a finding (scheduled.erased)
    lr = lr if lr is MINUS_INFINITY else lr + faster
    decay = fitted({width: own.weight_decay for width, own in settings.items()}, "weight decay")
    if decay is MINUS_INFINITY and trained.seen is not None and trained.seen.taken:  # it decays by itself
        decay = shrinks
    found = {width: own.epsilon(trained) for width, own in settings.items()}
    epsilons = {width: value for width, value in found.items() if value is not None}
    eps = fitted(epsilons, "epsilon") if len(epsilons) == len(settings) else MINUS_INFINITY
    why = UNTRAINABLE if not weight.trainable else "its learning rate is 0" if lr is MINUS_INFINITY else ""
    if b is None and trained.seen is not None and trained.seen.zero is None:
        why = why or STUCK
    c = _negated(lr) if weight.trainable and why != STUCK else None
    return Effective(b, c, exact(decay), exact(eps), law, first.optimizer, random, why, assumption, trained)


def _before_schedules(weight: Weight, gathered: Gathered) -> Mapping[Any, float]:
    """The rates that its groups had before a scheduler; empty where there is none, or it keeps them at its peak."""
    own = {}
    for width, live in gathered.live.items():
        course = next((live.courses[name] for name in weight.names if name in live.courses), None)
        if course is None:
            return {}
        own[width] = (course.own, course.peak)
    return {width: rate for width, (rate, _) in own.items()} if any(x != y for x, y in own.values()) else {}


def _changes(
    settings: Mapping[Any, Settings], trained: Trained, kind: Kind, name: str, numbers: Numbers
) -> tuple[Order, Order]:
    """The powers of the width that options which change with it bring into the update, and into decay that no option
    is known for."""
    told = {width: options(own.subject) for width, own in settings.items()}
    first = min(settings)
    if trained.seen is None or all(other == told[first] for other in told.values()):
        return ZERO, ZERO
    shares, early = {}, {}
    for width, own in settings.items():
        here = own.trained(kind)
        if here.seen is None or here.seen.update != trained.seen.update:
            raise FitError(
                f"{name} ({own.place}) is trained by another law at {place_text(width)} than at {place_text(first)}: "
                f"options of its optimizer change between them; give it the same ones at both"
            )
        early[width], shares[width] = here.seen.strength, here.seen.taken
    try:
        strengths = {width: strength(own.subject, kind) for width, own in settings.items()}
    except Unprobable:
        strengths = early
    try:
        update, decay = (
            numbers.of(found, partial(by_width, what=what), f"{what} of {name}") if all(found.values()) else ZERO
            for found, what in ((strengths, "its update"), (shares, "the share that its decay takes"))
        )
        return update, decay
    except Unprobable as why:
        raise FitError(
            f"{name} ({settings[first].place}): options of its optimizer change with the width, and {why}; scale them "
            f"by a power of the width, or give it the same ones at every width"
        ) from None


def _initial(weight: Weight, measured: bool, numbers: Numbers) -> Initial:
    """Order of the rms entry at init, whether entries are of zero mean to leading order, and what had to be assumed."""
    laws = dict(weight.init)
    if not laws:
        return ZERO, len(weight.shape) > 1, f"the init of {weight.name} is unknown and taken as order 0"
    what = f"the init std of {weight.name}"
    if any(law.kind == "unknown" for law in laws.values()):
        raise FitError(f"{what} can't be read ({next(iter(laws.values())).call}); initialise it with torch.nn.init")
    rms = {width: math.hypot(law.std, law.mean) for width, law in laws.items()}
    if measured:
        return numbers.snapped(rms, what), _mostly_random(laws), ""
    means = {width: abs(law.mean) for width, law in laws.items()}
    try:
        std = numbers.initial({width: law.std for width, law in laws.items()}, what, weight.shape)
        mean = numbers.initial(means, f"the initial mean of {weight.name}", weight.shape)
    except FitError:
        order = _nearest(rms, what, numbers)
        listed = ", ".join(f"{value:.4g}" for value in rms.values())
        return order, _mostly_random(laws), f"the initial size of {weight.name} ({listed}) is taken as order {order}"
    return max(std, mean), std > mean or (std == mean and std is not MINUS_INFINITY and _mostly_random(laws)), ""


def _nearest(rms: Mapping[Any, float], what: str, numbers: Numbers) -> Order:
    """The order of an init that is plain data: a draw of numpy's, a table."""
    try:
        return numbers.snapped(rms, what, NEAR)
    except FitError:
        if numbers.is_flat(rms):
            return ZERO
        raise


def _mostly_random(laws: Mapping[int, InitLaw]) -> bool:
    return all(law.std > abs(law.mean) for law in laws.values())


__all__ = ["Effective", "effective", "exact"]
