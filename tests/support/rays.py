"""Exponents in the width and in depths, told apart: derived along several rays, on which a depth is a power of the
width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Optional

from tests.support.once import once
from tpcalc.algebra.order import Order
from tpcalc.derive.parametrize import parametrize
from tpcalc.derive.result import Parametrization
from tpcalc.derive.solve import solve
from tpcalc.lower.depth import Depth
from tpcalc.program.ir import Program
from tpcalc.trace.depth import trace_depths

WIDTHS = (16, 32, 64)
#: Growths of the first depth: two tell its exponent from that of the width, a third refutes what is not linear.
RAYS = (Fraction(1, 7), Fraction(1, 11), Fraction(1, 5))

#: Of a weight: exponents in the width and in each depth, by the field of its rule.
Powers = dict[str, Optional[tuple[Fraction, ...]]]

_traced = once(trace_depths)


def traced(factory: Callable[..., Any], scales: Sequence[str] = ("depth",), widths: Sequence[int] = WIDTHS) -> Program:
    return _traced(factory, tuple(widths), tuple(scales))


def rules(program: Program, growths: Mapping[str, Fraction], alpha: Any, optimizer: str, gauge: str) -> Parametrization:
    depth = Depth({scale: Order(growth) for scale, growth in growths.items()}, Order(alpha))
    return parametrize(solve(program, depth=depth), optimizer, gauge)


def powers(
    program: Program,
    alpha: Any = 1,
    optimizer: str = "adamw",
    gauge: str = "init",
    scales: Sequence[str] = ("depth",),
) -> dict[str, Powers]:
    """Weight -> its exponents; raises AssertionError where they are not linear in the growth of a depth."""
    base = {scale: Fraction(1, 13 + 4 * place) for place, scale in enumerate(scales)}
    at = rules(program, base, alpha, optimizer, gauge)
    along = {scale: [rules(program, {**base, scale: ray}, alpha, optimizer, gauge) for ray in RAYS] for scale in scales}

    def apart(name: str, field: str) -> Optional[tuple[Fraction, ...]]:
        value = getattr(at[name], field)
        if value is None:
            return None
        start, found = Fraction(value), []
        for scale in scales:
            steps = {
                (Fraction(getattr(each[name], field)) - start) / (ray - base[scale])
                for ray, each in zip(RAYS, along[scale])
            }
            assert len(steps) == 1, f"{field} of {name} is not linear in the growth of {scale}: {steps}"
            found.append(steps.pop())
        return (start - sum(x * base[scale] for x, scale in zip(found, scales)), *found)

    fields = ("a", "b", "A", "C", "c", "eps", "weight_decay", "gradient")
    return {name: {field: apart(name, field) for field in fields} for name in at}


def of_depth(found: Mapping[str, Powers], field: str, place: int = 1) -> dict[str, Fraction]:
    """Weight -> its exponent in one depth."""
    return {name: each[field][place] for name, each in found.items() if each[field] is not None}


__all__ = ["RAYS", "WIDTHS", "Powers", "of_depth", "powers", "rules", "traced"]
