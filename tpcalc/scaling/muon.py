"""Muon for hidden matrices, AdamW for the rest.

Muon's update of a matrix is orthogonal, of spectral norm 1, times a shape factor ``s``.  On aligned inputs it acts like
entries of order ``u = -(K+R)/2 + order(s)`` (``K``, ``R``: growths of fan-in and fan-out), so ``c = C + u``: 0 for a
square matrix under torch's ``original`` factor, 1/2 under ``match_rms_adamw``.  Its epsilon guards the Frobenius norm
of the gradient, of order ``g + (K+R)/2``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from tpcalc.optimizers import finite
from tpcalc.order import HALF, ZERO
from tpcalc.parametrization import Rule
from tpcalc.scaling.fans import Fan
from tpcalc.scaling.powers import Factor

#: Name of the optimizer -> square of torch.optim.Muon's shape factor, up to a constant, of a matrix [rows, columns].
SHAPE_FACTORS: dict[str, Callable[[int, int], Fraction]] = {
    "muon": lambda rows, columns: max(Fraction(1), Fraction(rows, columns)),
    "muon_match_rms_adamw": lambda rows, columns: Fraction(max(rows, columns)),
}


def takes(rule: Rule) -> bool:
    """torch.optim.Muon takes matrices only, and only those that grow on both sides need its law."""
    return rule.role == "hidden" and len(rule.shape) == 2 and all(size.growth > 0 for size in rule.shape)


def muon_rule(rule: Rule, fan: Fan, optimizer: str) -> Rule:
    """The exponents of ``rule`` (made for AdamW) under Muon."""
    rows, columns = (size.growth for size in rule.shape)
    s = max(ZERO, rows - columns) / 2 if optimizer == "muon" else max(rows, columns) / 2
    c = rule.C - (fan.K + fan.R) / 2 + s
    return replace(rule, c=c, weight_decay=c, eps=finite(rule.gradient) + (fan.K + fan.R) / 2)


def lr_factors(fan: Fan, C: Fraction, shapes: Sequence[tuple[int, int]], optimizer: str) -> list[Factor]:
    """Factors of the learning rate's ratio; ``shapes`` at base and at target."""
    s_base, s_target = (SHAPE_FACTORS[optimizer](*shape) for shape in shapes)
    area = Fraction(math.prod(shapes[1]), math.prod(shapes[0]))
    return [*fan.update_factors(C), (area, HALF), (s_target / s_base, -HALF)]
