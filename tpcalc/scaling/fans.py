"""True sizes behind an exponent.

The calculus knows growths; a feed-forward dimension rounded up to a multiple of 256 has growth 1 and yet does not
double when the width does.  The laws of sums hold for the sizes themselves, so multipliers take the true ratio of
the contracted axes (and of the remaining ones, where the operator norm needs them) and leave to the width only what
comes from elsewhere: constants in the code, absorbed excess, other weights.  A mixed size (``n/16 + 32``) likewise
counts with its true lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional

from tpcalc.algebra.order import ONE, ZERO, max_order
from tpcalc.algebra.roots import Factor
from tpcalc.algebra.size import Size
from tpcalc.calculus.facts import roles
from tpcalc.derive.solve import Solution
from tpcalc.program.ir import Node, Program, Ref
from tpcalc.rules.structures import Contract


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
    K: Fraction
    R: Fraction
    init: tuple[Fraction, Fraction]

    def init_factors(self, A: Fraction) -> list[Factor]:
        """Factors of the wanted ratio of init std, ``n^-A`` in true sizes."""
        fan_in, fan_out = self.init
        rest = A - fan_in * self.K - fan_out * self.R
        return [(self.ratios.fan_in, -fan_in), (self.ratios.fan_out, -fan_out), (self.ratios.width, -rest)]

    def update_factors(self, C: Fraction) -> list[Factor]:
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
    x_weight, _ = roles(s, solution.facts[s.x], solution.facts[s.y])
    sizes = _sizes(solution.lowered.program, solution.lowered.node(use), x_weight)
    R = s.rest_x if x_weight else s.rest_y
    if sizes is None:
        return plain
    leaf = next(leaf for leaf in solution.lowered.leaves if leaf.name == name)
    if leaf.dim is not None:
        _cut(sizes, leaf.weight.shape[leaf.dim], leaf.length)
    fan_in, fan_out = (_ratio(part, base, target) for part in sizes)
    return Fan(Ratios(width, fan_in, fan_out), *_shares(solution, s, x_weight, R))


def _shares(solution: Solution, s: Contract, x_weight: bool, R: Fraction) -> tuple:
    """(K, R, exponents in A): 1/2 of the fan-in, or the operator norm's fan_in / sqrt(fan_out)."""
    weight, value = (s.x, s.y) if x_weight else (s.y, s.x)
    fact = solution.facts[value]
    on_change = solution.alignment.initial_on_change(s.K, R)
    spread = on_change if solution.facts[weight].weight & fact.depends else s.K / 2
    aligned = max_order(spread + fact.init, on_change + fact.change) == on_change + fact.change
    law = on_change if aligned else spread
    half = Fraction(1, 2)
    if law == s.K / 2:
        return s.K, R, (half, ZERO)
    if law == s.K - R / 2:
        return s.K, R, (ONE, -half)
    return s.K, R, (law / s.K, ZERO)


def _ratio(sizes: "Sequence[tuple[Size, int]]", base: int, target: int) -> Fraction:
    ratio = Fraction(1)
    for size, power in sizes:
        ratio *= Fraction(size.at(target), size.at(base)) ** power
    return ratio


#: Places of the two operands of a matrix product among the arguments of an op.
_OPERANDS = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot", "inner", "matmul", "_grouped_mm", "_scaled_grouped_mm"), (0, 1)),
    **dict.fromkeys(("addmm", "addmv", "baddbmm", "_addmm_activation"), (1, 2)),
}


def _sizes(program: Program, node: Node, x_weight: bool) -> Optional[tuple[list, list]]:
    """(contracted axes, remaining axes) of the weight in ``node``, each ``(size, +1 or -1)``; None for another op."""
    op = node.short_op

    def shape(index: int) -> tuple[Size, ...]:
        ref = node.args[index]
        return program.values[ref.id].shape if isinstance(ref, Ref) else ()

    if op in _OPERANDS:
        x, y = (shape(index) for index in _OPERANDS[op])
        rest = x[-2:-1] if x_weight else y[-1:] if len(y) > 1 else ()
        return [(x[-1], 1)], [(size, 1) for size in rest]
    if op == "linear":
        weight = shape(1)
        return [(weight[-1], 1)], [(size, 1) for size in weight[:-1][:1]]
    if op in ("convolution", "_convolution"):
        out, within, *kernel = shape(1)
        groups = _group_sizes(node.args[8])
        if node.args[6]:  # transposed: [in, out / groups, *kernel]
            return [(out, 1), *groups, *((size, 1) for size in kernel)], [(within, 1)]
        return [(within, 1), *((size, 1) for size in kernel)], [(out, 1), *groups]
    return None


def _cut(sizes: tuple[list, list], whole: Size, length: Size) -> None:
    """Of an axis that holds several blocks only ``length`` counts; the remaining axes come first."""
    for axes in reversed(sizes):
        if (whole, 1) in axes:
            axes[axes.index((whole, 1))] = (length, 1)
            return


def _group_sizes(groups: Any) -> list[tuple[Size, int]]:
    if isinstance(groups, Size):
        return [(groups, -1)]
    return [(Size.constant(int(groups)), -1)] if isinstance(groups, (int, float)) and groups else []
