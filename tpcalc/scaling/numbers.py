"""From exponents to numbers: the multipliers of one weight between two places, each evaluated once, exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Optional

from tpcalc.algebra.form import Form, exact
from tpcalc.algebra.order import Exact, Order
from tpcalc.algebra.roots import Factor, power_product
from tpcalc.algebra.scales import Place, Point
from tpcalc.calculus.facts import Facts, roles
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.result import Parametrization, Rule
from tpcalc.derive.solve import Need, Solution
from tpcalc.errors import ScalingError
from tpcalc.lower.lowered import Leaf
from tpcalc.optimizers import Recipe, UpdateLaw, finite
from tpcalc.program.ir import Weight
from tpcalc.rules.structures import Contract
from tpcalc.scaling.fans import Fan, fan_of, powers, ratios
from tpcalc.scaling.initial import Initial

__all__ = ["CLIPPED_AS", "Derived", "Stretch", "block_init", "clip_orders", "derived", "numbers"]

#: The gauge whose global gradient norm multipliers clip by.
CLIPPED_AS = "mup"


@dataclass(frozen=True)
class Derived:
    """The rules of a model along one direction, with what stands behind them.

    ``clips``: x in "a gradient counts n^-x in the global norm", for each weight (:func:`clip_orders`).
    """

    solution: Solution
    how: Recipe
    rules: Parametrization
    clips: dict[str, Any]

    def blocks(self, name: str) -> Sequence[tuple[Leaf, Need]]:
        """The blocks of a weight, given by its first name, with their needs, in the order of the weight."""
        return self.solution.blocks_of(self._weights[name])

    @cached_property
    def _weights(self) -> dict[str, Weight]:
        return {weight.name: weight for weight in self.solution.lowered.program.weights}


def derived(solution: Solution, how: Recipe, rules: Parametrization) -> Derived:
    return Derived(solution, how, rules, clip_orders(solution, rules, parametrize(solution, how, CLIPPED_AS)))


def clip_orders(solution: Solution, rules: Parametrization, standard: Parametrization) -> dict[str, Any]:
    """x in "a gradient counts n^-x in the global norm", for each weight.

    The norm is measured as in the gauge of TP5, Table 8 (``standard``; a readout multiplied by 1/n in the forward pass,
    attention by 1/d, residual branches by L^-alpha), where no weight outgrows the others: the parameter there is
    ``n^theta`` times the one here with ``theta = a_standard - a``, its gradient ``n^-theta`` times.  What all of them
    have in common (a net without hidden layers: n^-1/2) is divided out, so that one threshold clips alike at all
    widths; not what they have of a depth, in which layers outside of all blocks have a part (CompleteP, Dey et al.
    2025, clips by the plain norm of that model).
    """
    norm = finite(standard.clipping.norm)
    if isinstance(norm, Form):
        scales = norm.compass.scales
        norm = norm.compass.form(0 if scale.depth else x for scale, x in zip(scales, norm.coordinates))
    found = {}
    for weight in solution.lowered.program.weights:
        rule = rules[weight.name]
        # a readout has its 1/n in the forward pass also where its other axis grows, of which outputs are picked
        a = rule.A if _is_picked(solution, weight) else standard[weight.name].a
        found[weight.name] = exact(Order(a) - rule.a + norm)
    return found


def _is_picked(solution: Solution, weight: Weight) -> bool:
    """Whether the outputs of a weight, however many there are, are looked at one by one (law 2)."""
    for _, need in solution.needs_of(weight)[:1]:
        use = need.demand.use
        if use is not None and isinstance(use.structure, Contract) and use.structure.K != 0:
            s = use.structure
            facts: Facts = solution.facts
            x_weight, _ = roles(s, facts[s.x], facts[s.y])
            return (s.rest_x if x_weight else s.rest_y) == 0
    return False


@dataclass(frozen=True)
class Stretch:
    """From ``base`` to ``target``, by the rules ``at_base`` and ``at_target``.

    They are the same, but where a formula of several scales has a kink in between: its number at each end is that of
    the cone in which the end lies.  ``sized``: both ends as places at which sizes are known; these do not depend on a
    depth, and are traced at another one.
    """

    base: Place
    target: Place
    sized: tuple[Place, Place]
    at_base: Derived
    at_target: Derived

    def fan(self, name: str) -> Fan:
        """That of a weight or a block."""
        return fan_of(self.at_target.solution, name, ratios(self.base, self.target), self.sized)

    def scales(self, order: Exact) -> list[Factor]:
        """The power ``order`` of the ratio of scales."""
        return powers(ratios(self.base, self.target), order)

    def bend(self, at_base: Exact, at_target: Exact) -> list[Factor]:
        """What a quantity of these powers at both ends has besides the second power of the ratio."""
        if not isinstance(self.base, Point) or self.at_base is self.at_target:
            return []
        found: list[Factor] = []
        for order, sign in ((at_target, 1), (at_base, -1)):
            exponents = order.coordinates if isinstance(order, Form) else ()
            found += [(Fraction(x), sign * power) for x, power in zip(self.base, exponents)]
        return found


@dataclass(frozen=True)
class _Fans:
    """The fans that bind a weight: its init, its update, and its size, that of the largest of its blocks."""

    init: Fan
    update: Fan
    size: Fan
    least: Order


def _fans(way: Stretch, found: Sequence[tuple[Leaf, Need]]) -> Optional[_Fans]:
    """From the blocks of a weight and their needs; None for a weight without a path to an output."""
    if not found:
        return None
    neediest = min(found, key=lambda pair: (-pair[1].A, -pair[1].C))
    fastest, largest = max(found, key=lambda pair: pair[1].C), min(found, key=lambda pair: pair[1].A)
    init, update, size = (leaf.name for leaf, _ in (neediest, fastest, largest))
    fans = {name: way.fan(name) for name in {init, update, size}}
    return _Fans(fans[init], fans[update], fans[size], largest[1].A)


def numbers(way: Stretch, name: str, law: Initial, shapes: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The multipliers of one weight (eps: None where its optimizer has none); ``shapes``: true ones at both ends."""
    rule, before = way.at_target.rules[name], way.at_base.rules[name]
    fans = _fans(way, way.at_target.blocks(rule.name))
    if fans is None:
        ones = dict.fromkeys(("init", "lr", "weight_decay", "eps", "clip", "forward"), 1.0)
        return {**ones, "eps": None if rule.eps is None else 1.0}
    lr = _update(way, rule, fans, way.at_target.how.by_name[rule.optimizer], shapes)
    inverse: list[Factor] = [(ratio, -exponent) for ratio, exponent in lr]
    decay = Order(rule.weight_decay)
    eps = None
    if rule.eps is not None:
        eps = power_product([*way.scales(rule.eps), *way.bend(before.eps or 0, rule.eps)])
    clip, clip_before = (derived.clips[rule.name] for derived in (way.at_target, way.at_base))
    return {
        "init": _init(way, rule.name, law, fans.init, (before.A, before.a), (rule.A, rule.a)),
        "lr": power_product([*lr, *way.bend(-before.c, -rule.c)]),
        "weight_decay": power_product(
            [*inverse, *way.scales(decay - rule.c), *way.bend(before.weight_decay, rule.weight_decay)]
        ),
        "eps": eps,
        "clip": power_product([*way.scales(-clip), *way.bend(-clip_before, -clip)]),
        "forward": power_product([*way.scales(-rule.a), *way.bend(-before.a, -rule.a)]),
    }


