"""True sizes behind an exponent.

The calculus knows growths; a feed-forward dimension rounded up to a multiple of 256 has growth 1 and yet does not
double when the width does.  The laws of sums hold for the sizes themselves, so multipliers take the true ratio of
the contracted axes (and of the remaining ones, where the operator norm needs them) and leave to the scales only what
comes from elsewhere: constants in the code, absorbed excess, other weights.  A mixed size (``n/16 + 32``) likewise
counts with its true lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tpcalc.algebra.form import Form, quotient
from tpcalc.algebra.order import HALF, ONE, ZERO, Exact, Order, max_order
from tpcalc.algebra.roots import Factor
from tpcalc.algebra.scales import Place, Point
from tpcalc.calculus.facts import Facts, on_change, roles, spread
from tpcalc.derive.solve import Solution
from tpcalc.rules.structures import Contract, Powers


def powers(ratios: Sequence[Fraction], order: Exact) -> list[Factor]:
    """The power ``order`` of the width's ratio; of several scales, of each one's."""
    exponents = order.coordinates if isinstance(order, Form) else [order]
    return list(zip(ratios, exponents))


def ratios(base: Place, target: Place) -> tuple[Fraction, ...]:
    """Target over base, of each scale."""
    here, there = ((place if isinstance(place, Point) else (place,)) for place in (base, target))
    return tuple(Fraction(y, x) for x, y in zip(here, there))


@dataclass(frozen=True)
class Ratios:
    """Ratios target : base: of each scale, of the contracted axes of a weight's binding use, of its other axes."""

    scales: tuple[Fraction, ...]
    fan_in: Fraction
    fan_out: Fraction


@dataclass(frozen=True)
class Fan:
    """The law of sums at the use that binds a weight, contracted growth ``K``, remaining growth ``R``.

    ``init``: the exponents of fan-in and fan-out in the init order.  The update order has 1 of the fan-in.
    """

    ratios: Ratios
    K: Order
    R: Order
    init: tuple[Order, Order]

    def init_factors(self, A: Order) -> list[Factor]:
        """Factors of the wanted ratio of init std, ``n^-A`` in true sizes."""
        fan_in, fan_out = self.init
        rest = A - fan_in * self.K - fan_out * self.R
        own = [(self.ratios.fan_in, -fan_in), (self.ratios.fan_out, -fan_out)]
        return own + powers(self.ratios.scales, -rest)

    def update_factors(self, C: Order) -> list[Factor]:
        """Factors of the wanted ratio of an update's entries, ``n^-C`` in true sizes."""
        if self.K == 0:
            return powers(self.ratios.scales, -C)
        return [(self.ratios.fan_in, -ONE), *powers(self.ratios.scales, -(C - self.K))]


def fan_of(solution: Solution, name: str, scales: tuple[Fraction, ...], ends: tuple[Place, Place]) -> Fan:
    """The fan of the weight or block ``name`` whose scales grow so; sizes are those at both ``ends``.

    Without a contraction that grows, everything is left to the scales.
    """
    plain = Fan(Ratios(scales, Fraction(1), Fraction(1)), ZERO, ZERO, (ZERO, ZERO))
    need = solution.needs.get(name)
    use = need.demand.use if need is not None else None
    if use is None or not isinstance(use.structure, Contract) or use.structure.K == 0:
        return plain
    s = use.structure
    if s.sizes is None:
        return plain
    facts: Facts = solution.facts
    x_weight, _ = roles(s, facts[s.x], facts[s.y])
    R, rest = (s.rest_x, s.sizes.rest_x) if x_weight else (s.rest_y, s.sizes.rest_y)
    fan_in, fan_out = (_ratio(sizes, *ends) for sizes in (s.sizes.summed, rest))
    return Fan(Ratios(scales, fan_in, fan_out), s.K, R, _exponents(solution, s, x_weight, R))


def _exponents(solution: Solution, s: Contract, x_weight: bool, R: Order) -> tuple[Order, Order]:
    """Those of fan-in and fan-out in the law that binds: 1/2 of the fan-in (law 1), or what law 2 says."""
    facts: Facts = solution.facts
    weight, fact = (facts[vid] for vid in ((s.x, s.y) if x_weight else (s.y, s.x)))
    moves = on_change(solution.alignment, s.K, R, weight)
    grows = spread(solution.alignment, s.K, R, weight, fact)
    aligned = max_order(grows + fact.init, moves + fact.change) == moves + fact.change
    if (moves if aligned else grows) == s.K / 2:
        return HALF, ZERO
    # the law is linear in K and R around here, and has no constant
    step = abs(s.K - R) / 2 or s.K
    try:
        of_rest = quotient(on_change(solution.alignment, s.K, R + step, weight) - moves, step)
        return quotient(moves - of_rest * R, s.K), of_rest
    except ArithmeticError:  # of several scales, some of which enter another way: all is left to them
        return ZERO, ZERO


def _ratio(sizes: Powers, base: Place, target: Place) -> Fraction:
    ratio = Fraction(1)
    for size, power in sizes:
        ratio *= Fraction(size.at(target), size.at(base)) ** power
    return ratio
