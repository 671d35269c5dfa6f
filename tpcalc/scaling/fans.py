"""True sizes behind an exponent.

The calculus knows growths; a feed-forward dimension rounded up to a multiple of 256 has growth 1 and yet does not
double when the width does.  The laws of sums hold for the sizes themselves, so multipliers take the true ratio of
the contracted axes (and of the remaining ones, where the operator norm needs them) and leave to the width only what
comes from elsewhere: constants in the code, absorbed excess, other weights.  A mixed size (``n/16 + 32``) likewise
counts with its true lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tpcalc.algebra.order import HALF, ONE, ZERO, Order, max_order
from tpcalc.algebra.roots import Factor
from tpcalc.calculus.facts import Facts, on_change, roles, spread
from tpcalc.derive.solve import Solution
from tpcalc.rules.structures import Contract, Powers


@dataclass(frozen=True)
class Ratios:
    """Ratios target : base: of the width, of the contracted axes of a weight's binding use, of its other axes."""

    width: Fraction
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
        return [(self.ratios.fan_in, -fan_in), (self.ratios.fan_out, -fan_out), (self.ratios.width, -rest)]

    def update_factors(self, C: Order) -> list[Factor]:
        """Factors of the wanted ratio of an update's entries, ``n^-C`` in true sizes."""
        if self.K == 0:
            return [(self.ratios.width, -C)]
        return [(self.ratios.fan_in, -ONE), (self.ratios.width, -(C - self.K))]


def fan_of(solution: Solution, name: str, base: int, target: int) -> Fan:
    """The fan of the weight or block ``name``; without a contraction that grows, everything is left to the width."""
    width = Fraction(target, base)
    plain = Fan(Ratios(width, Fraction(1), Fraction(1)), ZERO, ZERO, (ZERO, ZERO))
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
    fan_in, fan_out = (_ratio(sizes, base, target) for sizes in (s.sizes.summed, rest))
    return Fan(Ratios(width, fan_in, fan_out), s.K, R, _exponents(solution, s, x_weight, R))


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
    step = abs(s.K - R) / 2 or ONE
    of_rest = (on_change(solution.alignment, s.K, R + step, weight) - moves) / step
    return (moves - of_rest * R) / s.K, of_rest


def _ratio(sizes: Powers, base: int, target: int) -> Fraction:
    ratio = Fraction(1)
    for size, power in sizes:
        ratio *= Fraction(size.at(target), size.at(base)) ** power
    return ratio