def _update(
    way: Stretch, rule: Rule, fans: _Fans, trained_by: UpdateLaw, shapes: Sequence[Sequence[int]]
) -> list[Factor]:
    """Factors of the learning rate."""
    lr = [*fans.update.update_factors(Order(rule.C))]
    if any(leaf.few > 0 for leaf, _ in way.at_target.blocks(rule.name)):  # how many move is known as a power alone
        return lr + way.scales(Order(rule.C) - rule.c)
    if trained_by.shape is not None:  # true lengths of the matrix
        base, target = (trained_by.shape(shape[0], math.prod(shape[1:])) for shape in shapes)
        lr += [(there / here, -exponent) for (here, exponent), (there, _) in zip(base, target, strict=True)]
        return lr + way.scales(trained_by.shift * Order(rule.a))
    if trained_by.relative:  # the size of the weight, in true lengths
        return lr + [(ratio, -exponent) for ratio, exponent in fans.size.init_factors(fans.least)]
    return lr + way.scales(Order(rule.C) - rule.c)


def block_init(way: Stretch, name: str, law: Initial, at_base: tuple[Any, Any], at_target: tuple[Any, Any]) -> float:
    """The init multiplier of a block; its effective init order and the multiplier of its weight at both ends."""
    return _init(way, name, law, way.fan(name), at_base, at_target)


def _init(
    way: Stretch, name: str, law: Initial, fan: Fan, at_base: tuple[Any, Any], at_target: tuple[Any, Any]
) -> float:
    """On the code's own init, of the parameter behind a multiplier ``n^-a``."""
    (A, a), (before, a_before) = map(_orders, (at_target, at_base))
    factors = [law.ratio, *fan.init_factors(A), *way.scales(a), *way.bend(a_before - before, a - A)]
    init = 1.0 if law.is_zero else power_product(factors)
    if not math.isfinite(init) or init <= 0:
        raise ScalingError(f"the init multiplier of {name} comes out as {init}; check its init at both ends")
    return init


def _orders(pair: tuple[Any, Any]) -> tuple[Order, Order]:
    return Order(pair[0]), Order(pair[1])
