"""Exponents in the width and in depths, told apart: those of the formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Optional

import tpcalc
from tests.support.once import once
from tpcalc.algebra.order import Order
from tpcalc.derive.several import ScaledParametrization
from tpcalc.lower.depth import Depth
from tpcalc.program.ir import Program
from tpcalc.trace.depth import trace_depths

WIDTHS = (16, 32, 64)

#: Of a weight: exponents in the width and in each depth, by the field of its rule.
Powers = dict[str, Optional[tuple[Fraction, ...]]]

_traced = once(lambda factory, scales, widths: trace_depths(factory, {"width": widths}, scales))


def traced(factory: Callable[..., Any], scales: Sequence[str] = ("depth",), widths: Sequence[int] = WIDTHS) -> Program:
    return _traced(factory, tuple(scales), tuple(widths))


def depth_of(program: Program, alpha: Any = 1) -> Depth:
    """The growths of a program's depths along its own compass."""
    assert program.compass is not None
    return Depth(program.compass.depths, Order(alpha))


def rules(
    program: Program, alpha: Any = 1, optimizer: str = "adamw", gauge: str = "init", alignment: str = "full"
) -> ScaledParametrization:
    return tpcalc.derive(program, optimizer, gauge=gauge, depth_alpha=alpha, alignment=alignment)


#: Field of a rule -> its formula, and the sign of its exponent in that.
FIELDS = {
    "a": ("multiplier", -1),
    "b": ("init_std", -1),
    "c": ("lr", -1),
    "A": ("effective_init", -1),
    "C": ("effective_update", -1),
    "eps": ("eps", 1),
    "weight_decay": ("weight_decay", 1),
    "gradient": ("of_gradient", 1),
}


def powers(program: Program, alpha: Any = 1, optimizer: str = "adamw", gauge: str = "init") -> dict[str, Powers]:
    """Weight -> its exponents, in the width and in each depth; each has to be a single product of powers."""
    found: dict[str, Powers] = {}
    for name, rule in rules(program, alpha, optimizer, gauge).items():
        found[name] = {}
        for field, (key, sign) in FIELDS.items():
            formula = rule.formulas[key]
            power = None if formula is None else formula.monomial
            assert formula is None or power is not None, f"{field} of {name}: {formula}"
            found[name][field] = None if power is None else tuple(sign * x for x in power.values())
    return found


def of_depth(found: Mapping[str, Powers], field: str, place: int = 1) -> dict[str, Fraction]:
    """Weight -> its exponent in one depth."""
    return {name: each[field][place] for name, each in found.items() if each[field] is not None}


__all__ = ["WIDTHS", "Powers", "depth_of", "of_depth", "powers", "rules", "traced"]
