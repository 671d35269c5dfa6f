"""What a check expects: orders of every value, gradient and effect."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Optional

from tpcalc.algebra.fit import half_power
from tpcalc.algebra.form import Form, coordinates
from tpcalc.algebra.order import MINUS_INFINITY, ZERO, Order, fraction
from tpcalc.calculus.facts import Fact
from tpcalc.calculus.laws import propagate
from tpcalc.calculus.weights import weight_orders
from tpcalc.check.effects import Use, binding, predicted, uses
from tpcalc.derive.result import Parametrization
from tpcalc.dynamics.training import Given, analyse
from tpcalc.lower.lowered import Lowered
from tpcalc.optimizers import UpdateLaw, finite
from tpcalc.program.ir import Weight

#: A learning rate of n to minus this is smaller than any power of n that the calculus makes.
INFINITESIMAL = Order(10**6)


@dataclass(frozen=True)
class Prediction:
    """Orders under one parametrization: of every value, and of the effect of each weight, by its name.

    Where blocks repeat, ``values`` are those compared, one of each kind, and ``repeated`` the weights that another one
    stands for.
    """

    facts: Mapping[int, Fact]
    effects: Mapping[str, Order]
    values: Optional[tuple[int, ...]] = None
    repeated: frozenset[str] = frozenset()

    def shown(self, lowered: Lowered) -> Iterable[int]:
        """The values that are compared."""
        return compared(lowered, self.facts) if self.values is None else self.values

    def gradient(self, weight: Weight) -> Fact:
        """Of the gradient of a weight that has one."""
        assert weight.grad is not None
        return self.facts[weight.grad]


def wanted(lowered: Lowered, rules: Parametrization) -> tuple[Prediction, dict[str, list[Use]]]:
    """What the derived rules promise, and the uses at which each weight has its largest effect."""
    return greatest(lowered, derived_facts(lowered, rules))


def greatest(lowered: Lowered, facts: Mapping[int, Fact]) -> tuple[Prediction, dict[str, list[Use]]]:
    """The prediction that facts come to, and the uses at which each weight has its largest effect."""
    bound = binding(lowered, facts, uses(lowered, facts))
    chosen = {name: found for name, (_, found) in bound.items()}
    return Prediction(facts, {name: order for name, (order, _) in bound.items()}), chosen


def standard(lowered: Lowered, laws: Mapping[str, UpdateLaw], chosen: Mapping[str, list[Use]]) -> Prediction:
    """What the code's own init and one learning rate do, in powers of n."""
    given = {w.name: Given(ZERO, own_init_order(w), INFINITESIMAL) for w in lowered.program.weights}
    return first_order(lowered, laws, chosen, given)


def first_order(
    lowered: Lowered,
    laws: Mapping[str, UpdateLaw],
    chosen: Mapping[str, list[Use]],
    given: Mapping[str, Given],
    rate: Order = INFINITESIMAL,
) -> Prediction:
    """What given exponents do where all learning rates hold an infinitesimal ``rate``, which is left out.

    Small: smaller than any power of n.  The trained order of what starts at zero, and every change, is then that of
    its lowest power of the learning rate, and goes together with a multiple of ``rate``.
    """
    facts = analyse(lowered, given, laws).facts
    effects = {name: max(predicted(lowered, facts, use) for use in found) for name, found in chosen.items()}
    return Prediction(
        {vid: _fact_in_width(fact, rate) for vid, fact in facts.items()},
        {name: in_width(order, rate) for name, order in effects.items()},
    )


def derived_facts(lowered: Lowered, rules: Parametrization) -> dict[int, Fact]:
    """Facts under the rules as applied: each block of a packed weight has its own init, all share the safe update."""
    orders = {w.name: weight_orders(w, Order(rules[w.name].A), Order(rules[w.name].C)) for w in lowered.program.weights}
    for leaf in lowered.leaves:
        for piece in rules[leaf.weight.name].slices:
            if leaf.start == piece.start:
                orders[leaf.name] = replace(orders[leaf.weight.name], A=Order(piece.A))
    return propagate(lowered, orders)


def in_width(order: Order, rate: Order = INFINITESIMAL) -> Order:
    """The power of n (or of several scales) of an order that holds a power of an infinitesimal learning rate."""
    first = coordinates(finite(order), 1)[0] if isinstance(rate, Form) else fraction(finite(order))
    return order - rate * round(first / fraction(INFINITESIMAL))


def _fact_in_width(fact: Fact, rate: Order) -> Fact:
    return fact._replace(
        init=in_width(fact.init, rate),
        trained=in_width(fact.trained, rate),
        change=in_width(fact.change, rate),
        deviation=None if fact.deviation is None else in_width(fact.deviation, rate),
    )


def own_init_order(weight: Weight) -> Optional[Order]:
    """``b`` of the code's own init, to the nearest half; None for a zero init."""
    sizes = [(width, math.hypot(law.std, law.mean)) for width, law in weight.init]
    if not sizes or any(size == 0 for _, size in sizes):
        return None if sizes else ZERO
    return -half_power(*sizes[-2:])


def compared(lowered: Lowered, facts: Mapping[int, Fact]) -> Iterator[int]:
    """Forward values that depend on weights and data, and have numbers to average."""
    program = lowered.program
    for out in (out for node in program.nodes if node.phase == "forward" for out in node.outputs if out is not None):
        fact, dtype = facts[out], program.values[out].dtype
        follows_weights = bool(fact.depends) or fact.change is not MINUS_INFINITY
        if ("float" in dtype or "complex" in dtype) and fact.data and follows_weights:
            yield out
